"""M4's hourly series through the command line: what a user gets, with what it costs in all.

    python tests/bench/bench_forecast_command.py FOLDER [--every K] [--budget S] [--points FILE] [--json FILE]

FOLDER holds the competition's `train.csv` and `test.csv`, as for `bench_forecast.py`.  The series are written in long
format, `balance forecast` runs as a process of its own, and its `--out` is scored.  The CPU time is that of the whole
command, of reading, importing and its processes too.  `--points` writes id, f1 ... f48 for the competition's scorer.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness.m4 import load, mase, naive2, owa, smape
from harness.machine import Machine
from harness.table import Report

HORIZON = 48
OWA_BAR, CPU_BAR_S, PUBLISHED = 0.39, 1.0, 0.410


def write_long(series: dict[str, np.ndarray], file: Path) -> None:
    """Write the series one value a row."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["series_id", "timestamp_or_index", "value"])
        for name, values in series.items():
            writer.writerows([name, at, value] for at, value in enumerate(values.tolist()))


def read_long(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read what `balance forecast --out` wrote: by series and column, the steps."""
    found: dict[str, dict[str, list[float]]] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            columns = found.setdefault(row["series_id"], {name: [] for name in ("mean", "q10", "q50", "q90")})
            for name, values in columns.items():
                values.append(float(row[name]))
    return {name: {column: np.array(steps) for column, steps in columns.items()} for name, columns in found.items()}


def run(train: dict[str, np.ndarray], budget_s: float) -> tuple[dict[str, dict[str, np.ndarray]], float]:
    """Return the forecasts and the CPU seconds of the command a series."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "series.csv"), Path(folder, "forecasts.csv")
        write_long(train, source)
        call = [sys.executable, "-m", "actors.cli", "forecast", source, "--horizon", str(HORIZON), "--out", made]
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*call, "--budget", str(budget_s)], check=True, stdout=sys.stderr)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        return read_long(made), spent / len(train)


def report(
    made: dict[str, dict[str, np.ndarray]],
    cpu_s: float,
    train: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    machine: Machine,
) -> Report:
    """Make the table, and set it against the bars."""
    points = {
        "balance forecast": {name: one["mean"] for name, one in made.items()},
        "Naive2": {name: naive2(train[name], HORIZON) for name in made},
        "seasonal naive": {name: np.resize(train[name][-24:], HORIZON) for name in made},
    }
    errors = {
        who: np.array([[smape(test[name], f[name]), mase(train[name], test[name], f[name])] for name in made])
        for who, f in points.items()
    }
    table = Report("M4 Hourly through `balance forecast`", ["who", "sMAPE", "MASE", "OWA", "CPU s a series"], machine)
    for who, found in errors.items():
        mean = found.mean(axis=0)
        cost = f"{cpu_s:.2f}" if who == "balance forecast" else ""
        table.add(who, f"{mean[0]:.2f}", f"{mean[1]:.3f}", f"{owa(found, errors['Naive2']):.4f}", cost)
    inside = np.array([((test[name] >= one["q10"]) & (test[name] <= one["q90"])).mean() for name, one in made.items()])
    table.facts["series"] = len(made)
    table.facts["OWA of the best published"] = PUBLISHED
    score = owa(errors["balance forecast"], errors["Naive2"])
    table.bar(f"OWA at most {OWA_BAR}", f"{score:.4f}", met=score <= OWA_BAR)
    table.bar(f"CPU a series at most {CPU_BAR_S:g} s", f"{cpu_s:.2f} s", met=cpu_s <= CPU_BAR_S)
    table.bar("coverage of the 80 % range, 75 to 85 %", f"{inside.mean():.1%}", met=bool(0.75 <= inside.mean() <= 0.85))
    well = (inside > 0.6).mean()
    table.bar("coverage above 60 % on 95 % of the series", f"{well:.1%}", met=bool(well >= 0.95))
    return table


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="holds train.csv and test.csv")
    parser.add_argument("--every", type=int, default=1, help="only every K-th series")
    parser.add_argument("--budget", type=float, default=1.0, help="of `balance forecast`")
    parser.add_argument("--points", type=Path, help="where to write the point forecasts as id, f1 ... f48")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    if not (given.folder / "train.csv").exists():
        parser.error(f"{given.folder} has no train.csv: see the first lines of this file for where to get it")
    machine = Machine.here("numpy", "scipy", "statsmodels")
    train, test = load(given.folder / "train.csv"), load(given.folder / "test.csv")
    train = {name: train[name] for name in list(train)[:: given.every]}
    made, cpu_s = run(train, given.budget)
    report(made, cpu_s, train, test, machine).show(given.json)
    if given.points is not None:
        with given.points.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(["id", *(f"f{step}" for step in range(1, HORIZON + 1))])
            writer.writerows([name, *one["mean"].tolist()] for name, one in made.items())


if __name__ == "__main__":
    main()
