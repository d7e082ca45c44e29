"""Measures of what was forecast against what came, with how sure they are.

Source: R. Hyndman, A. Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
22, 2006 (MASE); R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46, 1978 (pinball loss); E. Wilson,
"Probable inference", JASA 22, 1927 (the interval of a share).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Dict

import numpy as np

from balance.timeseries.series import Array

#: Two-sided 95 %.
_Z = NormalDist().inv_cdf(0.975)


def smape(truth: Array, made: Array) -> float:
    """Return the symmetric mean absolute percentage error, 0 to 200; a step where both are 0 has none.

    Examples
    --------
    >>> smape(np.array([100.0, 0.0]), np.array([300.0, 0.0]))
    50.0
    """
    size = np.abs(truth) + np.abs(made)
    return float(np.mean(200.0 * np.abs(truth - made) / np.where(size > 0, size, 1.0)))


def pinball(truth: Array, made: Array, level: float) -> float:
    """Return the mean pinball loss of a quantile, in the series' unit.

    Examples
    --------
    >>> pinball(np.array([10.0, 10.0]), np.array([8.0, 12.0]), 0.9)
    1.0
    """
    miss = truth - made
    return float(np.maximum(level * miss, (level - 1.0) * miss).mean())


def coverage(truth: Array, quantiles: Mapping[float, Array]) -> Dict[str, Dict[str, Any]]:
    """Return how often the truth lay between two quantiles that mirror each other, by nominal share.

    Returns
    -------
    dict
        By share (``"0.8"`` for 0.1 and 0.9): ``observed``, its 95 % interval ``low`` to ``high``, and ``verdict``:
        ``ok``, ``too_narrow`` (the truth lies outside too often, for sure) or ``too_wide``.

    Examples
    --------
    >>> found = coverage(np.arange(20.0), {0.1: np.full(20, 5.0), 0.9: np.full(20, 9.0)})["0.8"]
    >>> found["observed"], found["verdict"]
    (0.25, 'too_narrow')
    """
    found: Dict[str, Dict[str, Any]] = {}
    for level in sorted(quantiles):
        mirror = next((other for other in quantiles if abs(other - (1.0 - level)) < 1e-9), None)
        if level >= 0.5 or mirror is None:
            continue
        nominal = 1.0 - 2.0 * level
        observed = float(((truth >= quantiles[level]) & (truth <= quantiles[mirror])).mean())
        low, high = wilson(observed, len(truth))
        verdict = "too_narrow" if high < nominal else "too_wide" if low > nominal else "ok"
        found[f"{nominal:g}"] = {"observed": observed, "low": low, "high": high, "verdict": verdict}
    return found


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was seen in `n` cases.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(0.8, 50)]
    [0.67, 0.888]
    """
    centre = share + _Z * _Z / (2 * n)
    reach = _Z * math.sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
    whole = 1 + _Z * _Z / n
    return max(0.0, (centre - reach) / whole), min(1.0, (centre + reach) / whole)


def bias(truth: Array, made: Array) -> Dict[str, Any]:
    """Return whether forecasts are too high or too low on average, and how sure that is.

    Returns
    -------
    dict
        ``mean``: forecast less truth, in the series' unit; ``p_value``: how likely so much would be without a bias,
        errors that depend on the ones before counting as fewer; ``verdict``: ``none``, ``too_high``, ``too_low``
        (at 1 %).

    Examples
    --------
    >>> found = bias(np.arange(40.0), np.arange(40.0) + 2 + np.arange(40) % 2)
    >>> found["mean"], found["verdict"]
    (2.5, 'too_high')
    """
    error = made - truth
    n, mean = len(error), float(error.mean())
    centred = error - mean
    whole = float((centred * centred).sum())
    if whole <= 0.0 or n < 2:
        p_value = float(mean == 0.0 or n < 2)
    else:
        share = max(0.0, float((centred[1:] * centred[:-1]).sum()) / whole)
        effective = max(2.0, n * (1.0 - share) / (1.0 + share))
        p_value = 2.0 * NormalDist().cdf(-abs(mean) / math.sqrt(whole / (n - 1) / effective))
    verdict = "none" if p_value > 0.01 else "too_high" if mean > 0 else "too_low"
    return {"mean": mean, "p_value": p_value, "verdict": verdict}
