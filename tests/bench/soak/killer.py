"""Who is killed, and how long it takes until somebody answers in its place.

Only processes that descend from this one are ever killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass
from typing import Any

import psutil

NAMESPACE = "balance"
EXECUTOR = "executor"
ROLES = (EXECUTOR, "scheduler", "resource_allocator", "operation_coordinator")
PING_S = 2.0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One process that was ended with ``kill -9``.

    Attributes
    ----------
    role : str
        One of `ROLES`.
    pid : int
        Of the process.
    at : float
        Wall-clock time.
    """

    role: str
    pid: int
    at: float


class Killer:
    """Ends processes of the Balance that this process has launched.

    Parameters
    ----------
    seed : int
        Of the choices.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.me = psutil.Process()

    def strike(self) -> Kill | None:
        """End a process of a random role; None if that role has none that answers just now."""
        role = self.rng.choice(ROLES)
        pids = self._executors() if role == EXECUTOR else self._pids([role])
        if not pids:
            return None
        pid = self.rng.choice(pids)
        if pid not in {child.pid for child in self.me.children(recursive=True)}:
            raise RuntimeError(f"process {pid} of {role} is not ours")
        at = time.time()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return Kill(role, pid, at)

    def _executors(self) -> list[int]:
        from ray.util import list_named_actors

        names = [each["name"] for each in list_named_actors(all_namespaces=True) if each["namespace"] == NAMESPACE]
        return self._pids(sorted(name for name in names if name.startswith("executor-")))

    @staticmethod
    def _pids(names: list[str]) -> list[int]:
        import ray

        calls = []
        for name in names:
            with contextlib.suppress(ValueError):
                calls.append(ray.get_actor(name, namespace=NAMESPACE).ping.remote())
        ready, _ = ray.wait(calls, num_returns=len(calls), timeout=PING_S) if calls else ([], [])
        pids = []
        for call in ready:
            with contextlib.suppress(ray.exceptions.RayError):
                pids.append(int(ray.get(call)["pid"]))
        return sorted(pids)


def answer_s(kill: Kill) -> float:
    """Wait until another process answers for a role that was killed, and return how long that took, in seconds.

    Raises
    ------
    TimeoutError
        None did within `PATIENCE_S` seconds.
    """
    import ray

    until = kill.at + PATIENCE_S
    while time.time() < until:
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            answer: dict[str, Any] = ray.get(ray.get_actor(kill.role, namespace=NAMESPACE).ping.remote(), timeout=5.0)
            if answer["pid"] != kill.pid:
                return time.time() - kill.at
        time.sleep(0.005)
    raise TimeoutError(f"no {kill.role} answered within {PATIENCE_S:g} s after pid {kill.pid} was killed")


def begun_s(kill: Kill, begun_at: list[tuple[float, int]]) -> float | None:
    """Return how many seconds after a kill the next task began; None if none did.

    With the scheduler end the executors that it had, after what they are at: then a task counts that begins in
    a process in which none had begun before.

    Parameters
    ----------
    kill : Kill
        Which.
    begun_at : list of tuple
        When tasks began and in which process, in the order of time.

    Examples
    --------
    >>> begun_at = [(9.0, 7), (9.5, 8), (10.25, 8), (11.0, 9)]
    >>> begun_s(Kill("executor", 7, 10.0), begun_at), begun_s(Kill("scheduler", 1, 10.0), begun_at)
    (0.25, 1.0)
    """
    before = {pid for at, pid in begun_at if at <= kill.at} if kill.role == "scheduler" else {kill.pid}
    return next((at - kill.at for at, pid in begun_at if at > kill.at and pid not in before), None)
