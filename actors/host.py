"""The host: the process that owns a local cluster, in the foreground or behind ``balance up``."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from actors import processes
from actors.record import Record, forget_record, host_lock, lock_path, read_record, write_record
from actors.system import START_TIMEOUT_S, System, running, stop_actors
from balance.config import Settings
from balance.errors import BalanceError, ClusterError, ConfigurationError

DRAIN_S = 30.0
"""How long running tasks are given when the host is told to stop by a signal."""

END_TIMEOUT_S = 20.0
"""How long the host may take to end Ray."""

LOOK_EVERY_S = 0.05


def serve(settings: Settings, options: dict[str, Any], ready: Callable[[Record], None]) -> dict[str, Any]:
    """Own a local cluster until Ctrl-C or SIGTERM; what ``up --block`` does, and what ``up`` starts behind itself.

    Parameters
    ----------
    settings : Settings
        Their state directory can have one host.
    options : dict
        Of `System.launch`.
    ready : callable
        Called once every actor has answered.

    Returns
    -------
    dict
        See `actors.system.stop_actors`.
    """
    with host_lock(settings) as free:
        if not free:
            raise ClusterError(f"another 'balance up' holds {settings.state_dir}; see 'balance status'")
        note = Record.of_host()
        processes.die_on_signals(lambda: _clear(settings, note))
        write_record(settings, note)
        try:
            return stay(System.launch(settings, **options), ready)
        except BaseException:
            _clear(settings, note)
            raise


def _clear(settings: Settings, note: Record) -> None:
    """Take away what a host leaves in its state directory that does not stop in its own time."""
    forget_record(settings, note)
    lock_path(settings).unlink(missing_ok=True)


def start(settings: Settings, options: dict[str, Any]) -> Record:
    """Start ``balance up --block`` in a session of its own and return its note once every actor has answered.

    Where another one is starting already, that one is waited for.  An interrupt ends the host that was started.

    Parameters
    ----------
    settings : Settings
        Name the state directory.
    options : dict
        Of `System.launch`.

    Raises
    ------
    ClusterError
        The host ended; what it said is in the message.
    """
    log = settings.writable_state_dir() / "host.log"
    command = [sys.executable, "-m", "actors.cli", "up", "--block", "--state-dir", settings.state_dir]
    command += _arguments(options)
    # A session of its own: Ctrl-C at the terminal reaches this process, which tells the host.
    with log.open("w") as sink:
        host = subprocess.Popen(  # noqa: S603 (our own module, by this interpreter)
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    processes.die_on_signals(lambda: read_record(settings))  # the host was ended; its note is cleared away
    try:
        while True:
            record = read_record(settings)
            if record is not None and record.host_pid != host.pid:
                host.wait()
                return wait_until_ready(settings)
            if record is not None and record.state == "ready":
                return record
            if host.poll() is not None:
                raise _failure(log, host.returncode)
            time.sleep(LOOK_EVERY_S)
    except BaseException:
        processes.end_descendants()
        read_record(settings)
        raise


def _arguments(options: dict[str, Any]) -> list[str]:
    """Return the options of `System.launch` as the command takes them.

    Examples
    --------
    >>> _arguments({"num_cpus": 2.0, "num_gpus": None, "dashboard": False})
    ['--num-cpus=2.0', '--no-dashboard']
    """
    given = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            given.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            given.append(f"--{option}={value}")
    return given


def _failure(log: Path, code: int) -> ClusterError:
    said = log.read_text(errors="replace").strip()
    last = said.splitlines()[-1] if said else "it said nothing"
    if last.startswith("error: "):
        return ClusterError(last.removeprefix("error: "))
    return ClusterError(f"the host process ended with code {code} ({last[:200]}); its log is {str(log)!r}")


def wait_until_ready(settings: Settings) -> Record:
    """Wait for the host on this state directory, which somebody else has started.

    Raises
    ------
    ClusterError
        It did not get there.
    """
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        record = read_record(settings)
        if record is None:
            raise ClusterError("the other 'balance up' gave up; try again", state_dir=settings.state_dir)
        if record.state == "ready":
            return record
        time.sleep(LOOK_EVERY_S)
    raise ClusterError(f"Balance is still starting after {START_TIMEOUT_S:g} s; 'balance down' ends it")


def stay(system: System, ready: Callable[[Record], None]) -> dict[str, Any]:
    """Wait in the foreground for Ctrl-C or SIGTERM, and then stop; being told twice ends the patience.

    Parameters
    ----------
    system : System
        All of its actors have answered.
    ready : callable
        Called once a signal would be heeded.

    Returns
    -------
    dict
        See `actors.system.stop_actors`.
    """
    told = threading.Event()
    for number in processes.SIGNALS:
        signal.signal(number, lambda *_: told.set())
    try:
        ready(system.record)
    except BaseException:
        system.end()
        raise
    while not told.wait(1.0):  # short naps: a signal that comes just before one is noticed only after it
        pass
    processes.die_on_signals(lambda: _clear(system.settings, system.record))
    outcome = stop_actors(DRAIN_S)
    system.end()
    return outcome


def stop(settings: Settings, record: Record, *, drain_s: float) -> dict[str, Any]:
    """Drain and stop the Balance of this host, then the host with its Ray, whatever state they are in.

    Returns
    -------
    dict
        See `actors.system.stop_actors`.

    Raises
    ------
    ConfigurationError
        The host is another user's.
    """
    outcome: dict[str, Any] = {"status": "drained", "left": 0}
    if record.state == "ready":
        with contextlib.suppress(BalanceError):  # a cluster that does not answer is ended all the same
            system = System.attach(settings, record.address)
            outcome = stop_actors(drain_s)
            system.detach()
    host = record.host()
    if host is not None:
        try:
            host.terminate()
            if not processes.wait([host], timeout_s=END_TIMEOUT_S):
                processes.end([host, *host.children(recursive=True)])
        except psutil.NoSuchProcess:
            pass
        except psutil.AccessDenied:
            raise ConfigurationError(
                f"process {record.host_pid} is another user's; run 'balance down' as the one who started it"
            ) from None
    read_record(settings)  # clears away what a host leaves that was killed
    return outcome


def leave(settings: Settings, address: str | None, *, drain_s: float) -> dict[str, Any]:
    """Drain and stop a Balance on a cluster that is not ours; one whose cluster is gone is only forgotten.

    Returns
    -------
    dict
        See `actors.system.stop_actors`.
    """
    record = read_record(settings)
    try:
        system = running(settings, address)
    except ClusterError:
        if record is None or record.owned or address not in {None, record.address}:
            raise
        forget_record(settings, record)
        return {"status": "drained", "left": 0}
    return system.stop(drain_s=drain_s)
