"""A load that comes back every period, lived through once for each way of deciding: what two benches share.

Here is what the benches themselves need: the command line, the visit, the comparison.  What their peers need on the
cluster is in `harness.plays`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.machine import Machine
from harness.table import Report, quantile
from harness.visits import visit

TIMEOUT_S = 400.0
DEARER = 1.1
"""What may cost so many times as much still counts as about as dear."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a bench is asked to do.

    Attributes
    ----------
    periods, period_s : int
        How many periods each way of deciding lives through, and how long one is.
    coverage : float
        How often capacity shall suffice.
    seed : int
        Of the requests' moments.
    """

    periods: int = 2
    period_s: int = 30
    coverage: float = 0.6
    seed: int = 1

    def measure(self, peer: str) -> list[dict[str, Any]]:
        """Let the peer play every way of deciding, in one process of its own."""
        print(f"{self.periods} periods of {self.period_s} s for each ...", file=sys.stderr, flush=True)
        return visit(peer, asdict(self), timeout_s=TIMEOUT_S)


def command_line(
    description: str | None, peer: str, usual: Given, report: Callable[[list[dict[str, Any]], Given, Machine], Report]
) -> None:
    """Measure as the command line says, and show the report."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--periods", type=int, default=usual.periods)
    parser.add_argument("--period", type=int, default=usual.period_s, help="seconds")
    parser.add_argument("--coverage", type=float, default=usual.coverage, help="how often capacity shall suffice")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    said = parser.parse_args()
    given = Given(said.periods, said.period, said.coverage, said.seed)
    machine = Machine.here("ray")
    report(given.measure(peer), given, machine).show(said.json)


def paid(levels: Sequence[Sequence[float]]) -> float:
    """Return what was paid for: the area under ``[at, amount]`` samples, each of which holds until the next.

    Examples
    --------
    >>> paid([[0.0, 2], [1.5, 4], [2.0, 0]])
    5.0
    """
    return sum(amount * (after - at) for (at, amount), (after, _) in pairwise(levels))


def waits(latency_s: Sequence[float]) -> tuple[str, str]:
    """Return the median and the 0.95 quantile of some latencies, in words."""
    known = latency_s or [0.0]
    return f"{quantile(known, 0.5):.2f}", f"{quantile(known, 0.95):.2f}"


def against(table: Report, rival: str, unit: str, ours: tuple[int, float], theirs: tuple[int, float]) -> None:
    """Add a bar: fewer misses than a rival, or as few, for about the same cost or less.

    Parameters
    ----------
    table : Report
        Where it is added.
    rival, unit : str
        Whom we are compared with, and what costs are counted in.
    ours, theirs : tuple of (int, float)
        Misses and cost.

    Examples
    --------
    >>> table = Report("t", [], Machine("cpu", 2, 8.0, 0.0, "3.11", {}, "2026-01-01"))
    >>> against(table, "the rival", "replica-seconds", (3, 100.0), (10, 95.0))
    >>> against(table, "the rival", "replica-seconds", (3, 100.0), (10, 80.0))
    >>> [each["met"] for each in table.bars], table.bars[0]["measured"]
    ([True, False], '3 for 100 against 10 for 95 (1.05 times the cost)')
    """
    (few, cost), (many, dear) = ours, theirs
    times = cost / dear if dear else float("inf")
    table.bar(
        f"fewer misses than {rival}, for at most {DEARER:g} times the {unit}, or as few for less",
        f"{few} for {cost:.0f} against {many} for {dear:.0f} ({times:.2f} times the cost)",
        met=(few < many and times <= DEARER) or (few == many and times < 1),
    )
