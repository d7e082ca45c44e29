"""From readings at any moments, in any order, to equal steps with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balance.errors import InvalidValue
from balance.timeseries.series import LONGEST, Array
from balance.timeseries.timestamps import parse_timestamp
from balance.types import check_number


@dataclass(frozen=True, slots=True, eq=False)
class Regular:
    """A series in equal steps.

    Attributes
    ----------
    values : ndarray of shape (n,)
        Oldest first; NaN where no reading fell into a step.  The newest 4032 steps at most.
    step_s : float
        The distance of two steps, in the timestamps' unit (seconds for times).
    last : float
        When the last step was.
    duplicates : int
        Readings that shared a step with another; their mean was taken.
    unordered : int
        Readings that were older than the one before.
    gaps : int
        Steps without a reading.
    """

    values: Array
    step_s: float
    last: float
    duplicates: int
    unordered: int
    gaps: int


def regular(values: Sequence[float] | Array, timestamps: Sequence[object], step_s: float | None = None) -> Regular:
    """Put `values` on equal steps, counted back from the newest reading.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Readings; NaN and infinite ones are gaps.
    timestamps : sequence, shape (n,)
        When each was taken: POSIX seconds, ISO 8601, or any number that counts equal steps.
    step_s : float, optional
        The step; the usual distance of two readings where it is left out, 1 where all are of one moment.

    Raises
    ------
    InvalidValue
        Not as many timestamps as values, a timestamp that is none, a step of 0 or less.

    Notes
    -----
    O(n log n); a gap of years costs nothing, since older steps than the newest 4032 are left out.

    Examples
    --------
    >>> made = regular([3.0, 1.0, 5.0, 7.0], [20, 0, 40, 40])
    >>> made.values.tolist(), made.step_s, made.duplicates, made.unordered
    ([1.0, 3.0, 6.0], 20.0, 1, 1)
    """
    try:
        readings = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise InvalidValue("values", values, "a flat sequence of numbers") from None
    if readings.ndim != 1 or isinstance(timestamps, str) or len(timestamps) != len(readings):
        raise InvalidValue("timestamps", timestamps, f"as many as there are values ({readings.size})")
    at = np.array([parse_timestamp(stamp) for stamp in timestamps])
    step = None if step_s is None else check_number("step_s", step_s, what="number of seconds")
    if step is not None and step <= 0:
        raise InvalidValue("step_s", step_s, "a number of seconds above 0")
    if not at.size:
        return Regular(np.zeros(0), step or 1.0, 0.0, 0, 0, 0)
    moments = np.unique(at)
    if step is None:
        step = float(np.quantile(np.diff(moments), 0.5, method="lower")) if len(moments) > 1 else 1.0
    with np.errstate(over="ignore"):
        back = np.rint(np.minimum((moments[-1] - at) / step, LONGEST))
    kept = back < LONGEST
    counted = back[kept].astype(int)
    size = int(counted.max()) + 1
    finite = np.isfinite(readings[kept])
    counts = np.bincount(counted[finite], minlength=size)
    # Divided before they are summed: the sum of two huge readings would overflow.
    sums = np.zeros(size)
    np.add.at(sums, counted[finite], readings[kept][finite] / np.maximum(counts, 1)[counted[finite]])
    means = np.where(counts > 0, sums, np.nan)[::-1]
    return Regular(
        values=means,
        step_s=step,
        last=float(moments[-1]),
        duplicates=int(kept.sum()) - int((np.bincount(counted, minlength=size) > 0).sum()),
        unordered=int((np.diff(at) < 0).sum()),
        gaps=int((counts == 0).sum()),
    )
