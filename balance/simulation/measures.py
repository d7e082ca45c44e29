"""Arithmetic on step functions: amounts that change at moments and stay until the next.

A step function is two arrays: moments, strictly increasing, and the value from each moment on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Steps = tuple[Floats, Floats]


def steps(moments: npt.ArrayLike, changes: npt.ArrayLike) -> Steps:
    """Return the running sum of `changes`, each at its moment; those at NaN never happen.  O(n log n).

    Examples
    --------
    >>> when, what = steps([0.0, 2.0, 2.0, float("nan")], [1, 1, -2, 5])
    >>> when.tolist(), what.tolist()
    ([0.0, 2.0], [1.0, 0.0])
    """
    when, what = np.asarray(moments, dtype=float), np.asarray(changes, dtype=float)
    known = ~np.isnan(when)
    when, what = when[known], what[known]
    order = np.argsort(when, kind="stable")
    when, sums = when[order], np.cumsum(what[order])
    last = np.append(when[1:] != when[:-1], True) if len(when) else np.zeros(0, dtype=bool)
    return when[last], sums[last]


def value_at(function: Steps, moments: npt.ArrayLike) -> Floats:
    """Return the value at each moment; 0 before the first step."""
    when, what = function
    index = np.searchsorted(when, np.asarray(moments, dtype=float), side="right")
    return np.concatenate(([0.0], what))[index]


def mean(function: Steps, begin: float, end: float) -> float:
    """Return the mean value from `begin` to `end`; NaN if there is nothing between them.

    Examples
    --------
    >>> mean(steps([0.0, 1.0], [4, -4]), 0.0, 2.0)
    2.0
    """
    if not end > begin:
        return float("nan")
    when, what = function
    inner = (when > begin) & (when < end)
    edges = np.concatenate(([begin], when[inner], [end]))
    values = np.concatenate((value_at(function, [begin]), what[inner]))
    return float(np.dot(values, np.diff(edges)) / (end - begin))


def quantiles(values: Floats) -> dict[str, Any]:
    """Return ``count``, ``p50_s``, ``p95_s``, ``p99_s`` and ``max_s`` of times in seconds; None without values."""
    if not len(values):
        return {"count": 0, "p50_s": None, "p95_s": None, "p99_s": None, "max_s": None}
    middle, late, latest = np.quantile(values, (0.5, 0.95, 0.99))
    return {
        "count": len(values),
        "p50_s": float(middle),
        "p95_s": float(late),
        "p99_s": float(latest),
        "max_s": float(np.max(values)),
    }
