"""A PostgreSQL server of the tests' own: in a folder of its own, on a Unix socket, started and stopped at will.

It sorts text as people do (ICU, English), so that what relies on the order of code points must say so, and it
leaves out the fsync: a test ends processes, never the power.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine, make_url, text

PATIENCE_S = 60.0
_CHEAP = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-c", "max_connections=50")


class NoPostgres(Exception):
    """There is no PostgreSQL on this machine: run .ci/services, or set BALANCE_TEST_POSTGRES to a server's URL."""


class Databases(Protocol):
    """Where tests get databases."""

    def new_database(self) -> str:
        """Return the URL of a database that nobody has used."""
        ...


class GivenServer:
    """A server that runs already; what is made on it is dropped by `remove`.

    Parameters
    ----------
    url : str
        Of any of its databases, with a user who may create others.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._made: list[str] = []

    def _execute(self, statement: str) -> None:
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def new_database(self) -> str:
        """Return the URL of a database that nobody has used."""
        name = f"balance_test_{os.getpid()}_{len(self._made)}"
        self._execute(f"CREATE DATABASE {name}")
        self._made.append(name)
        return self._url.set(database=name).render_as_string(hide_password=False)

    def remove(self) -> None:
        """Drop what was made."""
        for name in self._made:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")


class PostgresServer:
    """One server; `NoPostgres` if its programs can't be found.

    Attributes
    ----------
    folder : Path
        Its data and its socket.
    """

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        beside = shutil.which("initdb")
        if not found and beside is None:
            raise NoPostgres(NoPostgres.__doc__)
        self._programs = found[-1].parent if found else Path(str(beside)).parent
        self.folder = Path(tempfile.mkdtemp(prefix="bal-pg-", dir="/tmp"))  # short: socket paths end at 107 bytes
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            self._user = next(name for name in ("postgres", "nobody") if _exists(name))
            shutil.chown(self.folder, self._user)
        else:
            self._user = ""
        try:
            self._run("initdb", "-D", f"{self.folder}/data", "-U", "balance", "--auth=trust", "--no-sync", "-E", "UTF8",
                      "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")  # fmt: skip
        except BaseException:
            self.remove()
            raise

    def _as_user(self, program: str, arguments: Sequence[str]) -> list[str]:
        drop = ["setpriv", f"--reuid={self._user}", "--clear-groups", "--inh-caps=-all"] if self._user else []
        return [*drop, str(self._programs / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(self._as_user(program, arguments), capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, f"{program} failed: {done.stderr}"

    def start(self) -> int:
        """Start it and return its process id when it answers."""
        arguments = ["-D", f"{self.folder}/data", "-k", str(self.folder), "-c", "listen_addresses=", *_CHEAP]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._as_user("postgres", arguments), stdout=log, stderr=log, cwd="/")
        until = time.monotonic() + PATIENCE_S
        ask = self._as_user("pg_isready", ["-q", "-h", str(self.folder)])
        while subprocess.run(ask, check=False, cwd="/").returncode != 0:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "PostgreSQL does not answer"
            time.sleep(0.05)
        return self._process.pid

    def stop(self, *, at_once: bool = False) -> None:
        """End it, at once as by a crash or after it has ended its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(PATIENCE_S)
            self._process = None

    def remove(self) -> None:
        """Stop it and leave nothing of it."""
        self.stop(at_once=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """Return the URL of a database that nobody has used."""
        name = f"test{next(self._numbers)}"
        self._run("createdb", "-h", str(self.folder), "-U", "balance", name)
        return f"postgresql+psycopg://balance@/{name}?host={self.folder}"


def _exists(user: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False
