"""Is there a trend, how steep is it, and how sure is that: by ranks and medians, so that outliers do not decide.

The slope is Theil's and Sen's median over all pairs (P. Sen, "Estimates of the regression coefficient based on
Kendall's tau", JASA 63, 1968).  Its significance is Kendall's test, with the variance corrected for values that depend
on the ones before: a series that wanders looks like a trend to the plain test (K. Hamed, A. Rao, "A modified
Mann-Kendall trend test for autocorrelated data", Journal of Hydrology 204, 1998).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Dict

import numpy as np

from balance.timeseries.change_points import dependence
from balance.timeseries.series import LARGEST, Array

#: Longer series are taken in blocks of equal length, each by its median: all pairs of more would be too many.
MOST = 720
#: Fewer values than this carry no trend.
ENOUGH = 8


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through a series.

    Attributes
    ----------
    slope, slope_low, slope_high : float
        Change a step, and its 95 % confidence interval.
    intercept : float
        Where the line begins: at the first value.
    tau : float
        Kendall's, -1 (always falling) to 1 (always rising).
    p_value : float
        How likely so clear an order would be without a trend.
    variance_factor : float
        By how much dependence between values widens the test; 1 is independence.
    """

    slope: float = 0.0
    slope_low: float = 0.0
    slope_high: float = 0.0
    intercept: float = 0.0
    tau: float = 0.0
    p_value: float = 1.0
    variance_factor: float = 1.0

    def line(self, n: int) -> Array:
        """Return the line at steps 0 ... `n` - 1."""
        return np.asarray(self.intercept + self.slope * np.arange(n), dtype=float)

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def find_trend(values: Sequence[float] | Array) -> Trend | None:
    """Return the trend of `values`, or None where fewer than 8 are known.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Equally spaced, oldest first; NaN, infinite and absurd ones are gaps.  Without seasons: a morning is a trend
        to whoever does not know of days.

    Notes
    -----
    O(n^2) up to 720 values, longer series in blocks: at most 50 ms.  Of series without a trend the test at 5 %
    calls 0 to 5 % one (150 and 600 values, first-order dependence up to 0.8), up to 10 % of 40 values, and 25 % of
    random walks.

    Examples
    --------
    >>> rising = [0.5 * step + (step * 7) % 5 for step in range(60)]
    >>> rising[30] = 1e6
    >>> found = find_trend(rising)
    >>> round(found.slope, 1), found.p_value < 0.001
    (0.5, True)
    >>> find_trend([3.0] * 60).p_value
    1.0
    """
    raw = np.asarray(values, dtype=float)
    at, known = _blocks(raw)
    if len(known) < ENOUGH:
        return None
    if np.ptp(known) == 0:
        return Trend(intercept=float(known[0]))
    first, second = np.triu_indices(len(known), 1)
    rise = known[second] - known[first]
    slopes = np.sort(rise / (at[second] - at[first]))
    slope = float(np.median(slopes))
    intercept = float(np.median(known - slope * at))
    factor = _variance_factor(known - slope * at)
    score = float(np.sign(rise).sum())
    spread = math.sqrt(_variance(known) * factor)
    z = (score - math.copysign(1.0, score)) / spread if abs(score) > 1 and spread > 0 else 0.0
    p_value = 2.0 * NormalDist().cdf(-abs(z))
    if factor > 1.0:
        p_value = min(p_value, 2.0 * _p_value_beside_a_walk(known - slope * at, slope * (at[-1] - at[0])))
    reach = NormalDist().inv_cdf(0.975) * spread
    low, high = (round((len(slopes) + side * reach) / 2) for side in (-1, 1))
    return Trend(
        slope=slope,
        slope_low=float(slopes[min(len(slopes) - 1, max(0, low))]),
        slope_high=float(slopes[min(len(slopes) - 1, max(0, high))]),
        intercept=intercept,
        tau=score / len(rise),
        p_value=p_value,
        variance_factor=factor,
    )


def _blocks(raw: Array) -> tuple[Array, Array]:
    """Return the places and values that are known, as medians of blocks where there are too many."""
    good = np.isfinite(raw) & (np.abs(raw) <= LARGEST)
    size = -(-len(raw) // MOST)
    if size <= 1:
        return np.flatnonzero(good).astype(float), raw[good]
    at, medians = [], []
    for start in range(0, len(raw), size):
        inside = np.flatnonzero(good[start : start + size])
        if inside.size:
            at.append(start + float(inside.mean()))
            medians.append(float(np.median(raw[start + inside])))
    return np.array(at), np.array(medians)


def _p_value_beside_a_walk(residual: Array, rise: float) -> float:
    """Return how likely a random walk with the residual's steps would rise as far: the worst that dependence can do.

    Ranks know nothing of size.  Of a clear rise with a little wandering about it they can't say more than of
    wandering alone; this can.
    """
    steps = np.diff(residual)
    spread = math.sqrt(float((steps * steps).sum()))
    return 2.0 * NormalDist().cdf(-abs(rise) / spread) if spread > 0 else float(rise == 0)


def _variance(values: Array) -> float:
    """Return the variance of Kendall's score for independent values, equal ones accounted for."""
    n = len(values)
    _, ties = np.unique(values, return_counts=True)
    return float(n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18.0


def _variance_factor(residual: Array) -> float:
    """Return by how much dependence widens the score's variance, at least 1.

    Hamed and Rao's sum over the lags whose autocorrelation of ranks is significant, up to the first that is not:
    far lags of a short series are mostly chance.  A fitted line takes part of the dependence with it, so the sum is
    not taken to be less than that of a first-order process with the dependence that differences show.
    """
    n = len(residual)
    ranks = np.argsort(np.argsort(residual, kind="stable"), kind="stable").astype(float)
    ranks -= ranks.mean()
    lags = np.arange(1, max(2, n // 3))
    whole = float((ranks * ranks).sum())
    measured = np.array([float((ranks[lag:] * ranks[:-lag]).sum()) for lag in lags]) / whole
    silent = np.flatnonzero(np.abs(measured) < NormalDist().inv_cdf(0.975) / math.sqrt(n))
    measured[silent[0] if silent.size else len(measured) :] = 0.0
    first_order = min(1.0 - 1.0 / n, dependence(residual)) ** lags
    weights = (n - lags) * (n - lags - 1.0) * (n - lags - 2.0)
    added = max(float((weights * measured).sum()), float((weights * first_order).sum()))
    return max(1.0, 1.0 + 2.0 * added / (n * (n - 1.0) * (n - 2.0)))
