"""How fast the simulation is: a million tasks on ten thousand nodes, on one core.

    python tests/bench/bench_simulation.py [--nodes 10000] [--tasks 1000000] [--load 1.1] [--json FILE]

Five kinds of tasks, from one core to four devices, three tenants, all five priorities, log-normal run times,
Poisson arrivals at `load` times what the devices can do, on nodes of two shapes.  CPU time counts, not the
clock on the wall: the machine may have other work.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report

from balance.core.scheduler.spec import TaskSpec
from balance.simulation import Cluster, History, Job, Simulation, Stream, log_normal, merged, poisson
from balance.types import Resources

BAR_S = 600.0
KINDS = (  # name, demand, part of the tasks, median run time in seconds
    ("light", Resources.demand(cpu=1, memory=2**31), 0.40, 6.0),
    ("wide", Resources.demand(cpu=4, memory=2**33), 0.20, 12.0),
    ("fraction", Resources.demand(cpu=1, memory=2**32, gpu=0.25), 0.15, 6.0),
    ("device", Resources.demand(cpu=4, memory=2**34, gpu=1), 0.20, 12.0),
    ("large", Resources.demand(cpu=16, memory=2**35, gpu=4), 0.05, 30.0),
)
SIGMA = 1.0
MEAN_PER_MEDIAN = 1.6487  # of a log-normal with sigma 1


def workload(cluster: Cluster, tasks: int, load: float) -> Any:
    """Return the jobs, in order of time."""
    devices = sum(node.gpu for _, node in cluster.nodes)
    work = sum(part * demand.gpu * median * MEAN_PER_MEDIAN for _, demand, part, median in KINDS)
    rate = load * devices / work
    streams = [
        Stream(
            TaskSpec(name, name=name, demand=demand, priority=1 + number % 5, tenant=f"team-{number % 3}"),
            poisson(rate * part),
            log_normal(median, SIGMA),
            count=round(tasks * part),
            seed=number,
        )
        for number, (name, demand, part, median) in enumerate(KINDS)
    ]
    return merged(*streams)


def cluster_of(nodes: int) -> Cluster:
    """Return half nodes without devices, half with eight."""
    plain, rich = Resources.capacity(cpu=32, memory=2**37), Resources.capacity(cpu=64, memory=2**38, gpu=8)
    return Cluster.of((nodes - nodes // 2, plain), (nodes // 2, rich))


def measure(nodes: int, tasks: int, load: float) -> tuple[History, dict[str, float]]:
    """Simulate once; return what happened and what it cost."""
    cluster = cluster_of(nodes)
    jobs: list[Job] = list(workload(cluster, tasks, load))
    begun = time.process_time()
    history = Simulation(cluster, jobs).run()
    cpu_s = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return history, {"cpu_s": cpu_s, "task_us": cpu_s / tasks * 1e6, "peak_bytes": float(peak)}


def report(history: History, cost: dict[str, float], nodes: int, load: float, machine: Machine) -> Report:
    """Make the table."""
    table = Report(
        "The simulation",
        ["nodes", "tasks", "load", "CPU s", "µs a task", "peak GiB", "queue max", "devices in use", "digest"],
        machine,
    )
    found = history.to_dict()
    in_use = history.mean_utilisation("gpu", 0.1 * history.end_s, float(history.submitted.max()))
    table.add(
        f"{nodes:,}",
        f"{found['tasks']:,}",
        f"{load:g}",
        f"{cost['cpu_s']:.0f}",
        f"{cost['task_us']:.0f}",
        f"{cost['peak_bytes'] / 2**30:.1f}",
        f"{found['queue_max']:,}",
        f"{in_use:.1%}",
        found["digest"][:12],
    )
    what = f"{found['tasks']:,} tasks on {nodes:,} nodes in {BAR_S:g} s of CPU"
    table.bar(what, f"{cost['cpu_s']:.0f} s", met=cost["cpu_s"] <= BAR_S)
    return table


@pytest.mark.benchmark(group="simulation")
@pytest.mark.parametrize("nodes", [100, 1_000, 10_000])
def test_simulated_tasks(benchmark: Any, nodes: int) -> None:
    """What one simulated task costs, whatever the number of nodes."""
    history, cost = benchmark.pedantic(measure, args=(nodes, 20_000, 1.1), rounds=1)
    benchmark.extra_info.update(cost)
    print(f"\n{report(history, cost, nodes, 1.1, Machine.here())}")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--load", type=float, default=1.1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    print(f"simulating {given.tasks:,} tasks on {given.nodes:,} nodes ...", file=sys.stderr, flush=True)
    history, cost = measure(given.nodes, given.tasks, given.load)
    table = report(history, cost, given.nodes, given.load, Machine.here())
    print(table)
    if given.json is not None:
        given.json.write_text(table.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
