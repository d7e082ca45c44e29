"""How often changes of level, trends and drifts are called where there are none, and found where there are some.

    python tests/bench/bench_patterns.py [--series N] [--json FILE]

Drawn with a seed: normal and heavy-tailed noise, counts, noise that depends on itself, random walks.  Rival of the
change points: a binary segmentation by Welch's t at the same 1 % (Bonferroni over the places); of the trend: the plain
Mann-Kendall test.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
from harness.machine import Machine
from harness.table import Report

from balance.clock import FakeClock
from balance.prediction.pattern import BehaviorAnalyzer
from balance.timeseries.change_points import SHORTEST, find_changes
from balance.timeseries.drift import DriftDetector
from balance.timeseries.trend import find_trend

Draw = Callable[[np.random.Generator, int], np.ndarray]


def dependent(share: float) -> Draw:
    """Return what draws a first-order process."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        made = rng.normal(size=n)
        for at in range(1, n):
            made[at] += share * made[at - 1]
        return made

    return draw


KINDS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "Student's t, 2 degrees": lambda rng, n: rng.standard_t(2, size=n),
    "counts, mean 3": lambda rng, n: rng.poisson(3, n).astype(float),
    "dependent, 0.5": dependent(0.5),
    "dependent, 0.8": dependent(0.8),
    "random walk": lambda rng, n: np.cumsum(rng.normal(size=n)),
}


def welch(values: np.ndarray) -> bool:
    """Say whether the best place to cut in two is significant at 1 % by Welch's t."""
    n, best = len(values), 0.0
    for cut in range(SHORTEST, n - SHORTEST):
        a, b = values[:cut], values[cut:]
        error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        best = max(best, abs(a.mean() - b.mean()) / error if error else 0.0)
    return 2 * NormalDist().cdf(-best) * (n - 2 * SHORTEST) < 0.01


def kendall(values: np.ndarray) -> bool:
    """Say whether the plain Mann-Kendall test sees a trend at 5 %."""
    n = len(values)
    i, j = np.triu_indices(n, 1)
    score = float(np.sign(values[j] - values[i]).sum())
    return 2 * NormalDist().cdf(-abs(score) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)) < 0.05


def shifted(values: np.ndarray) -> np.ndarray:
    """Return the values with the second half two standard deviations higher."""
    low, high = np.quantile(values, [0.16, 0.84])
    made = values.copy()
    made[len(made) // 2 :] += high - low or 2.0
    return made


def levels_and_trends(count: int, n: int, machine: Machine) -> Report:
    """Measure both on series of `n` values."""
    columns = ["series", "false changes", "by Welch's t", "shift by 2 sd found", "false trends", "plain Mann-Kendall"]
    table = Report(f"Changes (at 1 %) and trends (at 5 %) of {count} series of {n} values each", columns, machine)
    rng = np.random.default_rng(1)
    for name, draw in KINDS.items():
        drawn = [draw(rng, n) for _ in range(count)]
        trends = [find_trend(values) for values in drawn]
        shares = (
            np.mean([bool(find_changes(values)) for values in drawn]),
            np.mean([welch(values) for values in drawn]),
            np.mean([len(find_changes(shifted(values))) == 1 for values in drawn]),
            np.mean([trend is not None and trend.p_value < 0.05 for trend in trends]),
            np.mean([kendall(values) for values in drawn]),
        )
        table.add(name, *(f"{share:.1%}" for share in shares))
    return table


def drifts(count: int, machine: Machine) -> Report:
    """Measure how often a drift is called, and how soon a doubling is."""
    columns = ["errors", "alarm in 1,000", "doubling noticed after (median)", "within 300"]
    table = Report(f"Drift of {count} streams of errors each", columns, machine)
    rng = np.random.default_rng(2)
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "of single steps": lambda: np.abs(rng.normal(size=1000)),
        "means of 12 steps": lambda: np.abs(rng.normal(size=(1000, 12))).mean(axis=1),
        "heavy-tailed": lambda: np.abs(rng.standard_t(2, size=1000)),
        "dependent, 0.5": lambda: np.abs(dependent(0.5)(rng, 1000)),
    }
    for name, draw in kinds.items():
        alarms, delays = 0, []
        for _ in range(count):
            errors = draw()
            calm, doubled = DriftDetector(), DriftDetector()
            alarms += any(calm.update(error) for error in errors.tolist())
            for error in errors[:300].tolist():
                doubled.update(error)
            found = [at for at, error in enumerate((2 * errors[300:600]).tolist()) if doubled.update(error)]
            delays += found[:1]
        table.add(
            name, f"{alarms / count:.1%}", f"{np.median(delays):.0f}" if delays else "", f"{len(delays) / count:.1%}"
        )
    return table


def calm_models(count: int, machine: Machine) -> Report:
    """Measure how often `BehaviorAnalyzer` calls something abnormal of two weeks of days without anything in them."""
    table = Report(f"{count} models with nothing abnormal in their last day", ["requests", "called abnormal"], machine)
    rng, steps = np.random.default_rng(3), np.arange(144 * 13)
    daily = 300 * (1 + 0.7 * np.sin(2 * np.pi * steps / 144))
    for share in (0.0, 0.5, 0.8):
        called = 0
        for _ in range(count):
            clock = FakeClock(epoch=600.0 * len(steps))
            analyzer = BehaviorAnalyzer(clock=clock)
            counts = rng.poisson(daily * np.exp(0.15 * dependent(share)(rng, len(steps))))
            for at, value in enumerate(counts.tolist()):
                analyzer.record("m", 600.0 * at, value)
            called += analyzer.analyze_behavior("m", 86400)["is_abnormal"]
        table.add(f"a day's curve, noise that keeps {share:g} of the one before", f"{called / count:.1%}")
    return table


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--series", type=int, default=200, help="how many of each kind")
    parser.add_argument("--json", type=Path, help="where to write the figures of the changes")
    given = parser.parse_args()
    machine = Machine.here("numpy")
    levels_and_trends(given.series, 150, machine).show(given.json)
    print()
    drifts(given.series, machine).show(None)
    print()
    calm_models(max(1, given.series // 4), machine).show(None)


if __name__ == "__main__":
    main()
