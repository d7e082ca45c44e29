"""The M4 competition's files and measures: sMAPE, MASE, and OWA against Naive2.

Source: S. Makridakis, E. Spiliotis, V. Assimakopoulos, "The M4 Competition: 100,000 time series and 61
forecasting methods", International Journal of Forecasting 36, 2020, and the competition's guide.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

HOURS = 24


def load(path: Path) -> dict[str, np.ndarray]:
    """Read a file of the competition: a header, then id and values, one series a line."""
    with path.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if row][1:]
    return {row[0]: np.array([float(value) for value in row[1:] if value not in {"", "NA"}]) for row in rows}


def smape(truth: np.ndarray, made: np.ndarray) -> float:
    """Return the symmetric mean absolute percentage error; a step where both are 0 has none.

    Examples
    --------
    >>> round(smape(np.array([100.0, 0.0]), np.array([50.0, 0.0])), 2)
    33.33
    """
    size = np.abs(truth) + np.abs(made)
    return float(np.mean(200 * np.abs(truth - made) / np.where(size > 0, size, 1)))


def mase(past: np.ndarray, truth: np.ndarray, made: np.ndarray) -> float:
    """Return the mean absolute error over that of "as a day ago" on the past."""
    return float(np.abs(truth - made).mean() / np.abs(past[HOURS:] - past[:-HOURS]).mean())


def naive2(past: np.ndarray, horizon: int) -> np.ndarray:
    """Return the last value, adjusted by a multiplicative season where the past has one (90 % test)."""
    centred = past - past.mean()
    lagged = [float((centred[lag:] * centred[:-lag]).sum()) for lag in range(1, HOURS + 1)]
    acf = np.array(lagged) / float((centred * centred).sum())
    if abs(acf[-1]) <= 1.645 / np.sqrt(len(past)) * np.sqrt(1 + 2 * (acf[:-1] ** 2).sum()):
        return np.full(horizon, past[-1])
    window = np.r_[0.5, np.ones(HOURS - 1), 0.5] / HOURS
    ratio = np.full(len(past), np.nan)
    ratio[HOURS // 2 : -HOURS // 2] = past[HOURS // 2 : -HOURS // 2] / np.convolve(past, window, "valid")
    shape = np.array([np.nanmean(ratio[hour::HOURS]) for hour in range(HOURS)])
    shape /= shape.mean()
    phase = (len(past) - 1 + np.arange(horizon + 1)) % HOURS
    return np.asarray(past[-1] / shape[phase[0]] * shape[phase[1:]])


def owa(errors: np.ndarray, naive: np.ndarray) -> float:
    """Return the overall weighted average of (series, 2) sMAPE and MASE, relative to Naive2's."""
    return float((errors.mean(axis=0) / naive.mean(axis=0)).mean())
