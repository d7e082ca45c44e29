"""No-op tasks with ids, priorities and durable acknowledgement, in bulk, beside peers that have none of these.

    python tests/bench/bench_tasks.py [--tasks 20000] [--rounds 3] [--only ray,balance] [--json FILE]

Every peer runs in a fresh process, all in turn, several times; the figures are medians over the rounds with
the least and the most.  What is compared: `ray.get` of one Ray task for each call, the same chunked by hand
(the reader's own loop: it keeps no ids, no priorities, and loses a chunk with its worker), dask's `client.map`
with its default queueing and without, and the standard library's pool of processes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report, spread
from harness.visits import visit

BALANCE, RAY, DASK = "Balance", "Ray, a task each", "dask, worker-saturation: inf"
BAR_RAY, BAR_DASK = 10.0, 5.0


def plan(tasks: int) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return the visits of one round: by the peer's short name, its scripts with their options."""
    few = min(4000, tasks)
    return {
        "balance": [("tasks_balance", {"tasks": tasks, "rounds": 3})],
        "ray": [("tasks_ray", {"tasks": tasks, "chunks": [50, 200, 1000]})],
        "dask": [
            ("tasks_dask", {"saturation": "inf", "counts": [few, tasks]}),
            ("tasks_dask", {"saturation": None, "counts": [few]}),
        ],
        "pool": [("tasks_pool", {"tasks": tasks, "chunks": [1, 50, 200]})],
    }


def measure(tasks: int, rounds: int, only: set[str]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return, by row and count of tasks, the figures of every round."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for turn in range(rounds):
        for name, scripts in plan(tasks).items():
            for script, given in scripts if name in only else ():
                print(f"round {turn + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                for figures in visit(script, given):
                    found[figures["row"], figures["tasks"]].append(figures)
    return found


def report(found: dict[tuple[str, int], list[dict[str, Any]]], machine: Machine) -> Report:
    """Make the table, and set the medians against the bars."""
    table = Report(
        "No-op tasks: seconds until all results are there, median (least-most)",
        ["what", "tasks", "seconds", "until acknowledged", "tasks/s"],
        machine,
    )
    medians: dict[tuple[str, int], float] = {}
    for (row, tasks), figures in found.items():
        totals = [each["total_s"] for each in figures]
        acknowledged = [each["acknowledged_s"] for each in figures if "acknowledged_s" in each]
        medians[row, tasks] = statistics.median(totals)
        speed = round(tasks / medians[row, tasks])
        table.add(row, tasks, spread(totals), spread(acknowledged) if acknowledged else "", f"{speed:,}")
    for peer, least in ((RAY, BAR_RAY), (DASK, BAR_DASK)):
        for (row, tasks), seconds in medians.items():
            ours = medians.get((BALANCE, tasks))
            if row == peer and ours is not None:
                ratio = seconds / ours
                table.bar(f"at least {least:g} times {peer!r}, {tasks} tasks", f"{ratio:.1f}x", met=ratio >= least)
    return table


@pytest.mark.cluster
@pytest.mark.timeout(1200)
@pytest.mark.benchmark(group="tasks")
def test_bulk_is_ten_times_ray_and_five_times_dask(benchmark: Any) -> None:
    """The two bars, on whatever machine this runs, from one round."""
    found = benchmark.pedantic(measure, args=(20_000, 1, set(plan(0))), rounds=1)
    table = report(found, Machine.here("ray", "distributed"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(plan(0)), help="peers, separated by commas")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray", "distributed")
    table = report(measure(given.tasks, given.rounds, set(given.only.split(","))), machine)
    table.show(given.json)


if __name__ == "__main__":
    main()
