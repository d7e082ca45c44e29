"""Forecasts of M4's hourly series against the simple rivals, with their intervals and what they cost.

    OMP_NUM_THREADS=1 python tests/bench/bench_forecast.py FOLDER [--season 24,168] [--every K] [--out FILE]

FOLDER holds the competition's `train.csv` and `test.csv` (id, V2, V3 ...; github.com/Mcompetitions/M4-methods
has them as Hourly-train.csv and Hourly-test.csv).  `--out` writes the point forecasts as id, F1 ... F48.
CPU time counts, not the clock on the wall: the machine may have other work.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from harness.m4 import HOURS, load, mase, naive2, owa, smape
from harness.machine import Machine
from harness.table import Report

from balance.timeseries import CombinedForecaster, Forecast
from balance.timeseries.conformal import error_quantiles
from balance.timeseries.series import Array

HORIZON = 48
OWA_BAR, CPU_BAR_S, PUBLISHED = 0.39, 1.0, 0.410
#: The most that the mean coverage of the 80 % interval may be.
COVERAGE_MOST = 0.85


def measure(
    train: dict[str, np.ndarray], season: tuple[int, ...] | None, every: int = 1
) -> tuple[dict[str, Forecast], list[Array], float]:
    """Forecast each series by itself; return the forecasts, the errors of each backtest and CPU seconds a series."""
    forecaster = CombinedForecaster()
    names = list(train)[::every]
    forecaster.forecast(train[names[0]], HORIZON, season)  # imports statsmodels
    begun = time.process_time()
    made, errors = {}, []
    for number, name in enumerate(names):
        learnt = forecaster.calibrate(train[name], HORIZON, season)
        made[name] = forecaster.forecast(train[name], HORIZON, calibration=learnt)
        errors += [learnt.errors] if learnt is not None else []
        if number % 20 == 19:
            print(f"{number + 1} of {len(names)} series", file=sys.stderr, flush=True)
    return made, errors, (time.process_time() - begun) / len(names)


def within_reach(errors: list[Array]) -> float:
    """Return on what share of past paths more than 60 % lay within the band, were each series' width known.

    Each series' band is widened or narrowed until it holds `COVERAGE_MOST` of the errors of that series' own
    backtest, which only hindsight can.  The errors of a path go together, so that some paths leave even that
    band for most of their steps: no width that stays the same at all moments does better.

    Examples
    --------
    >>> paths = np.random.default_rng(0).normal(0, 1, (200, 48))
    >>> within_reach([paths]) == 1, 0.75 < within_reach([np.repeat(paths[:, :1], 48, axis=1)]) < 0.9
    (True, True)
    """
    shares = []
    for paths in errors:
        width = np.maximum(error_quantiles(paths, paths.shape[1], [0.9])[0.9], 1e-12)
        size = np.abs(paths) / width
        shares.append(float(((size <= np.quantile(size, COVERAGE_MOST)).mean(axis=1) > 0.6).mean()))
    return float(np.mean(shares))


def interval_loss(past: Array, truth: Array, made: Forecast) -> float:
    """Return the mean pinball loss of the 0.1 and the 0.9 quantile, over the error of "as a day ago"."""
    losses = [
        np.maximum(q * (truth - at), (q - 1) * (truth - at)).mean() for q, at in made.quantiles.items() if q != 0.5
    ]
    return float(np.mean(losses) / np.abs(past[HOURS:] - past[:-HOURS]).mean())


def report(  # noqa: PLR0917 (what was measured, and on what)
    made: dict[str, Forecast],
    paths: list[Array],
    cpu_s: float,
    train: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    machine: Machine,
) -> Report:
    """Make the table, and set it against the bars."""
    points = {
        "Balance": {name: one.point for name, one in made.items()},
        "seasonal naive": {name: np.resize(train[name][-HOURS:], HORIZON) for name in made},
        "Naive2": {name: naive2(train[name], HORIZON) for name in made},
    }
    errors = {
        who: np.array([[smape(test[name], f[name]), mase(train[name], test[name], f[name])] for name in made])
        for who, f in points.items()
    }
    table = Report("M4 Hourly, 48 steps ahead", ["who", "sMAPE", "MASE", "OWA", "CPU s a series"], machine)
    for who, found in errors.items():
        mean = found.mean(axis=0)
        cost = f"{cpu_s:.3f}" if who == "Balance" else ""
        table.add(who, f"{mean[0]:.2f}", f"{mean[1]:.3f}", f"{owa(found, errors['Naive2']):.4f}", cost)
    inside = np.array(
        [((test[name] >= one.quantiles[0.1]) & (test[name] <= one.quantiles[0.9])).mean() for name, one in made.items()]
    )
    ours, halves = errors["Balance"], [slice(0, None, 2), slice(1, None, 2)]
    table.facts["series"] = len(made)
    table.facts["OWA of every other series, and of the others"] = ", ".join(
        f"{owa(ours[half], errors['Naive2'][half]):.4f}" for half in halves
    )
    table.facts["OWA of the best published"] = PUBLISHED
    losses = [interval_loss(train[name], test[name], one) for name, one in made.items()]
    table.facts["pinball loss of the 80 % interval's ends, over the error of a day ago"] = f"{np.mean(losses):.4f}"
    table.facts["series above 60 % were each one's width known, at a mean of 85 %"] = f"{within_reach(paths):.1%}"
    score = owa(ours, errors["Naive2"])
    table.bar(f"OWA at most {OWA_BAR}", f"{score:.4f}", met=score <= OWA_BAR)
    table.bar(f"CPU a series at most {CPU_BAR_S:g} s", f"{cpu_s:.3f} s", met=cpu_s <= CPU_BAR_S)
    held, well = inside.mean(), (inside > 0.6).mean()
    table.bar("coverage of the 80 % interval, 75 to 85 %", f"{held:.1%}", met=bool(0.75 <= held <= COVERAGE_MOST))
    table.bar("coverage above 60 % on 95 % of the series", f"{well:.1%}", met=bool(well >= 0.95))
    return table


def rates(days: int) -> np.ndarray:
    """Return requests in each five minutes of `days` days: a daily curve, slow swings and noise."""
    rng = np.random.default_rng(7)
    at = np.arange(288 * days)
    swing = np.cumsum(rng.normal(0, 0.01, len(at)))
    level = 300 * (1.2 + np.sin(2 * np.pi * at / 288)) * np.exp(swing - swing.mean())
    return rng.poisson(level).astype(float)


@pytest.mark.benchmark(group="forecast")
@pytest.mark.parametrize("budget_s", [0.05, 1.0])
def test_a_week_is_learnt_from_nothing(benchmark, budget_s):
    """What learning 2016 five-minute steps costs."""
    learnt = benchmark(CombinedForecaster(budget_s=budget_s).calibrate, rates(7), 12)
    assert learnt.weights


@pytest.mark.benchmark(group="forecast")
@pytest.mark.parametrize("days", [2, 7])
def test_a_series_that_went_on_for_an_hour_is_learnt(benchmark, days):
    """What going on costs: one new origin, and the parameters of the methods in use."""
    values, forecaster = rates(days + 1), CombinedForecaster(budget_s=0.05)
    learnt = forecaster.calibrate(values[: 288 * days], 12)
    went_on = benchmark(forecaster.calibrate, values[12 : 288 * days + 12], 12, previous=learnt)
    assert went_on is not learnt


@pytest.mark.benchmark(group="forecast")
def test_a_known_series_is_forecast(benchmark):
    """What the next forecast costs when the series is known."""
    forecaster = CombinedForecaster(budget_s=0.05)
    learnt = forecaster.calibrate(rates(7), 12)
    made = benchmark(forecaster.forecast, rates(7), 12, calibration=learnt)
    assert made.status == "ok"


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="holds train.csv and test.csv")
    parser.add_argument("--out", type=Path, help="where to write the point forecasts")
    parser.add_argument("--every", type=int, default=1, help="only every K-th series")
    parser.add_argument("--season", default="auto", help="steps, separated by commas; found where left out")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    if not (given.folder / "train.csv").exists():
        parser.error(f"{given.folder} has no train.csv: see the first lines of this file for where to get it")
    season = None if given.season == "auto" else tuple(int(steps) for steps in given.season.split(","))
    machine = Machine.here("numpy", "scipy", "statsmodels")
    train, test = load(given.folder / "train.csv"), load(given.folder / "test.csv")
    made, paths, cpu_s = measure(train, season, given.every)
    report(made, paths, cpu_s, train, test, machine).show(given.json)
    if given.out is not None:
        with given.out.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(["id", *(f"F{step}" for step in range(1, HORIZON + 1))])
            writer.writerows([name, *one.point.tolist()] for name, one in made.items())


if __name__ == "__main__":
    main()
