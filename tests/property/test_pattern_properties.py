"""Whatever was recorded, patterns are finite, say their status, and no library's error or warning gets out."""

from __future__ import annotations

import json
import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.clock import FakeClock
from balance.prediction.pattern import BehaviorAnalyzer, TrendDetector, UsageAnalyzer
from balance.timeseries.change_points import find_changes
from balance.timeseries.decomposition import decompose
from balance.timeseries.history import History
from balance.timeseries.trend import find_trend

ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
SERIES = st.one_of(
    st.lists(ANY, max_size=100),
    st.lists(st.sampled_from([0.0, 1.0, float("nan")]), max_size=100),
    st.builds(
        lambda shape, times: shape * times, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.integers(1, 14)
    ),
)
POINTS = st.lists(
    st.tuples(st.floats(-3000, 100), st.one_of(st.floats(0, 1e9), st.just(1e100), st.just(-1e100))), max_size=80
)


@settings(max_examples=100, deadline=None)
@given(SERIES, st.lists(st.integers(0, 60), max_size=3))
def test_series_come_apart_and_add_up(values: list[float], seasons: list[int]) -> None:
    """Parts are finite and add up; trends and changes are finite and within the series."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = decompose(values, seasons)
        trend, changes = find_trend(values), find_changes(values)
    whole = parts.trend + parts.remainder + sum(parts.seasonal.values(), np.zeros(len(parts.trend)))
    assert np.isfinite(whole).all()
    known = [abs(value) for value in values if np.isfinite(value) and abs(value) <= 1e100]
    json.dumps(parts.to_dict(), allow_nan=False)
    if trend is not None:
        json.dumps(trend.to_dict(), allow_nan=False)
        assert 0 <= trend.p_value <= 1
        assert trend.slope_low <= trend.slope <= trend.slope_high
        assert trend.variance_factor >= 1
    for change in changes:
        assert 0 < change.index < len(values)
        assert 0 <= change.p_value <= 0.01
        assert max(abs(change.before), abs(change.after)) <= max(known)


@settings(max_examples=60, deadline=None)
@given(POINTS, st.sampled_from([1, 60, 300, 86400, 10**9]), st.sampled_from(["sum", "mean"]))
def test_analyzers_answer_whatever_was_recorded(points: list[tuple[float, float]], window: int, kind: str) -> None:
    """Any moments, doubled, unordered, long ago or in the future; any size: finite JSON with a known status."""
    clock, history = FakeClock(), History()
    for offset, value in points:
        history.add("arrivals/m", clock.wall() + offset, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for made in (
            UsageAnalyzer(history=history, clock=clock, kind=kind).analyze_usage("m", window),
            BehaviorAnalyzer(history=history, clock=clock, kind=kind).analyze_behavior("m", window),
            TrendDetector(history=history, clock=clock, kind=kind).detect_trend("m", window),
        ):
            json.dumps(made, allow_nan=False)
            assert made["status"] in {"ok", "constant", "insufficient_data", "unknown"}
            assert made["known_steps"] * made["step_s"] <= made["window_s"]
