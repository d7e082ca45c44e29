"""Replicas that are there before the load, on real Ray: forecast-led, reactive, and by target utilisation.

    python tests/bench/bench_scaling_ray.py [--periods 2] [--period 24] [--coverage 0.6] [--json FILE]

A model takes four seconds to load in each process and half a second for each request; its load rises from 1 to 7.5
requests a second for a third of every period, and ten periods have been recorded before.  All three run on the same
actors: what is decided is reserved, and executors load the model for it.  *Target utilisation* counts as Ray Serve does
by default: requests under way over replicas, up at once and down after six seconds.  The same requests come in all
plays; one misses when its answer takes more than two seconds.  Replica-seconds are what was reserved.

Each period is a play of its own, with a model that no process has loaded, and the three take turns: executors keep for
a minute what they have loaded, so that a second rise within that would find everything warm.

Which coverage: a rise is within reach of a cold start and a window for a third of the time here.  Above a coverage of
two thirds the reactive rule therefore keeps its margin as high as the rise, and misses nothing at a higher cost.
"""

from __future__ import annotations

from typing import Any

import pytest
from harness.machine import Machine
from harness.periods import Given, against, command_line, paid, waits
from harness.table import Report

PEER, USUAL = "scaling_balance", Given(periods=2, period_s=24, coverage=0.6)
NAMES = {"utilisation": "target utilisation 0.8", "reactive": "Balance, reactive", "forecast": "Balance, forecast"}


def report(found: list[dict[str, Any]], given: Given, machine: Machine) -> Report:
    """Make the table, and hold the forecast against the others."""
    table = Report(
        f"A model that takes 4 s to load: misses against replica-seconds, coverage {given.coverage:g}",
        ["decided by", "requests", "missed", "p50 s", "p95 s", "replica-seconds"],
        machine,
    )
    points = {}
    for who, name in NAMES.items():
        plays = [each for each in found if each["who"] == who]
        missed, cost = sum(each["missed"] for each in plays), sum(paid(each["replicas"]) for each in plays)
        latency_s = [each for play in plays for each in play["latency_s"]]
        points[who] = missed, cost
        table.add(name, sum(each["sent"] for each in plays), missed, *waits(latency_s), round(cost))
    table.facts = {
        "missed, play by play": {who: [each["missed"] for each in found if each["who"] == who] for who in NAMES},
        "measured cold start, s": [round(each["cold_start_s"], 1) for each in found],
        "requests that failed": sum(each["failed"] for each in found),
    }
    for rival in ("reactive", "utilisation"):
        against(table, NAMES[rival], "replica-seconds", points["forecast"], points[rival])
    return table


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.benchmark(group="scaling")
def test_replicas_are_there_before_the_load(benchmark: Any) -> None:
    """Fewer misses than both rivals at about the same cost."""
    found = benchmark.pedantic(USUAL.measure, args=(PEER,), rounds=1)
    table = report(found, USUAL, Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


if __name__ == "__main__":
    command_line(__doc__, PEER, USUAL, report)
