"""Start, find, drain and stop Balance on a Ray cluster.

A local cluster belongs to one *host* process: it calls ``ray.init`` and owns every process of Ray, so
that whatever ends the host (a signal, a crash, ``kill -9``) ends them all.  ``balance up`` without
``--block`` starts such a host in the background; `Record` is the note by which others find it.
On a cluster that exists already (``--address``) Balance only adds its detached actors.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from actors import NAMESPACE
from actors.roles import ROLES
from balance import __version__
from balance.clock import iso
from balance.config import Settings
from balance.errors import BalanceError, ClusterError, ConfigurationError

RAY_VERSIONS = (2, 60)
"""The Ray release (major, minor) that this Balance is built and tested with."""

LOOPBACK = "127.0.0.2"
"""The address of a local cluster.  Ray takes 127.0.0.1 for "not told" and uses the machine's public address."""

START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Record:
    """How to reach a running Balance; kept as ``cluster.json`` in the state directory.

    Attributes
    ----------
    address : str
        Ray's address.
    dashboard_url : str
        Where Ray's dashboard is; empty if it does not run.
    host_pid, host_created : int, float
        The host process and when it was created, so that a recycled pid is not taken for it; 0 where
        Balance was attached to a cluster that it does not own.
    started_at : str
        ISO 8601.
    version : str
        Of Balance.
    actors : list of dict
        What each actor answered when Balance came up.
    processes : list of (int, float)
        Pid and time of creation of every process of the cluster that the host owns: two of Ray's agents
        outlive a host that was killed by a minute.
    """

    address: str
    dashboard_url: str
    host_pid: int
    host_created: float
    started_at: str
    version: str
    actors: list[dict[str, Any]]
    processes: list[tuple[int, float]]

    @property
    def owned(self) -> bool:
        """Whether a host process of ours owns the cluster."""
        return self.host_pid > 0

    def alive(self) -> bool:
        """Say whether the host process still runs (always true of a cluster that is not ours)."""
        if not self.owned:
            return True
        with contextlib.suppress(psutil.Error):
            host = psutil.Process(self.host_pid)
            return abs(host.create_time() - self.host_created) < 1.0 and host.status() != psutil.STATUS_ZOMBIE
        return False


def _record_path(settings: Settings) -> Path:
    return Path(settings.state_dir) / "cluster.json"


def read_record(settings: Settings) -> Record | None:
    """Return the note of the Balance that runs on this state directory; None if there is none."""
    path = _record_path(settings)
    try:
        record = Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        path.unlink(missing_ok=True)
        return None
    if record.alive():
        return record
    end_processes(record)
    path.unlink(missing_ok=True)
    return None


def end_processes(record: Record) -> None:
    """End what is left of the processes of a cluster whose host is gone."""
    left = []
    for pid, created in record.processes:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 1.0:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=10)


def write_record(settings: Settings, record: Record) -> None:
    """Leave the note, atomically."""
    path = _record_path(settings)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(record), indent=1))
    draft.replace(path)


@contextlib.contextmanager
def host_lock(settings: Settings) -> Iterator[bool]:
    """Hold the right to be the one host on this state directory; yields whether it was free."""
    path = settings.writable_state_dir() / "host.lock"
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def check_ray_version(version: str) -> None:
    """Raise `ClusterError` if Balance is not made for this Ray.

    Examples
    --------
    >>> check_ray_version("2.60.0")
    >>> check_ray_version("2.9.3")
    Traceback (most recent call last):
    balance.errors.ClusterError: Ray 2.9.3 is installed; ... needs Ray 2.60: install it with 'uv sync'...
    """
    parts = version.split(".")
    if tuple(int(part) if part.isdigit() else -1 for part in parts[:2]) != RAY_VERSIONS:
        wanted = ".".join(map(str, RAY_VERSIONS))
        raise ClusterError(
            f"Ray {version} is installed; Balance {__version__} needs Ray {wanted}: install it with 'uv sync', "
            f"or 'pip install \"ray[default]=={wanted}.*\"' on every node",
            found=version,
            wanted=wanted,
        )


def check_port_free(port: int, what: str) -> None:
    """Raise `ClusterError` if somebody listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ClusterError(
                f"port {port} for {what} can't be used ({error.strerror}); name another one, or 0 to let Ray choose",
                port=port,
            ) from None


def _quiet_ray() -> Any:
    logging.getLogger("ray").setLevel(logging.ERROR)
    import ray  # noqa: PLC0415 (Ray costs half a second; only those who start or reach a cluster pay it)

    check_ray_version(ray.__version__)
    return ray


class System:
    """Balance on a cluster that this process is connected to.

    Build one with `launch` (own a local cluster) or `attach` (join one that runs).
    """

    def __init__(self, settings: Settings, record: Record) -> None:
        self.settings = settings
        self.record = record

    @classmethod
    def launch(
        cls,
        settings: Settings,
        *,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        dashboard: bool = True,
        dashboard_port: int = 0,
    ) -> System:
        """Start a local Ray that this process owns, bound to loopback, and every actor on it.

        Raises
        ------
        ClusterError
            Ray did not start, or an actor did not; nothing is left running then.
        ConfigurationError
            The state directory can't be written.
        """
        settings.writable_state_dir()
        if dashboard and dashboard_port:
            check_port_free(dashboard_port, "Ray's dashboard")
        ray = _quiet_ray()
        extra: dict[str, Any] = {"dashboard_port": dashboard_port} if dashboard_port else {}
        try:
            context = ray.init(
                "local",
                namespace=NAMESPACE,
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                _node_ip_address=LOOPBACK,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **extra,
            )
        except BaseException as error:
            ray.shutdown()
            if isinstance(error, Exception):
                raise ClusterError(f"Ray did not start: {error}") from error
            raise
        me = psutil.Process()
        url = f"http://{context.dashboard_url}" if context.dashboard_url else ""
        record = Record(
            ray.get_runtime_context().gcs_address, url, me.pid, me.create_time(), iso(time.time()), __version__, [], []
        )
        system = cls(settings, record)
        try:
            return system._with_actors()
        except BaseException:
            system.stop(drain_s=0)
            raise

    @classmethod
    def attach(cls, settings: Settings, address: str, *, start_actors: bool = False) -> System:
        """Connect to the Ray at `address`; with `start_actors`, start what is not there yet.

        Raises
        ------
        ClusterError
            Nothing answers there, its Ray is another version, or Balance does not run on it.
        """
        ours = read_record(settings)
        if ours is not None and ours.owned and address in ("auto", ours.address):
            # Our own clusters ask for Ray's token; Ray sends it unasked only where it looks for a cluster itself.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        ray = _quiet_ray()
        try:
            context = ray.init(
                address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True
            )
        except Exception as error:
            raise ClusterError(
                f"no Ray cluster answers at {address!r} ({error}); start one with 'balance up' or 'ray start --head', "
                "or name another with --address",
                address=address,
            ) from error
        known = ours
        gcs = ray.get_runtime_context().gcs_address
        if known is None or known.address != gcs:
            url = f"http://{context.dashboard_url}" if context.dashboard_url else ""
            known = Record(gcs, url, 0, 0.0, iso(time.time()), __version__, [], [])
        system = cls(settings, known)
        return system._with_actors() if start_actors else system

    def _with_actors(self) -> System:
        answers = start_actors(self.settings)
        processes = []
        for child in psutil.Process().children(recursive=True) if self.record.owned else ():
            with contextlib.suppress(psutil.Error):
                processes.append((child.pid, child.create_time()))
        self.record = replace(self.record, actors=answers, processes=processes)
        write_record(self.settings, self.record)
        return self

    def stop(self, *, drain_s: float) -> None:
        """Drain for at most `drain_s` seconds, then end every actor, reservation and, if owned, Ray."""
        import ray  # noqa: PLC0415

        if ray.is_initialized():
            with contextlib.suppress(Exception):
                stop_actors(drain_s)
            ray.shutdown()
        _record_path(self.settings).unlink(missing_ok=True)


def _options(role_name: str, node_id: str) -> dict[str, Any]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    return {
        "name": role_name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_concurrency": 10_000,
        "get_if_exists": True,
        # Durable state is a file of this node until the store and the broker have URLs of their own.
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
    }


def start_actors(settings: Settings) -> list[dict[str, Any]]:
    """Start every actor that does not run yet and wait until each has answered.

    Returns
    -------
    list of dict
        Each actor's `ping`, in the order of `ROLES`.
    """
    import ray  # noqa: PLC0415

    from actors.base import encode  # noqa: PLC0415

    node_id = ray.get_runtime_context().get_node_id()
    given = encode(settings)
    handles = [ray.remote(role.load()).options(**_options(role.name, node_id)).remote(given) for role in ROLES]
    try:
        answers: list[dict[str, Any]] = ray.get([handle.ping.remote() for handle in handles], timeout=START_TIMEOUT_S)
    except BalanceError:
        raise
    except Exception as error:
        raise ClusterError(f"an actor did not start: {error}; its log is in Ray's session directory") from error
    return answers


def find_actors() -> dict[str, Any]:
    """Return the handles of the actors that exist, by name."""
    import ray  # noqa: PLC0415

    found: dict[str, Any] = {}
    for role in ROLES:
        with contextlib.suppress(ValueError):
            found[role.name] = ray.get_actor(role.name, namespace=NAMESPACE)
    return found


def stop_actors(drain_s: float) -> None:
    """Drain the work, close every actor so that its state is durable, and end them all."""
    import ray  # noqa: PLC0415
    from ray.util import list_named_actors, placement_group_table, remove_placement_group  # noqa: PLC0415
    from ray.util.placement_group import get_placement_group  # noqa: PLC0415

    found = find_actors()
    if drain_s > 0 and "scheduler" in found:
        with contextlib.suppress(Exception):
            ray.get(found["scheduler"].drain.remote(drain_s), timeout=drain_s + 5)
    for role in reversed(ROLES):
        if role.name in found:
            with contextlib.suppress(Exception):
                ray.get(found[role.name].close.remote(), timeout=5)
    for entry in list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE:
            with contextlib.suppress(Exception):
                ray.kill(ray.get_actor(entry["name"], namespace=NAMESPACE), no_restart=True)
    for group in placement_group_table().values():
        name = str(group.get("name", ""))
        if name.startswith("balance:") and group.get("state") != "REMOVED":
            with contextlib.suppress(Exception):
                remove_placement_group(get_placement_group(name))


def running(settings: Settings, address: str | None = None) -> System:
    """Connect to the Balance that runs on this state directory, or at `address`.

    Raises
    ------
    ClusterError
        None runs there.
    """
    record = read_record(settings)
    where = address or os.environ.get("RAY_ADDRESS") or (record.address if record else None)
    if where is None:
        raise ClusterError("Balance does not run here; start it with 'balance up'", state_dir=settings.state_dir)
    system = System.attach(settings, where)
    if not find_actors():
        raise ClusterError(
            f"Balance does not run on the Ray cluster at {where!r}; start it with 'balance up --address {where}'"
        )
    return system


def end_host(record: Record, *, timeout_s: float) -> None:
    """Ask the host process to drain and end; after `timeout_s` seconds, end it by force."""
    try:
        host = psutil.Process(record.host_pid)
        host.send_signal(signal.SIGTERM)
        try:
            host.wait(timeout_s)
        except psutil.TimeoutExpired:
            family = [host, *host.children(recursive=True)]
            for member in family:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            psutil.wait_procs(family, timeout=10)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise ConfigurationError(
            f"process {record.host_pid} belongs to another user; run 'balance down' as the one who started it"
        ) from None
    end_processes(record)
