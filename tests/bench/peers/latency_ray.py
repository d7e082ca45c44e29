"""Peer: how long a task waits on plain Ray, which has no priorities, on an idle system and behind others."""

from __future__ import annotations

import logging
import time
from typing import Any

from harness.latency import take
from harness.visits import options, tell


def work(seconds: float) -> float:
    """Say when this began, and take so long."""
    begun = time.time()
    if seconds:
        time.sleep(seconds)
    return begun


def other(seconds: float) -> float:
    """Do the same: a Ray task of another function, which Ray queues apart."""
    return work(seconds)


def main() -> None:
    """Measure on an idle system, then behind a backlog of each kind: of the same function, and of another."""
    import ray

    given = options()
    ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    urgent, apart = ray.remote(work), ray.remote(other)
    ray.get([urgent.remote(0.0) for _ in range(200)] + [apart.remote(0.0) for _ in range(200)])

    def measure(row: str, nap_s: float | None, backlog: list[Any]) -> None:
        samples = take(lambda: urgent.remote(0.0), ray.get, count=given["samples"], every_s=given["every_s"])
        ray.get(backlog)
        tell(
            row=row,
            nap_s=nap_s,
            begun_s=[sample.begun_s for sample in samples],
            answered_s=[sample.answered_s for sample in samples],
        )

    measure("Ray", None, [])
    for nap_s in given["naps_s"]:
        measure("Ray", nap_s, [urgent.remote(nap_s) for _ in range(given["backlog"])])
        measure("Ray, they of another function", nap_s, [apart.remote(nap_s) for _ in range(given["backlog"])])
    ray.shutdown()


if __name__ == "__main__":
    main()
