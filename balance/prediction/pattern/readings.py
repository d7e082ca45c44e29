"""What was recorded of a model, cut so that a window and its past can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.timeseries.history import History
from balance.timeseries.season import find_seasons
from balance.timeseries.series import Array, clean
from balance.types import check_id, check_number

#: A window is looked at in at least so many steps, where the history is fine enough.  The coarser the steps, the
#: further back the history reaches: with its default tiers, windows of six hours and more see days and weeks.
STEPS = 36
#: Fewer known steps in a window than this say nothing of it.
ENOUGH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """A window of a series and what came before it.

    Attributes
    ----------
    status : str
        ``ok``, ``unknown`` (nothing was ever recorded), ``insufficient_data`` (fewer than 8 steps of the window are
        known) or ``constant`` (everything known is the same).
    values : ndarray of shape (n,)
        Oldest first, from the first known step on; NaN where nothing is known.  Events are per second.
    start_s : float
        When the first of them begins, POSIX seconds.
    step_s : float
        Seconds a step.
    window : int
        How many of the last values are in the window.
    unit : str
        ``per_second`` for events, ``value`` for gauges.
    """

    status: str
    values: Array
    start_s: float
    step_s: float
    window: int
    unit: str

    @property
    def recent(self) -> Array:
        """The values in the window."""
        return self.values[len(self.values) - self.window :]

    @property
    def known(self) -> Array:
        """The values in the window that are known."""
        recent = self.recent
        return recent[np.isfinite(recent)]

    @property
    def first(self) -> int:
        """The index of the window's first value."""
        return len(self.values) - self.window

    def at(self, index: int) -> float:
        """Return when a value's step begins, POSIX seconds."""
        return self.start_s + float(index) * self.step_s

    def seasons(self) -> tuple[int, ...]:
        """Return the season lengths of all that is known, in steps."""
        series = clean(self.values)
        return find_seasons(series.values) if series.observed >= ENOUGH else ()


class HistoryReader:
    """What `UsageAnalyzer`, `BehaviorAnalyzer` and `TrendDetector` share: where they read.

    Parameters
    ----------
    history : History, optional
        Shared with whoever records; an empty one of its own by default.
    clock : Clock, optional
        Says where a window ends.
    series : str, default "arrivals/{model_id}"
        The name of a model's series in the history.
    kind : str, default "sum"
        ``sum``: the series are events, a step without one is 0; ``mean``: they are gauges, such a step is a gap.
    """

    def __init__(
        self,
        *,
        history: History | None = None,
        clock: Clock | None = None,
        series: str = "arrivals/{model_id}",
        kind: str = "sum",
    ) -> None:
        if kind not in {"sum", "mean"}:
            raise InvalidValue("kind", kind, "sum (events) or mean (gauges)")
        if "{model_id}" not in series:
            raise InvalidValue("series", series, "a name with {model_id} in it")
        self._clock: Clock = clock or default("clock")
        self._history = History() if history is None else history
        self._series = series
        self._kind = kind

    def record(self, model_id: str, at: float, value: float = 1.0) -> None:
        """Record events or a reading at POSIX second `at`, where nobody else does; see `History.add`."""
        self._history.add(self._name(model_id), at, value)

    def read(self, model_id: str, time_window: Any) -> Readings:
        """Return the last `time_window` seconds of a model, and what is known from before at the same step.

        The window ends with the last complete step.  `InvalidValue` for a window shorter than the finest step.
        """
        name = self._name(model_id)
        base = self._history.base_step_s
        window_s = check_number("time_window", time_window, minimum=base, what="number of seconds")
        step, bins = self._history.resolution(window_s / STEPS)
        now = self._clock.wall()
        values = self._history.values(name, step, bins, now, self._kind)
        start = (now // step) * step - bins * step
        window = min(bins, max(1, round(window_s / step)))
        if self._kind == "sum":
            values = values / step
        unit = "per_second" if self._kind == "sum" else "value"
        status = "unknown" if self._history.latest(name) is None else _status(values, window)
        known = np.flatnonzero(np.isfinite(values))
        skipped = min(int(known[0]) if known.size else len(values), len(values) - window)
        return Readings(status, values[skipped:], start + skipped * step, step, window, unit)

    def _name(self, model_id: str) -> str:
        return self._series.replace("{model_id}", check_id("model_id", model_id))


def _status(values: Array, window: int) -> str:
    recent = values[len(values) - window :]
    if int(np.isfinite(recent).sum()) < ENOUGH:
        return "insufficient_data"
    return "constant" if np.nanmin(values) == np.nanmax(values) else "ok"
