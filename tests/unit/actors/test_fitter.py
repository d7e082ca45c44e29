"""The process that fits: what it makes of jobs; it is asked here without Ray."""

from __future__ import annotations

import numpy as np
import pytest

from actors import fitter as module
from actors.fitter import FitterActor, Job, Plan
from balance.timeseries.history import History

PLAN = Plan(1.0, 4, 0.02, 60.0)


@pytest.fixture
def fitter() -> FitterActor:
    """One that stays as urgent as the tests are."""
    return FitterActor("forecaster-test", yields_by=0)


def test_one_bad_series_does_not_keep_the_others(fitter: FitterActor) -> None:
    """A series that makes no sense is named with its reason; its neighbours are forecast."""
    found = fitter.forecast([Job("bad", np.array([-1.0])), Job("good", np.full(40, 3.0))], PLAN)
    assert list(found["made"]) == ["good"] and "values" in found["failed"]["bad"]


def test_a_long_list_is_cut(fitter: FitterActor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends after its time, with what it has made of the first ones; at least one."""
    monkeypatch.setattr(module, "CHUNK_S", 0.0)
    found = fitter.forecast([Job(name, np.full(40, 3.0)) for name in "abc"], PLAN)
    assert list(found["made"]) == ["a"]


def test_a_demoted_series_is_forecast_simply_and_judged_on(fitter: FitterActor) -> None:
    """What is used is the simple method; what the combination says goes along, so that it can win again."""
    found = fitter.forecast([Job("a", np.array([1.0, 2.0, 3.0, 4.0] * 10), plain=True)], PLAN)
    made = found["made"]["a"]
    assert set(made["weights"]) <= {"seasonal_naive", "naive"}
    assert len(made["rivals"]["combination"]) == len(made["point"]) == 4


def test_it_answers_with_any_class(fitter: FitterActor) -> None:
    """A class that reads a history gets it; another one is kept with what it has learnt."""
    history = History()
    history.add_many("arrivals/m", [(float(second), 2.0) for second in range(1000, 1100)])
    usage, cpu_s = fitter.answer(
        "balance.prediction.pattern.usage_analyzer:UsageAnalyzer", "analyze_usage", history, ("m", 60)
    )
    assert usage["model_id"] == "m" and cpu_s >= 0
    tuner = "balance.prediction.optimization.prediction_tuner:PredictionTuner"
    for _ in range(2):
        made, _ = fitter.answer(tuner, "tune_predictions", history, ("m", {"values": [1.0, 2.0] * 20, "budget_s": 0.0}))
    assert made["status"] == "ok" and list(fitter._asked) == [tuner]
