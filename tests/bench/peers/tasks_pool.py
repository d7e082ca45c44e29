"""Peer: no-op tasks on ``ProcessPoolExecutor.map``: one machine, no ids, no priorities, nothing durable."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor

from harness.visits import options, tell


def noop(number: int) -> int:
    """Do nothing."""
    return number


def main() -> None:
    """Measure each chunk size once, after a warm-up that is not measured."""
    given = options()
    count = given["tasks"]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(noop, range(1000), chunksize=10))
        for size in given["chunks"]:
            began = time.perf_counter()
            results = list(pool.map(noop, range(count), chunksize=size))
            took = time.perf_counter() - began
            assert results == list(range(count))
            tell(row=f"ProcessPoolExecutor, chunksize {size}", tasks=count, total_s=took)


if __name__ == "__main__":
    main()
