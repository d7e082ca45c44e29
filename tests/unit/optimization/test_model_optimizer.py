"""A method that loses to the simple one is demoted, and taken back when it wins; at the edge nothing flaps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from balance.errors import InvalidValue
from balance.prediction.optimization import AccuracyMonitor, ModelOptimizer


def figures(total: int = 100, method: str = "a", **ratios: float) -> dict[str, Any]:
    """Return what `monitor_accuracy` would, with each method's error over the rival's."""
    return {
        "method": method,
        "simple": "naive",
        "total_scored": total,
        "by_method": {name: {"mae": ratio, "simple_mae": 1.0, "scored": total} for name, ratio in ratios.items()},
    }


def test_demoted_and_taken_back_with_room_between() -> None:
    """Down at 1.05, back below 0.95, and between the two whatever it was."""
    optimizer = ModelOptimizer()
    actions = [
        optimizer.optimize_model("m", figures(100 + at, a=ratio))["action"]
        for at, ratio in enumerate([0.9, 1.0, 1.04, 1.06, 1.0, 0.96, 0.94, 1.0, 1.04])
    ]
    assert actions == ["keep", "keep", "keep", "demote", "keep", "keep", "take_back", "keep", "keep"]


def test_evidence_comes_first() -> None:
    """Fewer scored steps than the evidence asks for change nothing."""
    made = ModelOptimizer(min_evidence=50).optimize_model("m", figures(49, a=9.0))
    assert (made["status"], made["action"], made["method"], made["demoted"]) == ("insufficient_data", "keep", "a", [])


def test_the_next_best_stands_in_for_what_was_demoted() -> None:
    """When what is in use loses to the rival, the best of the others that does not is used."""
    made = ModelOptimizer().optimize_model("m", figures(a=2.0, b=0.8, c=1.5))
    assert (made["action"], made["weights"], made["demoted"]) == ("demote", {"b": 1.0}, ["a", "c"])
    made = ModelOptimizer().optimize_model("m", figures(a=2.0))
    assert made["weights"] == {"naive": 1.0}


def test_a_clearly_better_method_replaces_and_equals_are_combined() -> None:
    """One that is better by a tenth takes over; two that are as good as each other share by their squared errors."""
    made = ModelOptimizer().optimize_model("m", figures(a=0.8, b=0.5))
    assert (made["action"], made["weights"]) == ("replace", {"b": 1.0})
    made = ModelOptimizer().optimize_model("m", figures(a=0.8, b=0.5, c=0.52))
    assert made["action"] == "combine"
    assert made["weights"]["b"] == pytest.approx(0.52**2 / (0.52**2 + 0.5**2))
    assert sum(made["weights"].values()) == pytest.approx(1.0)
    assert ModelOptimizer().optimize_model("m", figures(a=0.8, b=0.75))["action"] == "keep"


def test_no_second_change_before_there_is_new_evidence() -> None:
    """After a change the next one waits for as many scored steps as the first needed."""
    optimizer = ModelOptimizer(min_evidence=30)
    assert optimizer.optimize_model("m", figures(100, a=0.8, b=0.5))["action"] == "replace"
    assert optimizer.optimize_model("m", figures(120, a=0.3, b=0.5))["action"] == "keep"
    assert optimizer.optimize_model("m", figures(131, a=0.3, b=0.5))["action"] == "replace"


def test_drift_and_bias_ask_for_a_refit_once() -> None:
    """What was learnt is learnt anew when errors have grown or lean to a side; not again at every call."""
    optimizer = ModelOptimizer()
    drifting = {**figures(100, a=0.8), "drift": {"status": "drifting", "since_scored": 7}}
    assert optimizer.optimize_model("m", drifting)["action"] == "refit"
    assert optimizer.optimize_model("m", {**drifting, "total_scored": 150})["action"] == "keep"
    assert optimizer.optimize_model("m", figures(160, a=0.8))["action"] == "keep"
    assert optimizer.optimize_model("m", {**drifting, "total_scored": 170})["action"] == "refit"
    biased = {**figures(100, a=0.8), "bias": {"verdict": "too_low", "mean": -0.6, "p_value": 1e-6}, "mae": 0.8}
    made = ModelOptimizer().optimize_model("m", biased)
    assert made["action"] == "refit"
    assert "too low" in made["reason"]


def test_from_the_monitor_to_the_verdict() -> None:
    """A method that stops paying is demoted online, and taken back when it pays again."""
    monitor, optimizer = AccuracyMonitor(window=60), ModelOptimizer()
    rng = np.random.default_rng(5)
    actions = []
    for phase in (1.0, 40.0, 1.0):
        for _ in range(30):
            truth = 100 + 10 * rng.normal(size=4)
            predicted = {"point": (truth + phase * rng.normal(size=4)).tolist(), "method": "fit"}
            predicted["methods"] = {"fit": predicted["point"]}
            made = monitor.monitor_accuracy("m", {"values": truth.tolist()}, predicted)
            actions.append(optimizer.optimize_model("m", made)["action"])
    assert "demote" not in actions[:30]
    assert actions[30:60].count("demote") == 1
    assert actions[60:].count("take_back") == 1
    assert "demote" not in actions[60:]


def test_the_state_goes_through_json_and_is_bounded() -> None:
    """What was restored goes on as the original would; the model asked about longest ago is forgotten."""
    optimizer = ModelOptimizer(max_models=2)
    for name in ("x", "m", "y"):
        optimizer.optimize_model(name, figures(a=2.0))
    state = json.loads(json.dumps(optimizer.snapshot(), allow_nan=False))
    assert set(state) == {"m", "y"}
    copy = ModelOptimizer()
    copy.restore(state)
    made = copy.optimize_model("m", figures(150, a=0.5))
    assert (made["action"], made["taken_back"]) == ("take_back", ["a"])


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"by_method": []},
        {"by_method": {"a": 1.0}},
        {"by_method": {"a": {"mae": -1.0, "simple_mae": 1.0, "scored": 50}}},
        {"by_method": {"a": {"mae": float("nan"), "simple_mae": 1.0, "scored": 50}}},
        {"by_method": {"a": {"mae": 1.0, "simple_mae": 1.0, "scored": -1}}},
    ],
)
def test_a_mistake_changes_nothing(data: Any) -> None:
    """Data that can't be read raises, and nothing is remembered of it."""
    optimizer = ModelOptimizer()
    with pytest.raises(InvalidValue):
        optimizer.optimize_model("m", data)
    assert optimizer.snapshot() == {}
