"""Learning a thousand series anew, beside the control loop: how long, and how late it makes the tick.

    python tests/bench/bench_refresh.py [--series 1000] [--cpu-share 1.0] [--json FILE]

The series are written into the state as if they had been recorded: two weeks of ten-minute counts (2,016) with a day's
and a week's shape, every tenth one short.  *Warm* means that each has been forecast before, and goes on by an hour.
The balancing loop ticks every half second and plans for three models with traffic; how late its ticks begin, and how
long they take, is compared with the same before and after the refresh.
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

BAR_S, LATE_S = 60.0, 0.1


def report(found: dict[str, Any], machine: Machine) -> Report:
    """Make the table of the ticks, and hold the refresh against its bars."""
    refreshed, phases = found["refreshed"], found["ticks"]
    table = Report(
        f"Learning {refreshed['series']} series anew, and the ticks of the control loop meanwhile (milliseconds)",
        ["phase", "ticks", "late: median", "p99", "most", "turn: median", "p99", "most"],
        machine,
    )
    for phase, ticks in phases.items():
        cells = [f"{1000 * quantile(ticks[name], q):.1f}" for name in ("late_s", "took_s") for q in (0.5, 0.99, 1.0)]
        table.add(phase, len(ticks["late_s"]), *cells)
    table.facts = {
        "first forecasts (cold), s": round(found["cold_s"], 1),
        "CPU seconds of the warm refresh": round(refreshed["cpu_s"], 1),
        "CPU milliseconds a series": round(1000 * refreshed["cpu_s"] / max(1, refreshed["series"]), 1),
        "cores that fits may take": found["cores"],
        "fitters": found["fitters"],
        "failed": found["failed"],
    }
    table.bar(f"warm refresh within {BAR_S:g} s", f"{refreshed['seconds']:.1f} s", met=refreshed["seconds"] <= BAR_S)
    usual = max(max(phases[name]["late_s"]) for name in ("quiet before", "quiet after"))
    more = max(phases["refresh"]["late_s"]) - usual
    table.bar(f"no tick later by more than {LATE_S:g} s because of it", f"{more:.3f} s", met=more <= LATE_S)
    return table


def measure(series: int, cpu_share: float, quiet_s: float, seed: int) -> dict[str, Any]:
    """Measure once, in a process of its own."""
    print(f"{series} series, {cpu_share:g} of the cores ...", file=sys.stderr, flush=True)
    given = {"series": series, "cpu_share": cpu_share, "quiet_s": quiet_s, "seed": seed}
    [found] = visit("refresh_balance", given, timeout_s=900.0)
    return found


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.benchmark(group="refresh")
def test_a_thousand_series_are_refreshed_in_a_minute(benchmark: Any) -> None:
    """Both bars, on two cores."""
    found = benchmark.pedantic(measure, args=(1000, 1.0, 20.0, 1), rounds=1)
    table = report(found, Machine.here("ray", "statsmodels", "numpy"))
    print(f"\n{table}")
    assert table.met


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--cpu-share", type=float, default=1.0, help="BALANCE_FORECAST_CPU_SHARE")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds without a refresh, before and after")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    machine = Machine.here("ray", "statsmodels", "numpy")
    report(measure(given.series, given.cpu_share, given.quiet, given.seed), machine).show(given.json)


if __name__ == "__main__":
    main()
