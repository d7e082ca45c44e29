"""From dated records, in any order, to equal steps that a forecaster can work on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balance.timeseries.history import History
from balance.timeseries.series import Array

#: Step widths that people read easily, in seconds; beyond the last, whole days.
READABLE_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
#: Steps that a series is cut into, at most.
MOST_STEPS = 1000
#: Width of the steps that recorded series are read in, where the history is as fine.
RECORDED_STEP_S = 10.0


def readable_step(seconds: float) -> float:
    """Return the shortest readable step of at least `seconds`, give or take a tenth: clocks jitter.

    Examples
    --------
    >>> readable_step(7.3), readable_step(10.4), readable_step(100_000)
    (10.0, 10.0, 172800.0)
    """
    day = READABLE_S[-1]
    return float(next((step for step in READABLE_S if step >= 0.9 * seconds), -(-seconds // day) * day))


def sum_by_step(times: Sequence[float], amounts: Sequence[float]) -> tuple[Array, float] | None:
    """Return (sums, step in seconds) of events; a step without an event is 0.

    The step is so wide that one holds an event on average.  Steps are counted back from the last event, so
    the newest is whole; the oldest, which began before the first event, is left out.  None where all events
    happened at one moment.

    Examples
    --------
    >>> sums, step_s = sum_by_step([0, 10, 20, 40], [5, 5, 5, 5])
    >>> sums.tolist(), step_s
    ([5.0, 5.0], 15.0)
    """
    at, values = np.asarray(times, dtype=float), np.asarray(amounts, dtype=float)
    span = float(np.ptp(at)) if at.size else 0.0
    if span <= 0:
        return None
    step = readable_step(max(span / (len(at) - 1), span / MOST_STEPS))
    back = ((at.max() - at) // step).astype(int)
    whole = max(1, int(span // step))
    sums = np.bincount(back[back < whole], weights=values[back < whole], minlength=whole)
    return sums[::-1].astype(float), step


def mean_by_step(times: Sequence[float], readings: Sequence[float]) -> tuple[Array, float] | None:
    """Return (means, step in seconds) of a gauge; a step without a reading is NaN.

    The step is the usual distance between two readings.  None where all readings are of one moment.

    Examples
    --------
    >>> means, step_s = mean_by_step([30, 0, 10, 10], [4.0, 1.0, 2.0, 3.0])
    >>> means.tolist(), step_s
    ([1.0, 2.5, nan, 4.0], 10.0)
    """
    at, values = np.asarray(times, dtype=float), np.asarray(readings, dtype=float)
    moments = np.unique(at)
    if len(moments) < 2:
        return None
    span = float(moments[-1] - moments[0])
    step = readable_step(max(float(np.quantile(np.diff(moments), 0.5, method="lower")), span / MOST_STEPS))
    back = ((at.max() - at) // step).astype(int)[np.isfinite(values)]
    size = int(span // step) + 1
    counts = np.bincount(back, minlength=size)
    sums = np.bincount(back, weights=values[np.isfinite(values)], minlength=size)
    means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    return means[::-1], step


def recorded(
    history: History, series: str, kind: str, now: float, step_s: float = RECORDED_STEP_S
) -> tuple[Array, float]:
    """Return (values from the first known step on, step in seconds) of a recorded series; empty if unknown."""
    step, bins = history.resolution(step_s)
    values = history.values(series, step, bins, now, kind)
    known = np.flatnonzero(np.isfinite(values))
    return (values[known[0] :] if known.size else values[:0]), step
