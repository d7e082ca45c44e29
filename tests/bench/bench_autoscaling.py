"""Nodes that are there before the load: a cluster with Ray's autoscaler, led by the forecast and by the reactive rule.

    python tests/bench/bench_autoscaling.py [--periods 2] [--period 40] [--json FILE]

A head and up to three more nodes, each a real raylet with two logical cores that takes seconds to start (Ray's fake
multi-node provider, on this machine).  A model's load rises from 0.3 to 4 requests a second, a second of work each, in
the last two fifths of every period; twelve periods have been recorded before.  The balancer asks Ray's autoscaler
for nodes (`request_resources`).  The same requests come in both plays; a request misses when its answer takes more
than 3 seconds.
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

OWN, ENOUGH = 2.0, 6.0
"""The head's cores, and how many the high load needs."""


def ahead_s(cores: list[list[float]], rise: float, period: float) -> float | None:
    """Return how many seconds before a rise of the load there were cores enough (negative: after it).

    Examples
    --------
    >>> ahead_s([[0.0, 2.0], [20.0, 6.0], [30.0, 8.0], [38.0, 2.0]], rise=24.0, period=40.0)
    4.0
    """
    since = rise - 0.5 * period
    for at, there in cores:
        if since <= at < rise + 0.4 * period and there >= ENOUGH:
            return rise - at
    return None


def report(found: list[dict[str, Any]], period: float, machine: Machine) -> Report:
    """Make the table, and look whether the forecast had the nodes there in time."""
    table = Report(
        "A cluster that grows: nodes before the load",
        ["led by", "requests", "missed", "p50 s", "p95 s", "node-seconds", "nodes there before the rise, s"],
        machine,
    )
    by = {each["lead"]: each for each in found}
    for lead, each in by.items():
        more = sum((there - OWN) / 2 * (after - at) for (at, there), (after, _) in pairwise(each["cores"]))
        leads = [ahead_s(each["cores"], rise, period) for rise in each["rises"]]
        each["ahead"] = leads
        latency = each["latency_s"] or [0.0]
        shown = ", ".join("never" if lead is None else f"{lead:+.1f}" for lead in leads)
        table.add(
            lead,
            each["sent"],
            each["missed"],
            f"{quantile(latency, 0.5):.2f}",
            f"{quantile(latency, 0.95):.2f}",
            round(more),
            shown,
        )
    table.facts = {
        "measured start of a node, s": round(by["forecast"]["node_start_s"], 1),
        "cores left from the play before": [each["cores_left_before"] for each in found],
        "actions that failed": sum(each["failures"] for each in found),
    }
    last = by["forecast"]["ahead"][-1]
    table.bar(
        "forecast-led, the nodes are there before the load's last rise",
        "never" if last is None else f"{last:+.1f} s",
        met=last is not None and last >= 0,
    )
    few, many = by["forecast"]["missed"], by["reactive"]["missed"]
    table.bar("fewer misses than the reactive rule", f"{few} against {many}", met=few < many)
    return table


def measure(periods: int, period: int, coverage: float, seed: int) -> list[dict[str, Any]]:
    """Play both, in one process of its own."""
    print(f"{periods} periods of {period} s, twice ...", file=sys.stderr, flush=True)
    given = {"periods": periods, "period_s": period, "coverage": coverage, "seed": seed}
    return visit("autoscaling_balance", given, timeout_s=600.0)


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.benchmark(group="autoscaling")
def test_nodes_are_there_before_the_load(benchmark: Any) -> None:
    """Both bars."""
    found = benchmark.pedantic(measure, args=(2, 40, 0.95, 1), rounds=1)
    table = report(found, 40.0, Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--periods", type=int, default=2)
    parser.add_argument("--period", type=int, default=40, help="seconds")
    parser.add_argument("--coverage", type=float, default=0.95, help="how often capacity shall suffice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray")
    report(measure(given.periods, given.period, given.coverage, given.seed), given.period, machine).show(given.json)


if __name__ == "__main__":
    main()
