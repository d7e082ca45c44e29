"""Start, join, drain and end Balance on a Ray cluster.

A local cluster belongs to one *host* process: it calls ``ray.init`` and owns every process of Ray, so
that whatever ends the host (a signal, a crash, ``kill -9``) ends them all (see `actors.host`).
On a cluster that exists already (``--address``) Balance only adds its detached actors.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from dataclasses import replace
from typing import Any

from actors import NAMESPACE, processes
from actors.checks import check_port_free, check_ray_version, reachable, refusal, send_token
from actors.record import Record, forget_record, read_record, write_record
from actors.roles import ROLES
from balance.config import Settings
from balance.errors import BalanceError, ClusterError

LOOPBACK = "127.0.0.2"
"""The address of a local cluster.  Ray takes 127.0.0.1 for "not told" and uses the machine's public address."""

START_TIMEOUT_S = 120.0

PROCESSES_AT_A_TIME = 6
"""How many worker processes Ray may start at a time, at least."""

CONNECT_ATTEMPTS = "3"
"""How often, a second apart, Ray tries to reach a cluster before it gives up; its own default is 20."""


def _load_ray() -> Any:
    logging.getLogger("ray").setLevel(logging.ERROR)
    import ray  # noqa: PLC0415 (Ray costs half a second; only those who start or reach a cluster pay it)

    check_ray_version(ray.__version__)
    if not isinstance(sys.stdout, processes.WithoutRay):
        sys.stdout = processes.WithoutRay(sys.stdout)
    return ray


class System:
    """Balance on a cluster that this process is connected to.

    Build one with `launch` (own a local cluster) or `attach` (join one that runs).

    Attributes
    ----------
    settings : Settings
        Their state directory is this Balance's.
    record : Record
        How others find it.
    found : bool
        Whether its actors ran already.
    """

    def __init__(self, settings: Settings, record: Record) -> None:
        self.settings = settings
        self.record = record
        self.found = True

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
        system = cls(settings, Record.of_host())
        try:
            system._start_ray(num_cpus, num_gpus, dashboard, dashboard_port)
            return system._with_actors()
        except BaseException:
            system.end()
            raise

    def _start_ray(self, num_cpus: float | None, num_gpus: float | None, dashboard: bool, dashboard_port: int) -> None:
        ray = _load_ray()
        extra: dict[str, Any] = {"dashboard_port": dashboard_port} if dashboard_port else {}
        # Ray warns of a multitude of processes by how many it starts at a time, one for each core; ours are meant.
        at_a_time = max(PROCESSES_AT_A_TIME, math.ceil(num_cpus or os.cpu_count() or 1))
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(at_a_time))
        try:
            with processes.same_signals(), processes.silent_stderr():
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
        except Exception as error:
            hint = "; name a folder with a shorter path in RAY_TMPDIR" if "AF_UNIX path" in str(error) else ""
            raise ClusterError(f"Ray did not start: {_last_line(error)}{hint}") from error
        url = f"http://{context.dashboard_url}" if context.dashboard_url else ""
        self.record = replace(self.record, address=ray.get_runtime_context().gcs_address, dashboard_url=url)

    @classmethod
    def attach(cls, settings: Settings, address: str, *, start_actors: bool = False) -> System:
        """Connect to the Ray at `address`; with `start_actors`, start what is not there yet.

        Call it before anything imports Ray: Ray reads while it is imported whether to send a token.

        Raises
        ------
        ClusterError
            Nothing answers there, its Ray is another version, it asks for a token, or the state directory
            belongs to a Balance on another cluster.
        """
        ours = read_record(settings)
        try:
            reachable(address)
        except ClusterError:
            if ours is None or ours.owned or ours.address != address:
                raise
            raise ClusterError(
                f"the Ray cluster at {address!r}, on which Balance ran, is gone; 'balance down' forgets it",
                address=address,
            ) from None
        send_token(address, ours.address if ours is not None and ours.owned else None)
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", CONNECT_ATTEMPTS)
        ray = _load_ray()
        try:
            with processes.same_signals(), processes.silent_stderr():
                context = ray.init(address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:
            raise refusal(address, error) from error
        gcs = ray.get_runtime_context().gcs_address
        same = ours is not None and ours.address == gcs
        if start_actors and ours is not None and not same:
            ray.shutdown()
            raise ClusterError(
                f"Balance uses {settings.state_dir} on the Ray cluster at {ours.address or 'a starting host'}; name "
                "another --state-dir for this cluster, or stop that one with 'balance down'"
            )
        url = f"http://{context.dashboard_url}" if context.dashboard_url else ""
        system = cls(settings, ours if ours is not None and same else Record.of_guest(gcs, url))
        return system._with_actors() if start_actors else system

    def _with_actors(self) -> System:
        self.found = bool(find_actors())
        answers = start_actors(self.settings)
        family = []
        for process in processes.descendants() if self.record.owned else ():
            with contextlib.suppress(processes.Gone):
                family.append((process.pid, process.create_time()))
        self.record = replace(self.record, actors=answers, processes=family)
        write_record(self.settings, self.record)
        return self

    def stop(self, *, drain_s: float) -> dict[str, Any]:
        """Drain for at most `drain_s` seconds, end every actor and reservation, and let go of Ray.

        Returns
        -------
        dict
            See `stop_actors`.
        """
        outcome = stop_actors(drain_s)
        self.end()
        return outcome

    def end(self) -> None:
        """Let go of Ray; if it is ours, end it and every process beneath this one, whatever state it is in.

        Nothing interrupts that.  What actors hold in memory is lost, what they acknowledged is not.
        """
        processes.ignore_signals()
        family = processes.descendants() if self.record.owned else []
        self.detach()
        if self.record.owned:
            processes.end([*family, *processes.descendants()])
        forget_record(self.settings, self.record)

    def detach(self) -> None:
        """Let go of Ray, before it is gone: a driver that outlives its cluster takes seconds to notice at its end."""
        with processes.silent_stderr(), contextlib.suppress(Exception):
            import ray  # noqa: PLC0415 (an interrupt may have come while it was being imported)

            ray.shutdown()


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

    fresh = not find_actors()
    node_id = ray.get_runtime_context().get_node_id()
    given = encode(settings)
    try:
        handles = [ray.remote(role.load()).options(**_options(role.name, node_id)).remote(given) for role in ROLES]
        pings = [handle.ping.remote() for handle in handles]
        _, silent = ray.wait(pings, num_returns=len(pings), timeout=START_TIMEOUT_S)
        if silent:
            name = ROLES[pings.index(silent[0])].name
            raise ClusterError(
                f"the actor {name!r} did not start within {START_TIMEOUT_S:g} s; {_session()}", actor=name
            )
        answers: list[dict[str, Any]] = ray.get(pings)
    except BaseException as error:
        if fresh:
            stop_actors(drain_s=0)
        if isinstance(error, BalanceError) or not isinstance(error, Exception):
            raise
        raise ClusterError(f"an actor did not start: {_last_line(error)}; {_session()}") from error
    return answers


def _last_line(error: Exception) -> str:
    """Return the line of an error that says what went wrong: Ray puts the traceback of the other side above it."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


def _session() -> str:
    import ray  # noqa: PLC0415

    context = ray.get_runtime_context()
    return f"its log is in {context.get_temp_dir()}/{context.get_session_name()}/logs"


def find_actors() -> dict[str, Any]:
    """Return the handles of the actors that exist, by name."""
    import ray  # noqa: PLC0415

    found: dict[str, Any] = {}
    for role in ROLES:
        with contextlib.suppress(ValueError):
            found[role.name] = ray.get_actor(role.name, namespace=NAMESPACE)
    return found


def stop_actors(drain_s: float) -> dict[str, Any]:
    """Drain the work, close every actor so that its state is durable, and end them all.

    Returns
    -------
    dict
        ``status`` (``drained | timed_out``), ``left`` (tasks that were still queued or running at the end).
    """
    import ray  # noqa: PLC0415
    from ray.util import list_named_actors, placement_group_table, remove_placement_group  # noqa: PLC0415
    from ray.util.placement_group import get_placement_group  # noqa: PLC0415

    outcome = {"status": "drained", "left": 0}
    if not ray.is_initialized():
        return outcome
    found = find_actors()
    if drain_s > 0 and "scheduler" in found:
        with contextlib.suppress(Exception):
            answer = ray.get(found["scheduler"].drain.remote(drain_s), timeout=drain_s + 5)
            states = answer["queue"]["by_state"]
            outcome = {
                "status": answer["status"],
                "left": sum(states.get(name, 0) for name in ("queued", "delayed", "retrying", "running")),
            }
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
    return outcome


def running(settings: Settings, address: str | None = None) -> System:
    """Connect to the Balance that runs on this state directory, or at `address`.

    Raises
    ------
    ClusterError
        None runs there.
    """
    record = read_record(settings)
    if record is not None and record.state == "starting":
        raise ClusterError("Balance is still starting; 'balance up' waits for it", state_dir=settings.state_dir)
    where = address or os.environ.get("RAY_ADDRESS") or (record.address if record else None)
    if where is None:
        raise ClusterError("Balance does not run here; start it with 'balance up'", state_dir=settings.state_dir)
    system = System.attach(settings, where)
    if not find_actors():
        raise ClusterError(
            f"Balance does not run on the Ray cluster at {where!r}; start it with 'balance up --address {where}'"
        )
    return system
