"""A real Kafka for the tests: one broker in KRaft mode, from Apache Kafka's published jars.

Maven resolves the jars that ``kafka/pom.xml`` pins, once; they lie in its own repository (``~/.m2``).  The broker
listens on loopback, on free ports, and keeps its data in a folder of the test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

POM = Path(__file__).with_name("kafka") / "pom.xml"
START_S = 60.0
STOP_S = 30.0
LOOK_EVERY_S = 0.05
#: Who may come to a secured broker.
USER, PASSWORD = "balance", "of-these-tests"
#: A small heap, and the quick compiler only: it starts in three seconds and is fast enough to test with.
JAVA = ("java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class NoKafka(Exception):
    """There is none, and the message says how to get one."""


def classpath() -> str:
    """Return the jars as Java wants them; resolved by Maven the first time, from a file next to the jars afterwards.

    Raises
    ------
    NoKafka
        Java or Maven is missing, or the jars could not be had.
    """
    advice = "set BALANCE_TEST_KAFKA=host:port, or run .ci/services (needs Java 17 and Maven)"
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise NoKafka(f"there is no {tool!r}; {advice}")
    key = hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "balance" / f"kafka-{key}.classpath"
    if not found.is_file() or not all(map(os.path.exists, found.read_text().split(os.pathsep))):
        found.parent.mkdir(parents=True, exist_ok=True)
        fresh = found.with_suffix(f".{os.getpid()}")
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:build-classpath", f"-Dmdep.outputFile={fresh}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not fresh.is_file():
            raise NoKafka(f"Maven could not resolve the jars; {advice}\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
        fresh.replace(found)
    return found.read_text().strip()


class KafkaServer:
    """One broker; `start`, `stop` and `kill` as often as wished, its data and its port stay.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    secured : bool
        Whether clients come by TLS and say who they are (SASL): `USER` with `PASSWORD`, and the broker's certificate
        is to be trusted by its file `certificate`.  Without it neither is asked for.
    """

    def __init__(self, folder: Path, secured: bool = False) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port, controller, own = _free_port(), _free_port(), _free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.certificate = folder / "broker.pem"
        self._java = (*JAVA, "-cp", classpath())
        self._properties = folder / "server.properties"
        self._properties.write_text(
            "process.roles=broker,controller\n"
            "node.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=CLIENT://{self.address},OWN://127.0.0.1:{own},CONTROLLER://127.0.0.1:{controller}\n"
            "listener.security.protocol.map=OWN:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            f"CLIENT:{'SASL_SSL' if secured else 'PLAINTEXT'}\n"
            "inter.broker.listener.name=OWN\n"
            "controller.listener.names=CONTROLLER\n"
            f"log.dirs={folder / 'data'}\n"
            "auto.create.topics.enable=false\n"
            "group.initial.rebalance.delay.ms=0\n"
            "offsets.topic.replication.factor=1\n"
            "offsets.topic.num.partitions=4\n"
            "transaction.state.log.replication.factor=1\n"
            "transaction.state.log.min.isr=1\n"
            "transaction.state.log.num.partitions=4\n" + (self._secrets() if secured else "")
        )
        self._run_tool("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self._properties))

    def _secrets(self) -> str:
        """Make a key and a certificate of the broker's own, and return the properties that put them and SASL to use."""
        store = self._folder / "keys.p12"
        key = ("-keystore", str(store), "-storepass", PASSWORD, "-alias", "broker")
        about = ("-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", "-validity", "2")
        for command in (
            ("-genkeypair", *key, "-storetype", "PKCS12", "-keyalg", "EC", *about),
            ("-exportcert", *key, "-rfc", "-file", str(self.certificate)),
        ):
            subprocess.run(["keytool", *command], check=True, capture_output=True)
        login = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return (
            f"ssl.keystore.location={store}\n"
            "ssl.keystore.type=PKCS12\n"
            f"ssl.keystore.password={PASSWORD}\n"
            "listener.name.client.sasl.enabled.mechanisms=PLAIN\n"
            f'listener.name.client.plain.sasl.jaas.config={login} required user_{USER}="{PASSWORD}";\n'
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        tie = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()  # it never outlives the tests
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*tie, *self._java, "kafka.Kafka", str(self._properties)], stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError("Kafka did not start:\n" + (self._folder / "log").read_text()[-4_000:])
            time.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        """Shut it down in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power failure would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _run_tool(self, *command: str) -> None:
        subprocess.run([*self._java, *command], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def short_folder() -> Path:
    """Return a new folder for a broker's data, outside the repository."""
    return Path(tempfile.mkdtemp(prefix="balance-kafka-"))
