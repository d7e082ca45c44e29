"""How much a model is used: level, peak, spread, rhythm and burstiness."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

import numpy as np

from balance.prediction.pattern.readings import HistoryReader, Readings
from balance.timeseries.decomposition import decompose
from balance.timeseries.series import Array


@dataclass(frozen=True, slots=True)
class Usage:
    """What one window looks like; see `UsageAnalyzer.analyze_usage` for the fields."""

    model_id: str
    status: str
    window_s: float
    step_s: float
    known_steps: int
    unit: str
    level: Optional[float] = None
    mean: Optional[float] = None
    low: Optional[float] = None
    peak: Optional[float] = None
    peak_at: Optional[float] = None
    peak_to_mean: Optional[float] = None
    percentiles: Dict[str, float] = field(default_factory=dict)
    latest: Optional[float] = None
    total: Optional[float] = None
    idle_share: Optional[float] = None
    burstiness: Optional[float] = None
    dispersion: Optional[float] = None
    seasons: List[Dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class UsageAnalyzer(HistoryReader):
    """Describe how much a model is used, out of recorded history; see `HistoryReader` for where it reads.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> analyzer = UsageAnalyzer(clock=clock)
    >>> for second in range(120):
    ...     analyzer.record("whisper", clock.wall(), 2.0 if second % 10 else 12.0)
    ...     clock.advance(1)
    >>> usage = analyzer.analyze_usage("whisper", time_window=60)
    >>> usage["status"], usage["level"], usage["peak"], usage["mean"], usage["seasons"][0]["season_s"]
    ('ok', 2.0, 12.0, 3.0, 10.0)
    """

    def analyze_usage(self, model_id: str, time_window: int = 60) -> dict:  # type: ignore[type-arg]  # the contract's
        """Describe the last `time_window` seconds.

        Parameters
        ----------
        model_id : str
            The model.
        time_window : int, default 60
            Seconds, at least the history's finest step.  A long window is looked at in coarser steps.

        Returns
        -------
        dict
            ``model_id``;
            ``status``: ``ok``; ``constant`` (nothing ever varied); ``insufficient_data`` (fewer than 8 steps of the
            window are known) or ``unknown`` (nothing was ever recorded): then what is not known is None;
            ``window_s``, ``step_s``: what was looked at, in seconds; ``known_steps``: steps with a value;
            ``unit``: ``per_second`` (events) or ``value`` (gauges), of the next five;
            ``level`` (median), ``mean``, ``low``, ``peak``, ``latest``; ``percentiles``: ``p10`` ... ``p99``;
            ``peak_at``: when the peak's step began, POSIX seconds; ``peak_to_mean``: None where the mean is 0;
            ``total``: events in the window (None for gauges); ``idle_share``: share of the steps at 0;
            ``burstiness``: mean squared change from step to step over twice the mean count (Allan's factor, 1 for
            independent arrivals, whatever the slow trend) and ``dispersion``: variance of the counts over their mean;
            both None for gauges and where nothing came;
            ``seasons``: shortest first, ``season_s`` (seconds) and ``strength`` (0 to 1) each, looked for in all that
            is known at this step.

        Raises
        ------
        InvalidValue
            An empty id, a window that is no number or shorter than the finest step.

        Notes
        -----
        10 to 150 ms, by how much history there is and how many seasons it has.
        """
        seen = self.read(model_id, time_window)
        plain = Usage(model_id, seen.status, seen.window * seen.step_s, seen.step_s, len(seen.known), seen.unit)
        if seen.status in {"unknown", "insufficient_data"}:
            return plain.to_dict()
        return _describe(plain, seen).to_dict()


def _describe(plain: Usage, seen: Readings) -> Usage:
    known, recent = seen.known, seen.recent
    mean, peak = float(known.mean()), float(known.max())
    events = seen.unit == "per_second"
    counts = known * seen.step_s
    return Usage(
        model_id=plain.model_id,
        status=plain.status,
        window_s=plain.window_s,
        step_s=plain.step_s,
        known_steps=plain.known_steps,
        unit=plain.unit,
        level=float(np.median(known)),
        mean=mean,
        low=float(known.min()),
        peak=peak,
        peak_at=seen.at(seen.first + int(np.nanargmax(recent))),
        peak_to_mean=peak / mean if mean > 0 else None,
        percentiles={f"p{rank}": float(np.percentile(known, rank)) for rank in (10, 50, 90, 95, 99)},
        latest=float(known[-1]),
        total=float(counts.sum()) if events else None,
        idle_share=float((known == 0).mean()),
        burstiness=_allan(counts) if events else None,
        dispersion=float(counts.var() / counts.mean()) if events and counts.any() else None,
        seasons=_seasons(seen),
    )


def _allan(counts: Array) -> float | None:
    mean = float(counts.mean())
    return float((np.diff(counts) ** 2).mean() / (2.0 * mean)) if mean > 0 and len(counts) > 1 else None


def _seasons(seen: Readings) -> list[Dict[str, float]]:
    found = seen.seasons()
    if not found:
        return []
    parts = decompose(seen.values, found)
    return [{"season_s": season * seen.step_s, "strength": parts.strength(season)} for season in parts.seasons]
