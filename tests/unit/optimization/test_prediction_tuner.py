"""The tuner chooses by what a series showed, says why, and refuses what can't be a series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.optimization import PredictionTuner
from balance.timeseries import LIGHT_METHODS, CombinedForecaster
from balance.timeseries.methods import NAIVE, Method
from balance.timeseries.profiles import SEASONAL_NAIVE


def tuner() -> PredictionTuner:
    clock = FakeClock()
    return PredictionTuner(clock=clock, forecaster=CombinedForecaster(clock=clock, methods=LIGHT_METHODS))


def days(count: int = 10) -> list[float]:
    hours = np.arange(24 * count)
    noise = np.random.default_rng(3).normal(0, 2, len(hours))
    return list(100 + 40 * np.sin(2 * np.pi * hours / 24) + noise)


def test_every_method_is_accounted_for() -> None:
    """Each method has a status and a reason or a weight; the weights are those of the forecast and sum to 1."""
    made = tuner().tune_predictions("m", {"values": days(), "horizon": 24})
    methods = made["backtest_by_method"]
    assert set(methods) == {method.name for method in LIGHT_METHODS}
    assert {name for name, one in methods.items() if one["status"] == "used"} == set(made["weights"])
    assert sum(one["weight"] for one in methods.values()) == pytest.approx(1)
    assert all(one["reason"] for one in methods.values() if one["status"] != "used")
    best = min((one["mae"], name) for name, one in methods.items() if one["mae"] is not None)[1]
    assert best in made["weights"]


def test_a_failed_fit_is_a_value_that_names_its_fallback() -> None:
    """A method that breaks is reported as failed, with the error, and the others carry the forecast."""

    def explode(problem: object) -> np.ndarray:
        raise RuntimeError("singular")

    forecaster = CombinedForecaster(clock=FakeClock(), methods=(NAIVE, SEASONAL_NAIVE, Method("bad", explode)))
    made = PredictionTuner(clock=FakeClock(), forecaster=forecaster).tune_predictions("m", {"values": days()})
    assert made["backtest_by_method"]["bad"]["status"] == "failed"
    assert "singular" in made["backtest_by_method"]["bad"]["reason"]
    assert made["status"] == "ok"
    assert set(made["weights"]) <= {"naive", "seasonal_naive"}


def test_timestamps_set_the_step_whatever_their_order() -> None:
    """Shuffled, doubled and missing moments give the forecast of the ordered series, and are counted."""
    values = days(6)
    at = [3600.0 * hour for hour in range(len(values))]
    plain = tuner().tune_predictions("m", {"values": values, "timestamps": at})
    order = np.random.default_rng(0).permutation(len(values))
    mixed = {
        "values": [values[i] for i in order] + [values[-1]],
        "timestamps": [at[i] for i in order] + [at[-1]],
    }
    shuffled = tuner().tune_predictions("m", mixed)
    assert plain["step_s"] == shuffled["step_s"] == 3600.0
    assert plain["horizon_s"] == 12 * 3600.0
    assert shuffled["point"] == pytest.approx(plain["point"])
    assert (plain["duplicates"], plain["unordered"]) == (0, 0)
    assert shuffled["duplicates"] == 1
    assert shuffled["unordered"] > 10


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], "insufficient_data"),
        ([4.0], "insufficient_data"),
        ([None, float("nan"), float("inf")] * 9, "insufficient_data"),
        ([0.0] * 50, "ok"),
        ([3.0] * 50, "ok"),
    ],
)
def test_poor_series_have_a_defined_answer(values: list[Any], status: str) -> None:
    """Empty, one point, nothing measured, all zero, constant: a status, and the last known value goes on."""
    made = tuner().tune_predictions("m", {"values": values, "horizon": 60})
    known = [value for value in values if value is not None and np.isfinite(value)]
    assert made["status"] == status
    assert made["point"] == [known[-1] if known else 0.0] * 60


@pytest.mark.parametrize(
    "data",
    [
        None,
        [1, 2],
        {},
        {"values": "abc"},
        {"values": 3},
        {"values": [[1.0, 2.0]]},
        {"values": [1.0], "horizont": 3},
        {"values": [1.0], "horizon": 0},
        {"values": [1.0], "horizon": 2.5},
        {"values": [1.0], "season": -2},
        {"values": [1.0], "step_s": 0},
        {"values": [1.0], "step_s": float("nan")},
        {"values": [1.0], "budget_s": -1},
        {"values": [1.0], "quantiles": [2.0]},
        {"values": [1.0, 2.0], "timestamps": [1.0]},
        {"values": [1.0, 2.0], "timestamps": [1.0, float("nan")]},
        {"values": [1.0, 2.0], "timestamps": "ab"},
        {"values": [1.0, 2.0], "timestamps": 5},
    ],
)
def test_a_callers_mistake_is_named_and_changes_nothing(data: Any) -> None:
    """What can't be a series, a horizon, a season, a step, a budget or a level raises; nothing is remembered."""
    made = tuner()
    with pytest.raises(InvalidValue):
        made.tune_predictions("m", data)
    assert made.learnt("m") is None


def test_what_was_learnt_is_kept_for_the_newest_models() -> None:
    """The calibration can be had for forecasting; the model tuned longest ago is forgotten first."""
    made = PredictionTuner(clock=FakeClock(), max_models=2)
    for model_id in ("a", "b", "a", "c"):
        made.tune_predictions(model_id, {"values": [1.0, 2.0, 3.0, 2.0] * 5, "budget_s": 0})
    assert made.learnt("b") is None
    assert made.learnt("a") is not None
    assert made.learnt("c") is not None
