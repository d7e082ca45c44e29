"""How long tasks run: learned per task name, for backfill and for estimated starts.

Smoothed mean and mean deviation as TCP estimates its round trips (V. Jacobson, "Congestion Avoidance and
Control", 1988; RFC 6298: gains 1/8 and 1/4, bound = mean + 4 deviations).  One pass, no history.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from balance.core.scheduler.task import Task

_MEAN_GAIN = 1 / 8
_DEVIATION_GAIN = 1 / 4
_DEVIATIONS = 4.0


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
    """

    def __init__(self, names_max: int = 4096) -> None:
        self._names_max = names_max
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def learn(self, name: str, run_s: float) -> None:
        """Take one measured run time, in seconds, into account."""
        known = self._known.get(name)
        if known is None:
            self._known[name] = (run_s, run_s / 2)
            if len(self._known) > self._names_max:
                self._known.popitem(last=False)
            return
        mean, deviation = known
        deviation += _DEVIATION_GAIN * (abs(run_s - mean) - deviation)
        mean += _MEAN_GAIN * (run_s - mean)
        self._known[name] = (mean, deviation)
        self._known.move_to_end(name)

    def mean_s(self, name: str) -> float | None:
        """Return the expected run time in seconds; None if none was measured."""
        known = self._known.get(name)
        return known[0] if known else None

    def bound_s(self, name: str) -> float | None:
        """Return a run time, in seconds, that is rarely exceeded; None if none was measured."""
        known = self._known.get(name)
        return known[0] + _DEVIATIONS * known[1] if known else None

    def longest_s(self, task: Task) -> float | None:
        """Return how long an attempt of `task` may be expected to last at most; None if nobody knows."""
        bounds = [task.spec.timeout_s] if task.spec.timeout_s is not None else []
        guess = task.spec.expected_run_s
        if guess is None:
            guess = self.bound_s(task.spec.name)
        return min([*bounds, guess]) if guess is not None else (bounds[0] if bounds else None)

    def expected_end(self, task: Task, now: float) -> float:
        """Return when a running task is expected to end, in POSIX seconds, never before `now`.

        What has run longer than expected, or was never measured, is expected to run for as long again
        as it has run already (Lindy's law: all that is known is that it is still there).
        """
        started = now if task.started_at is None else task.started_at
        run_s = task.spec.expected_run_s
        if run_s is None:
            run_s = self.mean_s(task.spec.name)
        if run_s is not None and started + run_s > now:
            return started + run_s
        return now + (now - started)

    def snapshot(self) -> dict[str, Any]:
        """Return what was learned: ``{name: [mean_s, deviation_s]}``, the latest name last."""
        return {name: list(pair) for name, pair in self._known.items()}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._known = OrderedDict((name, (float(pair[0]), float(pair[1]))) for name, pair in data.items())
