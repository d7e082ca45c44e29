"""One resolution of one series: a ring of bins, each with count, sum, minimum and maximum.

A bin is numbered by ``floor(at / step_s)``; the ring holds the newest `bins` numbers.  A bin that
nothing fell into has count 0: a gap is there to be seen, not filled in.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COUNT, SUM, MIN, MAX = range(4)
_EMPTY = np.array([[0.0], [0.0], [math.inf], [-math.inf]])
_START = 64


class Tier:
    """A ring of bins of `step_s` seconds.

    Memory grows with what is in use, by doubling, up to ``32 * bins`` bytes.

    Parameters
    ----------
    step_s : float
        Width of a bin in seconds.
    bins : int
        How many bins are kept.

    Examples
    --------
    >>> tier = Tier(step_s=10.0, bins=6)
    >>> tier.add(101.0, 3.0) and tier.add(109.0, 5.0)
    True
    >>> tier.window(first=10, n=2)[SUM].tolist()
    [8.0, 0.0]
    """

    __slots__ = ("_data", "bins", "first", "last", "step_s")

    def __init__(self, step_s: float, bins: int) -> None:
        self.step_s = step_s
        self.bins = bins
        #: Number of the oldest bin ever written and of the newest; None while empty.
        self.first: int | None = None
        self.last: int | None = None
        self._data: Array = np.repeat(_EMPTY, min(_START, bins), axis=1)

    def add(self, at: float, value: float) -> bool:
        """Put `value` into the bin of `at`; False where that bin is older than the ring.  Amortised O(1)."""
        return self.merge(math.floor(at / self.step_s), 1.0, value, value, value)

    def merge(self, number: int, count: float, total: float, low: float, high: float) -> bool:
        """Merge a whole bin into bin `number`; False where it is older than the ring."""
        if self.last is None or self.first is None:
            self.first = self.last = number
        elif number > self.last:
            self._advance(number)
        elif number <= self.last - self.bins:
            return False
        elif number < self.first:
            self._make_room(self.last - number + 1)
            self.first = number
        data, at = self._data, number % self._data.shape[1]
        data[COUNT, at] += count
        data[SUM, at] += total
        data[MIN, at] = min(data[MIN, at], low)
        data[MAX, at] = max(data[MAX, at], high)
        return True

    def spread(self, start: float, end: float, amount: float) -> None:
        """Spread `amount` evenly over the bins from `start` to `end`; what is older than the ring is left out."""
        if end <= start:
            self.add(end, amount)
            return
        # The bin that only begins at `end` has no part in the time before it.
        newest = max(math.ceil(end / self.step_s) - 1, math.floor(start / self.step_s))
        for number in range(max(math.floor(start / self.step_s), newest - self.bins + 1), newest + 1):
            inside = min(end, (number + 1) * self.step_s) - max(start, number * self.step_s)
            part = amount * inside / (end - start)
            self.merge(number, 1.0, part, part, part)

    def absorb(self, finer: Tier) -> None:
        """Merge all bins of a finer tier, whose step divides this one's, into this one's."""
        if finer.first is None or finer.last is None:
            return
        bins = finer.window(finer.first, finer.last - finer.first + 1)
        for at in np.flatnonzero(bins[COUNT] > 0):
            number = math.floor((finer.first + int(at)) * finer.step_s / self.step_s + 1e-9)
            self.merge(number, *bins[:, at].tolist())

    def window(self, first: int, n: int) -> Array:
        """Return the bins `first` ... `first + n - 1` as an array of shape (4, n); empty ones have count 0."""
        out: Array = np.repeat(_EMPTY, n, axis=1)
        if self.last is None or self.first is None:
            return out
        size = self._data.shape[1]
        low = max(first, self.first, self.last - size + 1)
        high = min(first + n - 1, self.last)
        if low <= high:
            numbers = np.arange(low, high + 1)
            out[:, numbers - first] = self._data[:, numbers % size]
        return out

    def _advance(self, number: int) -> None:
        assert self.last is not None
        assert self.first is not None
        self._make_room(number - self.first + 1)
        size = self._data.shape[1]
        skipped = np.arange(max(self.last + 1, number - size + 1), number + 1)
        self._data[:, skipped % size] = _EMPTY
        self.last = number
        self.first = max(self.first, number - self.bins + 1)

    def _make_room(self, span: int) -> None:
        """Let the ring hold `span` bins, or all that it may."""
        size = self._data.shape[1]
        if span <= size or size == self.bins:
            return
        while size < min(span, self.bins):
            size = min(2 * size, self.bins)
        assert self.last is not None
        old = self.window(self.last - self._data.shape[1] + 1, self._data.shape[1])
        numbers = np.arange(self.last - self._data.shape[1] + 1, self.last + 1)
        self._data = np.repeat(_EMPTY, size, axis=1)
        self._data[:, numbers % size] = old

    def snapshot(self) -> dict[str, Any]:
        """Return the ring as JSON values: ``first``, ``last`` (bin numbers), ``data`` (base64, zlib, float64)."""
        if self.last is None or self.first is None:
            return {"first": None, "last": None, "data": ""}
        used = self.window(self.first, self.last - self.first + 1)
        return {
            "first": self.first,
            "last": self.last,
            "data": base64.b64encode(zlib.compress(used.astype("<f8").tobytes(), 1)).decode("ascii"),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the ring back to what `snapshot` returned; bins that this ring can't hold are left out."""
        fresh = Tier(self.step_s, self.bins)
        if state["last"] is not None:
            raw = np.frombuffer(zlib.decompress(base64.b64decode(state["data"])), dtype="<f8").reshape(4, -1)
            fresh.last = int(state["last"])
            fresh.first = max(int(state["first"]), fresh.last - self.bins + 1)
            kept = raw[:, fresh.first - int(state["first"]) :]
            fresh._make_room(kept.shape[1])
            fresh._data[:, np.arange(fresh.first, fresh.last + 1) % fresh._data.shape[1]] = kept
        self._data, self.first, self.last = fresh._data, fresh.first, fresh.last
