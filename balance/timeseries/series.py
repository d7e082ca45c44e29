"""From whatever was measured to an array that a method can work on, and back.

Two steps, both undone at the end: `clean` closes gaps, and `Scale` takes logarithms where a series'
ups and downs are proportional to its level, as those of request rates are.  On the log scale errors are
relative and methods fit robustly; on the plain scale (signed values, or counts so sparse that many are 0,
where a median would say "nothing ever comes") they fit by least squares, so that they forecast the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balance.errors import InvalidValue

Array = NDArray[np.float64]

#: Beyond this a value is a broken reading, not a measurement; squares and sums of it would overflow.
LARGEST = 1e100
#: Above this share of zeros a count is sparse, and its mean is what matters.
SPARSE = 0.02
#: Values kept: two weeks of five-minute steps.  Older ones would cost time and tell little.
LONGEST = 4032


@dataclass(frozen=True, slots=True)
class Clean:
    """A series without gaps.

    Attributes
    ----------
    values : ndarray of shape (n,)
        Finite; starts at the first value that is known.
    observed : int
        How many of them were measured; the others were filled in.
    """

    values: Array
    observed: int


def clean(values: Sequence[float] | Array) -> Clean:
    """Return `values` without gaps: NaN, infinite and absurd (above 1e100) ones are interpolated.

    What is missing at the start is left out; what is missing at the end repeats the last known value.
    Only the newest 4032 values are kept.

    Raises
    ------
    InvalidValue
        Something that is no flat sequence of numbers.

    Examples
    --------
    >>> clean([float("nan"), 1, float("inf"), 3, None]).values.tolist()
    [1.0, 2.0, 3.0, 3.0]
    """
    try:
        # A copy: the caller's array must stay as it was.
        raw = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise InvalidValue("values", values, "a flat sequence of numbers") from None
    if raw.ndim != 1:
        raise InvalidValue("values", values, "a flat sequence of numbers")
    raw = raw[-LONGEST:]
    known = np.flatnonzero(np.isfinite(raw) & (np.abs(raw) <= LARGEST))
    if not known.size:
        return Clean(np.zeros(0), 0)
    full = np.interp(np.arange(known[0], len(raw)), known, raw[known])
    return Clean(full, int(known.size))


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale on which a series is forecast.

    Attributes
    ----------
    log : bool
        ``log(1 + y)``, else the values as they are.
    low, high : float
        The range that a forecast may reach, on the plain scale.
    """

    log: bool
    low: float
    high: float

    @classmethod
    def of(cls, values: Array) -> Scale:
        """Choose the scale of a non-empty series without gaps.

        A forecast may leave the range of the past by twice its width and no further: a fit that runs
        away is a broken fit.  A series that was never negative stays so.
        """
        low, high = float(values.min()), float(values.max())
        room = 2 * max(high - low, 0.1 * max(abs(low), abs(high)))
        log = low >= 0 and float((values == 0).mean()) <= SPARSE
        return cls(log, max(0.0, low - room) if low >= 0 else low - room, high + room)

    def forward(self, values: Array) -> Array:
        """Return `values` on this scale."""
        return np.log1p(values) if self.log else values

    def back(self, scaled: Array) -> Array:
        """Return `scaled` on the plain scale, within the range."""
        if not self.log:
            return np.clip(scaled, self.low, self.high)
        return np.clip(np.expm1(np.clip(scaled, 0.0, np.log1p(self.high))), self.low, self.high)
