"""The demand predictors answer every input with numbers, a status and a reason."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.demand import LoadPredictor, ModelNeedsPredictor, ResourcePredictor
from balance.prediction.demand.steps import mean_by_step, sum_by_step
from balance.timeseries import LIGHT_METHODS, CombinedForecaster, History

NAN = float("nan")
COMMON = {
    "model_id", "status", "horizon_steps", "step_s", "horizon_s", "unit", "point", "quantiles", "method", "reason",
    "weights", "seasons", "notes", "backtest",
}  # fmt: skip


def light(clock: FakeClock) -> CombinedForecaster:
    return CombinedForecaster(clock=clock, methods=LIGHT_METHODS)


def needs() -> ModelNeedsPredictor:
    return ModelNeedsPredictor(forecaster=light(FakeClock()))


def resources(**kwargs: Any) -> ResourcePredictor:
    return ResourcePredictor(forecaster=light(FakeClock()), **kwargs)


def finite(result: dict[str, Any]) -> dict[str, Any]:
    json.dumps(result, allow_nan=False)
    return result


def test_dated_requests_are_forecast_in_time() -> None:
    """Unordered and doubled timestamps, ISO or POSIX: bytes per stretch of time."""
    requests = [{"timestamp": 1_700_000_000 + 30.0 * i, "data_size": 500 + i % 3} for i in range(200)]
    requests = [requests[i] for i in np.random.default_rng(0).permutation(200)] + requests[:1]
    requests.append({"timestamp": "2023-11-14T22:13:20+00:00", "data_size": 0})
    made = finite(needs().predict_needs("m", requests))
    assert made.keys() >= COMMON
    assert (made["status"], made["unit"], made["step_s"]) == ("ok", "bytes_per_step", 30.0)
    assert made["horizon_s"] == 360.0
    assert made["expected_bytes"] == pytest.approx(12 * 501, rel=0.1)


def test_sizes_without_a_time_are_forecast_per_request() -> None:
    """Plain numbers are as good as dicts; a step is a request then."""
    made = finite(needs().predict_needs("m", [100.0, 110, 90, 105, 95, 100, 110, 90, 105, NAN, math.inf]))
    assert (made["unit"], made["step_s"], made["horizon_s"]) == ("bytes_per_request", None, None)
    assert (made["request_count"], made["skipped"]) == (9, 2)
    assert made["point"][0] == pytest.approx(100, abs=10)


def test_types_share_the_expected_bytes() -> None:
    """Three quarters of the bytes so far were audio, so are those ahead."""
    requests = [{"data_size": 300 if i % 2 else 100, "data_type": "audio" if i % 2 else "text"} for i in range(40)]
    made = needs().predict_needs("m", requests)
    share = made["expected_bytes_by_type"]["audio"] / made["expected_bytes"]
    assert share == pytest.approx(0.75)


@pytest.mark.parametrize("requests", [[], [5.0], [NAN] * 20, [{"data_size": 7, "timestamp": 10}] * 5])
def test_too_few_requests_are_said_to_be_too_few(requests: list[Any]) -> None:
    """The naive fallback with its status."""
    made = finite(needs().predict_needs("m", requests))
    assert made["status"] == "insufficient_data"
    assert made["method"] == "naive"


@pytest.mark.parametrize(
    "requests",
    ["text", [{}], [{"data_size": -1}], [-1], ["big"], [{"data_size": 1, "timestamp": "noon"}], [None], [True]],
)
def test_a_bad_request_is_the_callers_mistake(requests: Any) -> None:
    """What can't be a request raises."""
    with pytest.raises(InvalidValue):
        needs().predict_needs("m", requests)


def test_each_measured_resource_is_forecast() -> None:
    """Missing readings are gaps; a resource that nobody measured is named as such."""
    usage: list[dict[str, Any]] = [
        {"timestamp": 10.0 * i, "cpu": 2 + math.sin(i / 4), "memory": 1e9 + 1e6 * i} for i in range(100)
    ]
    usage[7]["cpu"] = NAN
    del usage[9]["memory"]
    made = finite(resources().predict_resources("m", usage))
    assert made["status"] == "ok"
    assert made["status_by_resource"] == {"cpu": "ok", "memory": "ok", "storage": "not_measured", "gpu": "not_measured"}
    assert (made["step_s"], made["horizon_s"]) == (10.0, 120.0)
    assert made["point"]["memory"][-1] == pytest.approx(1.1e9, rel=0.03)
    assert made["recommended"]["cpu"] >= max(made["point"]["cpu"])
    assert set(made["quantiles"]["cpu"]) == {"0.1", "0.5", "0.9"}


def test_usage_without_a_time_or_without_readings() -> None:
    """Undated records are steps; no readings at all is not enough data."""
    made = finite(resources().predict_resources("m", [{"gpu": 0.5}] * 20))
    assert (made["status"], made["step_s"], made["point"]["gpu"][0]) == ("ok", None, pytest.approx(0.5))
    for empty in ([], [{}], [{"cpu": None}] * 20):
        assert finite(resources().predict_resources("m", empty))["status"] == "insufficient_data"
    for bad in ([{"cpu": -1}], [5], [{"cpu": "many"}], [{"timestamp": NAN, "cpu": 1}], "x"):
        with pytest.raises(InvalidValue):
            resources().predict_resources("m", bad)  # type: ignore[arg-type]


def test_both_read_the_history_when_nothing_is_passed() -> None:
    """What was recorded beside them is used."""
    clock, history = FakeClock(), History()
    for second in range(1200):
        history.add("needs:m", clock.wall() + second, 10)
        history.add("cpu:m", clock.wall() + second, 3.0)
    clock.advance(1200)
    made = ModelNeedsPredictor(history=history, clock=clock, forecaster=light(clock)).predict_needs("m", [])
    assert (made["status"], made["step_s"], made["point"][0]) == ("ok", 10.0, pytest.approx(100))
    used = ResourcePredictor(history=history, clock=clock, forecaster=light(clock)).predict_resources("m", [])
    assert (used["step_s"], used["point"]["cpu"][0]) == (10.0, pytest.approx(3.0))


def load(clock: FakeClock, **kwargs: Any) -> LoadPredictor:
    return LoadPredictor(clock=clock, forecaster=light(clock), **kwargs)


def test_load_follows_what_was_recorded() -> None:
    """Three requests a second go on as three a second, at every window."""
    clock = FakeClock()
    predictor = load(clock)
    for _ in range(900):
        predictor.record(clock.wall(), 3)
        clock.advance(1)
    for window in (1, 60, 300, 600):
        made = finite(predictor.predict_load(window))
        assert made["status"] == "ok"
        assert made["horizon_s"] == window
        assert made["total"] == pytest.approx(3 * window, rel=0.02)
        assert made["peak_per_s"] == pytest.approx(3, rel=0.02)


def test_load_without_a_record_is_insufficient() -> None:
    """Nothing recorded: zeros with their status; a bad window or count raises."""
    predictor = load(FakeClock())
    made = finite(predictor.predict_load())
    assert (made["status"], made["total"], made["model_id"]) == ("insufficient_data", 0.0, "all")
    for window in (0, -5, NAN):
        with pytest.raises(InvalidValue):
            predictor.predict_load(window)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        predictor.record(0.0, -1)


def test_what_was_learnt_is_kept_until_it_has_aged() -> None:
    """Within `refresh_s` the backtest is not repeated; after it, or after much growth, it is."""
    clock = FakeClock()
    predictor = load(clock, refresh_s=30)
    values = np.random.default_rng(0).poisson(20, 200).astype(float)
    ages = []
    for count in (100, 101, 102):
        ages.append(predictor.forecast_rate("m", values[:count], 1.0, 10)["learnt_age_s"])
        clock.advance(14)
    assert ages == [0.0, 14.0, 28.0]
    assert predictor.forecast_rate("m", values[:103], 1.0, 10)["learnt_age_s"] == 0.0
    clock.advance(1)
    assert predictor.forecast_rate("m", values, 1.0, 10)["learnt_age_s"] == 0.0


def test_a_rate_that_can_not_be_is_refused() -> None:
    """Negative counts and steps of no length are mistakes; gaps are not."""
    predictor = load(FakeClock())
    assert finite(predictor.forecast_rate("m", [1, NAN, 3, 2, 1, 2, 3, 2, 1, math.inf], 1.0, 3))["status"] == "ok"
    for values, step in (([-1.0], 1.0), ("x", 1.0), ([1.0], 0.0), ([1.0], NAN)):
        with pytest.raises(InvalidValue):
            predictor.forecast_rate("m", values, step, 3)  # type: ignore[arg-type]


def test_steps_keep_every_event_of_whole_steps() -> None:
    """Sums count back from the last event; one moment alone makes no series."""
    sums, step = sum_by_step([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1.0] * 10) or (np.zeros(0), 0.0)
    assert (sums.sum(), step) == (9.0, 1.0)
    assert sum_by_step([5, 5], [1, 2]) is None
    assert mean_by_step([5.0], [1.0]) is None
    gap = sum_by_step([0.0, 1.0, 1e9], [1, 1, 1])
    assert gap is not None
    assert len(gap[0]) <= 1000
