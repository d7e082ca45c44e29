"""Replicas that are there before the load, on real Ray: forecast-led, reactive, and by target utilisation.

    python tests/bench/bench_scaling_ray.py [--periods 2] [--period 40] [--json FILE]

A model takes five seconds to load in each process and half a second for each request; its load rises from 1 to 7.5
requests a second for two fifths of every period, and twelve periods have been recorded before.  All three run on the
same actors: what is decided is reserved, and executors load the model for it.  *Target utilisation* counts as Ray
Serve does by default: requests under way over replicas, up at once and down after six seconds.  The same requests come
in all plays; one misses when its answer takes more than two seconds.  Replica-seconds are what was reserved.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from harness.machine import Machine
from harness.table import Report, quantile
from harness.visits import visit

NAMES = {"utilisation": "target utilisation 0.8", "reactive": "Balance, reactive", "forecast": "Balance, forecast"}


def report(found: list[dict[str, Any]], machine: Machine) -> Report:
    """Make the table, and hold the forecast against the others."""
    table = Report(
        "A model that takes 5 s to load: misses against replica-seconds",
        ["decided by", "requests", "missed", "p50 s", "p95 s", "replica-seconds"],
        machine,
    )
    missed, costs = {}, {}
    for each in found:
        paid = sum(count * (after - at) for (at, count), (after, _) in pairwise(each["replicas"]))
        latency = each["latency_s"] or [0.0]
        missed[each["who"]], costs[each["who"]] = each["missed"], round(paid)
        table.add(
            NAMES[each["who"]],
            each["sent"],
            each["missed"],
            f"{quantile(latency, 0.5):.2f}",
            f"{quantile(latency, 0.95):.2f}",
            round(paid),
        )
    table.facts = {"measured cold start, s": {each["who"]: each["cold_start_s"] for each in found}}
    for rival in ("reactive", "utilisation"):
        (few, paid), (many, dear) = ((missed[who], costs[who]) for who in ("forecast", rival))
        words = f"fewer misses than {NAMES[rival]}, or as few for less"
        said = f"{few} for {paid} replica-seconds against {many} for {dear}"
        table.bar(words, said, met=few < many or (few == many and paid < dear))
    return table


def measure(periods: int, period: int, coverage: float, seed: int) -> list[dict[str, Any]]:
    """Play all three, in one process of its own."""
    print(f"{periods} periods of {period} s, three times ...", file=sys.stderr, flush=True)
    given = {"periods": periods, "period_s": period, "coverage": coverage, "seed": seed}
    return visit("scaling_balance", given, timeout_s=600.0)


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.benchmark(group="scaling")
def test_replicas_are_there_before_the_load(benchmark: Any) -> None:
    """Fewer misses than both rivals, or as few for less."""
    found = benchmark.pedantic(measure, args=(2, 40, 0.9, 1), rounds=1)
    table = report(found, Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--periods", type=int, default=2)
    parser.add_argument("--period", type=int, default=40, help="seconds")
    parser.add_argument("--coverage", type=float, default=0.9, help="how often capacity shall suffice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray")
    report(measure(given.periods, given.period, given.coverage, given.seed), machine).show(given.json)


if __name__ == "__main__":
    main()
