"""Whatever series comes in, the tuner answers with JSON, or names the mistake."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.optimization import PredictionTuner
from balance.timeseries import LIGHT_METHODS, CombinedForecaster

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 10**6))
MOMENTS = st.one_of(st.integers(0, 400), st.floats(0, 1e12, allow_nan=False), st.just("1970-01-01T00:05:00Z"))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, MOMENTS), max_size=80),
    st.booleans(),
    st.integers(1, 90),
    st.one_of(st.none(), st.integers(0, 40)),
)
def test_any_series_is_answered(
    readings: list[tuple[float | None, object]], dated: bool, horizon: int, season: int | None
) -> None:
    """Gaps, infinities, huge holes, doubled and unordered moments: a status, a horizon of finite numbers, JSON."""
    data = {"values": [value for value, _ in readings], "horizon": horizon, "season": season}
    if dated:
        data["timestamps"] = [moment for _, moment in readings]
    forecaster = CombinedForecaster(clock=FakeClock(), methods=LIGHT_METHODS)
    made = PredictionTuner(clock=FakeClock(), forecaster=forecaster).tune_predictions("m", data)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["status"] in {"ok", "insufficient_data"}
    assert len(made["point"]) == made["horizon_steps"] == horizon
    low, middle, high = (made["quantiles"][level] for level in ("0.1", "0.5", "0.9"))
    assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["values", "horizon", "season", "step_s", "timestamps", "else"]), st.text()))
def test_any_nonsense_is_a_mistake_that_is_named(data: dict[str, str]) -> None:
    """Text where numbers belong raises `InvalidValue` and nothing else."""
    try:
        PredictionTuner(clock=FakeClock()).tune_predictions("m", data)
    except InvalidValue:
        return
    raise AssertionError(f"{data} was accepted")
