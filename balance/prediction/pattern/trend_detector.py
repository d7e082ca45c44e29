"""Where a model's use is heading: slope, significance, changes of level, and how strong its seasons are."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

import numpy as np

from balance.prediction.pattern.readings import HistoryReader, Readings
from balance.timeseries.change_points import Change, find_changes
from balance.timeseries.decomposition import Decomposition, decompose
from balance.timeseries.series import Array
from balance.timeseries.trend import Trend, find_trend

#: Up to this p-value a trend counts.
SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class TrendReport:
    """What one window is heading for; see `TrendDetector.detect_trend` for the fields."""

    model_id: str
    status: str
    window_s: float
    step_s: float
    known_steps: int
    unit: str
    trend: str = "none"
    slope_per_hour: Optional[float] = None
    slope_low_per_hour: Optional[float] = None
    slope_high_per_hour: Optional[float] = None
    relative_change: Optional[float] = None
    p_value: Optional[float] = None
    tau: Optional[float] = None
    variance_factor: Optional[float] = None
    change_points: List[Dict[str, float]] = field(default_factory=list)
    seasons: List[Dict[str, float]] = field(default_factory=list)
    summary: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class TrendDetector(HistoryReader):
    """Detect where a model's use is heading, out of recorded history; see `HistoryReader` for where it reads.

    Seasons are found in all that is known and taken out first, so that a morning is no trend: with the
    default history in windows of six hours and more; the steps of shorter ones do not reach back for days.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> detector = TrendDetector(clock=clock)
    >>> for minute, count in enumerate(np.random.default_rng(1).poisson(600, 600)):
    ...     detector.record("whisper", clock.wall(), count + minute)
    ...     clock.advance(60)
    >>> found = detector.detect_trend("whisper", time_window=6 * 3600)
    >>> found["trend"], found["p_value"] < 0.001, round(found["slope_per_hour"], 1), found["change_points"]
    ('rising', True, 1.0, [])
    """

    def detect_trend(self, model_id: str, time_window: int = 86400) -> dict:  # type: ignore[type-arg]  # the contract's
        """Say where the last `time_window` seconds are heading.

        Parameters
        ----------
        model_id : str
            The model.
        time_window : int, default 86400
            Seconds, at least the history's finest step.  A long window is looked at in coarser steps.

        Returns
        -------
        dict
            ``model_id``;
            ``status``: ``ok``; ``constant`` (nothing ever varied: no trend); ``insufficient_data`` (fewer than 8
            steps of the window are known) or ``unknown`` (nothing was ever recorded): then what is not known is None;
            ``window_s``, ``step_s`` (seconds), ``known_steps``;
            ``unit``: ``per_second`` (events) or ``value`` (gauges);
            ``trend``: ``rising``, ``falling`` or ``none`` (not significant at 5 %);
            ``slope_per_hour`` and its 95 % interval ``slope_low_per_hour``, ``slope_high_per_hour``: in `unit` an hour;
            ``relative_change``: over the whole window, relative to where the line begins; None where that is 0 or less;
            ``p_value`` (Kendall's test, corrected for dependence), ``tau`` (-1 to 1), ``variance_factor`` (how much the
            correction widened the test);
            ``change_points``: oldest first, each ``at`` (POSIX seconds), ``before``, ``after`` (levels in `unit`),
            ``p_value``; where a line explains the window better than steps do, changes beside that line;
            ``seasons``: shortest first, ``season_s`` (seconds) and ``strength`` (0 to 1) each;
            ``summary``: a sentence.

        Raises
        ------
        InvalidValue
            An empty id, a window that is no number or shorter than the finest step.

        Notes
        -----
        20 to 250 ms, by how much history there is and how many seasons it has.
        """
        seen = self.read(model_id, time_window)
        plain = TrendReport(model_id, seen.status, seen.window * seen.step_s, seen.step_s, len(seen.known), seen.unit)
        if seen.status in {"unknown", "insufficient_data"}:
            return plain.to_dict()
        return _describe(plain, seen).to_dict()


def _describe(plain: TrendReport, seen: Readings) -> TrendReport:
    parts = decompose(seen.values, seen.seasons())
    recent = adjusted(seen, parts)
    trend = find_trend(recent) or Trend()
    hour = 3600.0 / seen.step_s
    line = trend.line(len(recent))
    rising = float(line[-1] - line[0])
    direction = "none" if trend.p_value > SIGNIFICANCE else "rising" if trend.slope > 0 else "falling"
    changes = _changes(recent, trend, significant=direction != "none")
    return TrendReport(
        model_id=plain.model_id,
        status=plain.status,
        window_s=plain.window_s,
        step_s=plain.step_s,
        known_steps=plain.known_steps,
        unit=plain.unit,
        trend=direction,
        slope_per_hour=trend.slope * hour,
        slope_low_per_hour=trend.slope_low * hour,
        slope_high_per_hour=trend.slope_high * hour,
        relative_change=rising / float(line[0]) if line[0] > 1e-9 * float(np.abs(line).max()) else None,
        p_value=trend.p_value,
        tau=trend.tau,
        variance_factor=trend.variance_factor,
        change_points=[
            {
                "at": seen.at(seen.first + change.index),
                "before": change.before,
                "after": change.after,
                "p_value": change.p_value,
            }
            for change in changes
        ],
        seasons=[{"season_s": season * seen.step_s, "strength": parts.strength(season)} for season in parts.seasons],
        summary=_summary(plain.model_id, direction, trend, rising, changes),
    )


def adjusted(seen: Readings, parts: Decomposition) -> Array:
    """Return the window without its seasons, gaps as NaN."""
    recent = seen.recent.copy()
    for seasonal in parts.seasonal.values():
        # What was cut off at the start of the decomposition lies before the window, or is a gap in it.
        there = min(len(recent), len(seasonal))
        recent[len(recent) - there :] -= seasonal[len(seasonal) - there :]
    return recent


def _changes(recent: Array, trend: Trend, *, significant: bool) -> list[Change]:
    """Return the changes of level; beside the line, where the line explains more than the levels do.

    A slope looks like a staircase to whoever looks for steps, and a step like a slope to whoever looks for lines.
    """
    steps = find_changes(recent)
    if not significant or not steps:
        return steps
    line = trend.line(len(recent))
    known = np.flatnonzero(np.isfinite(recent))
    bounds = [0, *(change.index for change in steps), len(recent)]
    levels = np.concatenate([np.full(b - a, np.nanmedian(recent[a:b])) for a, b in itertools.pairwise(bounds)])
    off_line, off_levels = (float(np.abs((recent - shape)[known]).mean()) for shape in (line, levels))
    if off_levels < off_line:
        return steps
    return [
        Change(change.index, change.before + at, change.after + at, change.p_value)
        for change in find_changes(recent - line)
        if np.isfinite(at := float(line[change.index]))
    ]


def _summary(model_id: str, direction: str, trend: Trend, rising: float, changes: list[Change]) -> str:
    if direction == "none":
        text = f"{model_id} has no significant trend (p = {trend.p_value:.2g})"
    else:
        text = f"{model_id} is {direction}, by {abs(rising):.3g} over the window (p = {trend.p_value:.2g})"
    if changes:
        last = changes[-1]
        times = "once" if len(changes) == 1 else f"{len(changes)} times"
        text += f"; its level changed {times}, the last time from {last.before:.3g} to {last.after:.3g}"
    return text + "."
