"""Peer: no-op tasks on dask.distributed, with its default queueing and with ``worker-saturation: inf``."""

from __future__ import annotations

import os
import time

from harness.visits import options, tell


def noop(number: int) -> int:
    """Do nothing."""
    return number


def main() -> None:
    """Measure ``client.map`` and ``gather`` for each count of tasks, after a warm-up that is not measured."""
    import dask
    from distributed import Client, LocalCluster

    given = options()
    saturation = given["saturation"]
    shown = "default" if saturation is None else f"worker-saturation: {saturation}"
    if saturation is not None:
        dask.config.set({"distributed.scheduler.worker-saturation": saturation})
    cores = len(os.sched_getaffinity(0))
    cluster = LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None, processes=True)
    with cluster, Client(cluster) as client:
        client.gather(client.map(noop, range(200), pure=False))
        for count in given["counts"]:
            began = time.perf_counter()
            results = client.gather(client.map(noop, range(count), pure=False))
            took = time.perf_counter() - began
            assert results == list(range(count))
            tell(row=f"dask, {shown}", tasks=count, total_s=took)


if __name__ == "__main__":
    main()
