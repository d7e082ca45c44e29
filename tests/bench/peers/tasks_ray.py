"""Peer: no-op tasks on plain Ray, one by one and chunked by hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from harness.visits import options, tell


def noop(number: int) -> int:
    """Do nothing."""
    return number


def chunk(numbers: Sequence[int]) -> list[int]:
    """Do nothing, many times."""
    return [noop(number) for number in numbers]


def main() -> None:
    """Measure every way once, after a warm-up that is not measured."""
    import ray

    given = options()
    count = given["tasks"]
    ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    one, many = ray.remote(noop), ray.remote(chunk)
    ray.get([one.remote(number) for number in range(500)])
    ray.get([many.remote([number]) for number in range(10)])

    began = time.perf_counter()
    results = ray.get([one.remote(number) for number in range(count)])
    took = time.perf_counter() - began
    assert results == list(range(count))
    tell(row="Ray, a task each", tasks=count, total_s=took)

    for size in given["chunks"]:
        began = time.perf_counter()
        starts = range(0, count, size)
        chunks = ray.get([many.remote(range(start, min(start + size, count))) for start in starts])
        took = time.perf_counter() - began
        assert [number for each in chunks for number in each] == list(range(count))
        tell(row=f"Ray, chunked by hand, {size} a task", tasks=count, total_s=took)
    ray.shutdown()


if __name__ == "__main__":
    main()
