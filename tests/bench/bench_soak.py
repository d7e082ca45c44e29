"""200 random ``kill -9`` of executors, scheduler, allocator and operation coordinator during 20,000 tasks.

    python tests/bench/bench_soak.py [--kills 200] [--tasks 20000] [--seed 1] [--keep FOLDER] [--json FILE]

Half of the tasks do nothing but have their effect, the others take up to 20 ms; most are submitted in bulk
through ``balance.Client``, one in twenty through the operation coordinator, one in twenty may run only once.
Meanwhile reservations are made and released.  A fifth of the kills does not wait until somebody answers for the
one before.  The next task: after a kill of the scheduler, the first on an executor that its successor has started;
else the first anywhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report, quantile
from harness.visits import visit

LIMIT_S = 3600.0


def report(found: dict[str, Any], machine: Machine) -> Report:
    """Make the table of recovery times, and hold the books against nought."""
    table = Report(
        "kill -9 during tasks: seconds until somebody answers again, and until the next task begins",
        ["who", "kills", "answers: median", "p99", "most", "next task: median", "p99", "most"],
        machine,
    )
    for role, kills in found["kills"].items():
        cells = []
        for seconds in found["recovery_s"][role].values():
            cells += [f"{quantile(seconds, q):.2f}" if seconds else "" for q in (0.5, 0.99, 1.0)]
        table.add(role, kills, *cells)
    verdict = found["verdict"]
    table.facts = {
        "tasks": verdict["tasks"],
        "seconds": round(found["total_s"], 1),
        "outcomes": verdict["by_state"],
        "idempotent tasks that ran again": verdict["ran_again"],
        "why tasks did not complete": verdict["reasons"],
        "reservations meanwhile": found["churn"],
        "troubled ids": verdict["ids"],
        "leaked": found["leaked"],
    }
    for name, words in (
        ("lost", "tasks lost: 0"),
        ("duplicate_effects", "duplicate effects: 0"),
        ("ran_twice", "tasks that may run once and ran twice: 0"),
    ):
        table.bar(words, str(verdict[name]), met=verdict[name] == 0)
    table.bar("leaked reservations: 0", str(len(found["leaked"])), met=not found["leaked"])
    return table


def measure(kills: int, tasks: int, seed: int, keep: str = "") -> dict[str, Any]:
    """Run one soak in a process of its own."""
    print(f"{kills} kills during {tasks} tasks ...", file=sys.stderr, flush=True)
    [found] = visit("soak_balance", {"kills": kills, "tasks": tasks, "seed": seed, "keep": keep}, timeout_s=LIMIT_S)
    return found


@pytest.mark.cluster
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.benchmark(group="soak")
def test_nothing_is_lost_to_kill_9(benchmark: Any) -> None:
    """Twenty kills, in a minute; the script makes two hundred."""
    found = benchmark.pedantic(measure, args=(20, 2_000, 1), rounds=1)
    table = report(found, Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default="", help="a new folder for state and traces, to look into afterwards")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray")
    table = report(measure(given.kills, given.tasks, given.seed, given.keep), machine)
    table.show(given.json)


if __name__ == "__main__":
    main()
