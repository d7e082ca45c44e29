"""How long an urgent task waits: on an idle system, and behind 10,000 tasks of the lowest priority.

    python tests/bench/bench_latency.py [--samples 300] [--only ray,balance] [--json FILE]

A sample is one task that says when its function began.  They are submitted at a steady pace, never one after
the other.  Behind a backlog, only samples that were answered while others still waited count.  Balance's backlog
is another program's, Ray's is the same program's: there each program has a queue of its own.
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

BAR = 2.0
SAMPLES_MIN = 200
PEERS = {"balance": "latency_balance", "ray": "latency_ray"}
IDLE = "idle"


def measure(samples: int, backlog: int, only: set[str]) -> list[dict[str, Any]]:
    """Return the samples of each peer in each situation."""
    given = {"samples": samples, "backlog": backlog, "naps_s": [0.0, 0.010], "every_s": 0.02}
    found: list[dict[str, Any]] = []
    for name, script in PEERS.items():
        if name in only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found += visit(script, given)
    return found


def situation(nap_s: float | None, backlog: int) -> str:
    """Return in words what a sample was measured against.

    Examples
    --------
    >>> situation(None, 10_000), situation(0.01, 10_000), situation(0.0, 10_000)
    ('idle', 'behind 10,000 tasks of 10 ms', 'behind 10,000 no-op tasks')
    """
    if nap_s is None:
        return IDLE
    return f"behind {backlog:,} tasks of {nap_s * 1e3:g} ms" if nap_s else f"behind {backlog:,} no-op tasks"


def report(found: list[dict[str, Any]], backlog: int, machine: Machine) -> Report:
    """Make the table, and set the 99th percentiles against the bar."""
    table = Report(
        "An urgent task: milliseconds from submit",
        ["who", "situation", "samples", "begun p50", "begun p99", "result p50", "result p99"],
        machine,
    )
    p99: dict[tuple[str, str], float] = {}
    for each in found:
        where = situation(each["nap_s"], backlog)
        cells = [f"{1e3 * quantile(each[what], q):.2f}" for what in ("begun_s", "answered_s") for q in (0.5, 0.99)]
        table.add(each["row"], where, len(each["begun_s"]), *cells)
        p99[each["row"], where] = quantile(each["begun_s"], 0.99)
        if each["row"] == "Balance" and where != IDLE:
            ratio = p99["Balance", where] / p99["Balance", IDLE]
            enough = len(each["begun_s"]) >= SAMPLES_MIN
            table.bar(f"start p99 {where} at most {BAR:g} times idle", f"{ratio:.2f}x", met=ratio <= BAR and enough)
    return table


@pytest.mark.cluster
@pytest.mark.timeout(1200)
@pytest.mark.benchmark(group="latency")
def test_an_urgent_task_starts_as_if_nothing_waited(benchmark: Any) -> None:
    """The bar of two, on whatever machine this runs."""
    found = benchmark.pedantic(measure, args=(300, 10_000, set(PEERS)), rounds=1)
    table = report(found, 10_000, Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--backlog", type=int, default=10_000)
    parser.add_argument("--only", default=",".join(PEERS), help="peers, separated by commas")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray")
    table = report(measure(given.samples, given.backlog, set(given.only.split(","))), given.backlog, machine)
    table.show(given.json)


if __name__ == "__main__":
    main()
