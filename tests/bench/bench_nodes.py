"""One copy of data a node: who reads a location, and how often its bytes travel.

    python tests/bench/bench_nodes.py [--mib 64] [--readers 6] [--json FILE]

A Ray of two logical nodes on this machine, each with an object store of its own.  Data is placed as the data
coordinator places it, then read by several processes on each node, three times.  Ray says in which stores it lies.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report

from balance.core.coordinator.payload import Payload

MIB = 2**20


def _node_of_a_read(reference: list[Any]) -> tuple[str, int]:
    import ray

    payload = ray.get(reference[0])
    return ray.get_runtime_context().get_node_id(), len(payload.data)


def measure(mib: int, readers: int) -> Report:
    """Place data, and read it on both nodes."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray
    from ray.cluster_utils import Cluster
    from ray.experimental import get_object_locations

    from actors.shelf import RayShelf

    table = Report(
        f"{mib} MiB read by {readers} processes on each of two nodes",
        ["step", "copies", "seconds"],
        Machine.here("ray"),
    )
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "resources": {"one": 100}, "object_store_memory": 4 * mib * MIB},
    )
    try:
        cluster.add_node(num_cpus=2, resources={"two": 100}, object_store_memory=4 * mib * MIB)
        ray.init(address=cluster.address, namespace="bench", log_to_driver=False)
        task = ray.remote(num_cpus=0.1)(_node_of_a_read)
        shelf = RayShelf()
        began = time.perf_counter()
        location = shelf.put("data", Payload(os.urandom(mib * MIB)))
        reference = shelf.reference(location)

        def copies() -> int:
            return len(get_object_locations([reference])[reference]["node_ids"])

        table.add("placed", copies(), f"{time.perf_counter() - began:.2f}")
        for step in ("read on both nodes", "read again", "and again"):
            began = time.perf_counter()
            found = ray.get(
                [
                    task.options(resources={name: 1}).remote([reference])
                    for name in ("one", "two")
                    for _reader in range(readers)
                ]
            )
            assert {size for _node, size in found} == {mib * MIB}
            nodes = {node for node, _size in found}
            table.add(step, copies(), f"{time.perf_counter() - began:.2f}")
            table.bar(
                f"one copy a node, {step}", f"{copies()} copies on {len(nodes)} nodes", met=copies() == len(nodes) == 2
            )
    finally:
        ray.shutdown()
        cluster.shutdown()
    return table


@pytest.mark.timeout(300)
@pytest.mark.benchmark(group="nodes")
def test_one_copy_a_node(benchmark: Any) -> None:
    """However many read it there."""
    table = benchmark.pedantic(measure, args=(64, 6), rounds=1)
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--readers", type=int, default=6)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    measure(given.mib, given.readers).show(given.json)


if __name__ == "__main__":
    main()
