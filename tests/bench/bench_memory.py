"""Memory requests that learn, against escalation by a fixed factor: kills, wasted seconds, slack.

    python tests/bench/bench_memory.py [--tasks 100] [--seeds 3] [--json FILE]

Tasks are processes that really grow to log-normal sizes (median 16 MiB, sigma 0.5); whoever outgrows its
request is killed and runs again with a larger one.  The first request, 6 MiB, is too small for nearly all.
Every rule runs on the same scheduler, in turn, on the same sizes; two rivals know what no one can know
beforehand: the largest size, and each task's own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report
from rss.contest import RULES, Score, play, sizes

TASKS, SEEDS = 100, 3
EVERY_S = 0.05
OURS, RIVALS = "learned, asked before each task", ("x1.5 after a kill", "x2 after a kill")


def measure(tasks: int, seeds: int) -> dict[tuple[str, str], list[Score]]:
    """Return, by how tasks come and by rule, the scores of every seed."""
    found: dict[tuple[str, str], list[Score]] = {}
    for seed in range(seeds):
        given = sizes(tasks, seed)
        for comes, every_s in (("all at once", 0.0), ("one by one", EVERY_S)):
            for rule in RULES:
                print(f"seed {seed}, {comes}: {rule.name}", file=sys.stderr, flush=True)
                found.setdefault((comes, rule.name), []).append(play(rule, given, every_s=every_s))
    return found


def report(found: dict[tuple[str, str], list[Score]], tasks: int, machine: Machine) -> Report:
    """Make the table: medians over the seeds."""
    table = Report(
        f"Requests for memory, {tasks} tasks: medians over {len(next(iter(found.values())))} seeds",
        ["tasks come", "rule", "kills", "wasted s", "slack", "failed", "seconds"],
        machine,
    )
    medians: dict[tuple[str, str], dict[str, float]] = {}
    for (comes, rule), scores in found.items():
        names = ("kills", "wasted_s", "slack", "failed", "total_s")
        middle = {name: statistics.median(getattr(score, name) for score in scores) for name in names}
        medians[comes, rule] = middle
        table.add(
            comes,
            rule,
            round(middle["kills"]),
            f"{middle['wasted_s']:.1f}",
            f"{100 * middle['slack']:.0f} %",
            round(middle["failed"]),
            f"{middle['total_s']:.1f}",
        )
    for rival in RIVALS:
        for what, words in (("kills", "kills"), ("wasted_s", "wasted seconds")):
            ours, theirs = medians["one by one", OURS][what], medians["one by one", rival][what]
            table.bar(f"fewer {words} than {rival}", f"{ours:.3g} against {theirs:.3g}", met=ours < theirs)
    return table


@pytest.mark.timeout(1200)
@pytest.mark.benchmark(group="memory")
def test_requests_that_learn_waste_less(benchmark: Any) -> None:
    """Against both factors, from one seed."""
    found = benchmark.pedantic(measure, args=(TASKS, 1), rounds=1)
    table = report(found, TASKS, Machine.here())
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here()
    table = report(measure(given.tasks, given.seeds), given.tasks, machine)
    table.show(given.json)


if __name__ == "__main__":
    main()
