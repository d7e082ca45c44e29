"""Who ends collectors with ``kill -9``, one after the other."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from typing import Any

import psutil

PING_S = 5.0


class Killer:
    """Ends a collector of the Balance that this process has launched every so many seconds, in a thread.

    Parameters
    ----------
    names : sequence of str
        Of the collectors.
    every_s : float
        Between two kills.
    seed : int
        Of the choices.
    """

    def __init__(self, names: list[str], every_s: float, seed: int) -> None:
        self.kills = 0
        self._names = names
        self._every_s = every_s
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            if (pid := self._one()) is not None:
                end(pid)
                self.kills += 1

    def _one(self) -> int | None:
        """Return the process of a collector that answers."""
        import ray

        calls: dict[Any, str] = {}
        for name in self._names:
            with contextlib.suppress(ValueError):
                calls[ray.get_actor(name, namespace="balance").ping.remote()] = name
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=PING_S) if calls else ([], [])
        more, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0.05) if calls else ([], [])
        pids = []
        for call in {*ready, *more}:
            with contextlib.suppress(ray.exceptions.RayError):
                pids.append(int(ray.get(call)["pid"]))
        return self._rng.choice(sorted(pids)) if pids else None


def end(pid: int) -> None:
    """End a process of this process's family as a power failure would."""
    if pid not in {child.pid for child in psutil.Process().children(recursive=True)}:
        raise RuntimeError(f"process {pid} is not ours")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
