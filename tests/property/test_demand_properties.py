"""Demand predictors: any list of honest records gives a finite, ordered, non-negative answer."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.clock import FakeClock
from balance.prediction.demand import LoadPredictor, ModelNeedsPredictor, ResourcePredictor
from balance.timeseries import LIGHT_METHODS, CombinedForecaster

LIGHT = CombinedForecaster(clock=FakeClock(), methods=LIGHT_METHODS)
SIZES = st.one_of(st.floats(0, 1e15), st.sampled_from([0.0, float("nan"), float("inf")]), st.integers(0, 10**12))
TIMES = st.one_of(st.floats(-1e9, 4e9), st.sampled_from([1.7e9, 1.7e9, "2024-02-29T12:00:00Z", None]))
REQUESTS = st.lists(st.fixed_dictionaries({"data_size": SIZES, "timestamp": TIMES}) | SIZES, max_size=60)
READINGS = st.lists(st.fixed_dictionaries({"timestamp": TIMES, "cpu": SIZES | st.none(), "gpu": SIZES}), max_size=60)


def ordered(quantiles: dict[str, list[float]]) -> bool:
    low, mid, high = (quantiles[level] for level in ("0.1", "0.5", "0.9"))
    return all(0 <= a <= b <= c for a, b, c in zip(low, mid, high, strict=True))


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_needs_are_finite_and_ordered(requests: list[Any]) -> None:
    """Whatever sizes and times, in whatever order."""
    made = ModelNeedsPredictor(forecaster=LIGHT).predict_needs("m", requests)
    json.dumps(made, allow_nan=False)
    assert ordered(made["quantiles"])


@settings(max_examples=60, deadline=None)
@given(READINGS)
def test_resources_are_finite_and_ordered(usage: list[Any]) -> None:
    """Whatever readings and gaps."""
    made = ResourcePredictor(forecaster=LIGHT).predict_resources("m", usage)
    json.dumps(made, allow_nan=False)
    assert all(ordered(quantiles) for quantiles in made["quantiles"].values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-2000, 2000), st.integers(0, 10**6)), max_size=80), st.integers(1, 5000))
def test_load_is_finite_and_ordered(records: list[tuple[float, int]], window: int) -> None:
    """Records late, early, unordered and doubled; any window."""
    clock = FakeClock()
    predictor = LoadPredictor(clock=clock, forecaster=LIGHT)
    for offset, count in records:
        predictor.record(clock.wall() + offset, count)
    made = predictor.predict_load(window)
    json.dumps(made, allow_nan=False)
    assert ordered(made["quantiles"])
