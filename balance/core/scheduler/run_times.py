"""How long tasks run: learned per task name, for backfill and for estimated starts.

Smoothed mean and mean deviation as TCP estimates its round trips (V. Jacobson, "Congestion Avoidance and
Control", 1988; RFC 6298: gains 1/8 and 1/4, bound = mean + 4 deviations).  One pass, no history.

What submitters say about run times is often wrong, and mostly in one direction.  So a guess is scaled by
how guesses for that name turned out, and believed only as long as it, so scaled, errs less than the plain
mean does (D. Tsafrir, Y. Etsion & D. Feitelson, "Backfilling Using System-Generated Predictions Rather
than User Runtime Estimates", IEEE TPDS 18(6), 2007).  A guess for a name that nobody has measured is
taken as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from balance.core.scheduler.task import Task

_MEAN_GAIN = 1 / 8
_DEVIATION_GAIN = 1 / 4
_DEVIATIONS = 4.0


class _Known:
    """What is known of one name, in seconds.

    `guessed` and `guess` are the smoothed run times and guesses of those that came with a guess (0 for
    none), `error` is how far scaled guesses were off.
    """

    __slots__ = ("deviation", "error", "guess", "guessed", "mean")

    def __init__(self, mean: float, deviation: float, guessed: float, guess: float, error: float) -> None:
        self.mean = mean
        self.deviation = deviation
        self.guessed = guessed
        self.guess = guess
        self.error = error

    def learn(self, run_s: float, guess_s: float | None) -> None:
        self.deviation += _DEVIATION_GAIN * (abs(run_s - self.mean) - self.deviation)
        self.mean += _MEAN_GAIN * (run_s - self.mean)
        if not guess_s:
            return
        if not self.guess:
            self.guessed, self.guess, self.error = run_s, guess_s, abs(run_s - guess_s)
            return
        self.error += _DEVIATION_GAIN * (abs(run_s - guess_s * self.guessed / self.guess) - self.error)
        self.guessed += _MEAN_GAIN * (run_s - self.guessed)
        self.guess += _MEAN_GAIN * (guess_s - self.guess)

    def predict(self, guess_s: float | None) -> tuple[float, float]:
        if guess_s is None:
            return self.mean, self.deviation
        if not self.guess:
            return guess_s, 0.0
        return (
            (guess_s * self.guessed / self.guess, self.error)
            if self.error <= self.deviation
            else (
                self.mean,
                self.deviation,
            )
        )


class RunTimes:
    """Measured run times by task name.

    Parameters
    ----------
    names_max : int
        How many names are remembered; the one not seen for longest is forgotten first.

    Examples
    --------
    >>> times = RunTimes()
    >>> for seconds in (2.0, 2.0, 2.0):
    ...     times.learn("fit", seconds)
    >>> times.mean_s("fit"), times.bound_s("fit") > 2.0, times.mean_s("unknown")
    (2.0, True, None)
    >>> times.predict("fit", None), times.predict("unknown", 7.0), times.predict("unknown", None)
    ((2.0, 0.5625), (7.0, 0.0), None)
    """

    def __init__(self, names_max: int = 4096) -> None:
        self._names_max = names_max
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def learn(self, name: str, run_s: float, guess_s: float | None = None) -> None:
        """Take one measured run time, in seconds, and what had been guessed, into account."""
        known = self._known.get(name)
        if known is not None:
            known.learn(run_s, guess_s)
            self._known.move_to_end(name)
            return
        guess = guess_s or 0.0
        guessed, error = (run_s, abs(run_s - guess)) if guess else (0.0, 0.0)
        self._known[name] = _Known(run_s, run_s / 2, guessed, guess, error)
        if len(self._known) > self._names_max:
            self._known.popitem(last=False)

    def mean_s(self, name: str) -> float | None:
        """Return the expected run time in seconds; None if none was measured."""
        known = self._known.get(name)
        return known.mean if known is not None else None

    def bound_s(self, name: str) -> float | None:
        """Return a run time, in seconds, that is rarely exceeded; None if none was measured."""
        known = self._known.get(name)
        return known.mean + _DEVIATIONS * known.deviation if known is not None else None

    def predict(self, name: str, guess_s: float | None) -> tuple[float, float] | None:
        """Return the expected run time and its mean deviation, in seconds; None if nobody knows.

        `guess_s` is what the submitter said.
        """
        known = self._known.get(name)
        if known is not None:
            return known.predict(guess_s)
        return (guess_s, 0.0) if guess_s is not None else None

    def longest_s(self, task: Task) -> float | None:
        """Return how long an attempt of `task` may be expected to last at most; None if nobody knows."""
        predicted = self.predict(task.spec.name, task.spec.expected_run_s)
        timeout_s = task.spec.timeout_s
        if predicted is None:
            return timeout_s
        longest_s = predicted[0] + _DEVIATIONS * predicted[1]
        return longest_s if timeout_s is None else min(longest_s, timeout_s)

    def expected_end(self, task: Task, now: float) -> float:
        """Return when a running task is expected to end, in POSIX seconds, never before `now`.

        What has run longer than expected, or was never measured, is expected to run for as long again
        as it has run already (Lindy's law: all that is known is that it is still there).
        """
        started = now if task.started_at is None else task.started_at
        predicted = self.predict(task.spec.name, task.spec.expected_run_s)
        if predicted is not None and started + predicted[0] > now:
            return started + predicted[0]
        return now + (now - started)

    def snapshot(self) -> dict[str, Any]:
        """Return what was learned: five numbers of seconds by name, the latest name last."""
        return {
            name: [known.mean, known.deviation, known.guessed, known.guess, known.error]
            for name, known in self._known.items()
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._known = OrderedDict((name, _Known(*map(float, numbers))) for name, numbers in data.items())
