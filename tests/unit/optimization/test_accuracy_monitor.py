"""Forecasts are scored against what came, and the figures are those of the textbooks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.optimization import AccuracyMonitor
from balance.timeseries import CombinedForecaster
from balance.timeseries.drift import DriftDetector


def score(truth: list[float], point: list[float], **more: Any) -> dict[str, Any]:
    actual = {"values": truth, **more.pop("actual", {})}
    return AccuracyMonitor().monitor_accuracy("m", actual, {"point": point, **more})


def test_figures_by_hand() -> None:
    """Each measure on ten steps, computed by hand."""
    truth = [10.0, 20.0] * 5
    made = score(truth, [12.0, 16.0] * 5, quantiles={"0.1": [9.0, 19.0] * 5, "0.9": [11.0, 19.5] * 5})
    assert (made["status"], made["scored"], made["latest_mae"]) == ("ok", 10, 3.0)
    assert made["mae"] == 3.0
    assert made["rmse"] == pytest.approx(np.sqrt(10.0))
    assert made["smape"] == pytest.approx(100 * (2 / 22 + 4 / 36))
    assert made["mase"] == pytest.approx(3.0 / 10.0)
    # 0.1: 10 lies 1 above (loss .1), 20 lies 1 above (.1); 0.9: 1 below (.1), .5 above (.45).
    assert made["pinball"] == {"0.1": pytest.approx(0.1), "0.9": pytest.approx(0.275), "mean": pytest.approx(0.1875)}
    assert made["coverage"]["0.8"]["observed"] == 0.5
    assert made["bias"]["mean"] == -1.0
    json.dumps(made, allow_nan=False)


def test_the_rival_stands_at_the_same_steps() -> None:
    """The simple rival forecasts from what was known before the call: the season that came last."""
    monitor = AccuracyMonitor()
    history = [1.0, 2.0, 3.0, 4.0]
    for _ in range(3):
        actual = {"values": [1.5, 2.5, 3.5, 4.5], "history": history, "season": 4}
        made = monitor.monitor_accuracy("m", actual, {"point": [1.5] * 4, "method": "flat"})
    flat = made["by_method"]["flat"]
    assert made["simple"] == "seasonal_naive"
    assert flat["simple_mae"] == 0.5
    assert flat["mae"] == 1.5
    assert flat["ratio"] == 3.0
    assert flat["scored"] == 12


def test_other_methods_are_scored_beside_the_one_in_use() -> None:
    """What other methods forecast for the same steps has figures of its own; a weighed mean has one name."""
    predicted = {"point": [1.0] * 10, "method": "a+b", "methods": {"a": [2.0] * 10, "b": [0.0] * 10}}
    made = AccuracyMonitor().monitor_accuracy("m", {"values": [0.0] * 10, "history": [3.0]}, predicted)
    assert {name: one["mae"] for name, one in made["by_method"].items()} == {"a": 2.0, "b": 0.0, "combination": 1.0}
    assert made["by_method"]["a"]["ratio"] == pytest.approx(2 / 3)


def test_steps_are_matched_by_their_moments() -> None:
    """Unordered, missing and doubled moments: only shared ones are scored, the last reading of one counts."""
    actual = {"values": [5.0, 1.0, 2.0, 9.0], "timestamps": [300.0, 60, "1970-01-01T00:02:00Z", 60]}
    predicted = {"point": [9.0, 2.0, 7.0], "timestamps": [60.0, 120.0, 999.0]}
    made = AccuracyMonitor().monitor_accuracy("m", actual, predicted)
    assert (made["scored"], made["latest_mae"], made["status"]) == (2, 0.0, "insufficient_data")
    predicted["timestamps"] = [1.0, 2.0, 3.0]
    made = AccuracyMonitor().monitor_accuracy("m", actual, predicted)
    assert (made["status"], made["scored"], made["mae"]) == ("nothing_to_score", 0, None)


def test_overlapping_forecasts_do_not_tell_the_rival_the_future() -> None:
    """A second forecast for the same steps is set against a rival that did not know them."""
    monitor = AccuracyMonitor()
    moments = [60.0 * at for at in range(1, 11)]
    monitor.monitor_accuracy("m", {"values": [7.0], "timestamps": [0.0]}, {"point": [7.0], "timestamps": [0.0]})
    for _ in range(2):
        actual = {"values": list(range(10)), "timestamps": moments}
        made = monitor.monitor_accuracy("m", actual, {"point": [0.0] * 10, "timestamps": moments})
    assert made["by_method"]["forecast"]["simple_mae"] == np.abs(7.0 - np.arange(10)).mean()


def test_bias_needs_evidence() -> None:
    """An offset beyond the noise is called by its side; noise alone is not."""
    rng = np.random.default_rng(1)
    truth = rng.normal(100, 10, 200)
    assert score(truth.tolist(), (truth + rng.normal(0, 5, 200)).tolist())["bias"]["verdict"] == "none"
    assert score(truth.tolist(), (truth + rng.normal(3, 5, 200)).tolist())["bias"]["verdict"] == "too_high"
    assert score(truth.tolist(), (truth - rng.normal(3, 5, 200)).tolist())["bias"]["verdict"] == "too_low"


def test_coverage_needs_evidence() -> None:
    """An interval that holds as often as it says is ok, one that is half as wide is too narrow."""
    rng = np.random.default_rng(2)
    truth = rng.normal(size=400).tolist()
    for width, verdict in ((1.2816, "ok"), (0.6, "too_narrow"), (3.0, "too_wide")):
        made = score(truth, [0.0] * 400, quantiles={0.1: [-width] * 400, 0.9: [width] * 400})
        assert made["coverage"]["0.8"]["verdict"] == verdict


def test_drift_is_noticed_and_becomes_the_new_usual() -> None:
    """Errors that grow threefold raise the alarm within 30 forecasts; twenty later it is over."""
    rng = np.random.default_rng(3)
    monitor = AccuracyMonitor()
    stable, alarm = [], []
    for at in range(200):
        size = 1.0 if at < 120 else 3.0
        made = monitor.monitor_accuracy("m", {"values": [0.0] * 4}, {"point": (size * rng.normal(size=4)).tolist()})
        (stable if at < 120 else alarm).append(made["drift"]["status"])
    assert set(stable) == {"stable"}
    assert "drifting" in alarm[:30]
    assert alarm[-1] == "stable"


def test_a_single_wild_error_is_no_drift() -> None:
    """One forecast that is off by a million raises nothing."""
    detector = DriftDetector()
    errors = np.abs(np.random.default_rng(4).normal(size=300))
    errors[150] = 1e6
    assert not any(detector.update(error) for error in errors.tolist())


def test_what_a_forecaster_returns_can_be_scored_as_it_is() -> None:
    """The dict of a forecast is taken with all its keys."""
    days = (100 + 50 * np.sin(2 * np.pi * np.arange(24 * 15) / 24)).tolist()
    made = CombinedForecaster(clock=FakeClock(), budget_s=0.05).forecast(days[: 24 * 14], 24).to_dict()
    scored = AccuracyMonitor().monitor_accuracy("m", {"values": days[24 * 14 :], "history": days[: 24 * 14]}, made)
    assert scored["simple"] == "seasonal_naive"
    assert scored["mase"] is None or scored["mase"] >= 0
    assert scored["mae"] < 1.0


def test_the_state_goes_through_json_and_is_bounded() -> None:
    """What was restored answers as the original does; steps, methods and models are forgotten in time."""
    monitor = AccuracyMonitor(window=20, max_models=3)
    for at in range(40):
        monitor.monitor_accuracy(
            f"m{at % 5 if at < 20 else 0}", {"values": [1.0, 2.0, float(at)]}, {"point": [1.0, 1.0, 1.0]}
        )
    state = json.loads(json.dumps(monitor.snapshot(), allow_nan=False))
    assert set(state) <= {"m0", "m2", "m3", "m4"}
    assert len(state) == 3
    assert len(state["m0"]["steps"]) == 20
    copy = AccuracyMonitor(window=20, max_models=3)
    copy.restore(state)
    answers = [one.monitor_accuracy("m0", {"values": [3.0]}, {"point": [4.0]}) for one in (monitor, copy)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("actual", "predicted"),
    [
        ([], {"point": []}),
        ({"values": []}, []),
        ({}, {"point": [1.0]}),
        ({"values": [1.0]}, {}),
        ({"values": "12"}, {"point": [1.0]}),
        ({"values": [[1.0]]}, {"point": [1.0]}),
        ({"values": ["x"]}, {"point": [1.0]}),
        ({"values": [1.0], "timestamps": [1, 2]}, {"point": [1.0], "timestamps": [1]}),
        ({"values": [1.0], "timestamps": ["soon"]}, {"point": [1.0], "timestamps": [1]}),
        ({"values": [1.0], "season": -1}, {"point": [1.0]}),
        ({"values": [1.0]}, {"point": [1.0], "quantiles": {"2": [1.0]}}),
        ({"values": [1.0]}, {"point": [1.0], "quantiles": {"0.1": [1.0, 2.0]}}),
    ],
)
def test_a_mistake_changes_nothing(actual: Any, predicted: Any) -> None:
    """What can't be read raises, and nothing is remembered of it."""
    monitor = AccuracyMonitor()
    with pytest.raises(InvalidValue):
        monitor.monitor_accuracy("m", actual, predicted)
    assert monitor.snapshot() == {}
