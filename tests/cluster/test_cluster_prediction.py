"""Forecasts on real Ray: made beside the control path, with their age, within their budget, through kills."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from balance.errors import InvalidValue

pytestmark = pytest.mark.cluster

CHUNK_CPU_S = 2.0
"""What one call of a fitter may take beyond the budget: `actors.fitter.CHUNK_S`, and the first one's imports."""


@pytest.fixture
def recorded(balance_cluster: Any, unique: Callable[[str], str]) -> Callable[..., str]:
    """Write four minutes of a model's requests into the history, up to now, and return the model's id."""

    def record(per_s: float = 3.0) -> str:
        model, now = unique("foretold"), int(time.time())
        points = [(f"arrivals/{model}", float(now - back), per_s) for back in range(1, 240)]
        balance_cluster.ask("monitoring", "record", points)
        return model

    return record


def _forecast(balance_cluster: Any, model: str, **wanted: Any) -> dict[str, Any]:
    """Return the newest forecast of a model, once there is one and it is as wanted."""

    def there() -> dict[str, Any] | None:
        found: dict[str, Any] = balance_cluster.ask("prediction", "rates", 1.0, 12, [model])
        made = found.get(model)
        return made if made and all(made[name] == value for name, value in wanted.items()) else None

    made: dict[str, Any] = balance_cluster.eventually(there)
    return made


def test_a_recorded_model_is_forecast_with_its_age(balance_cluster: Any, recorded: Callable[..., str]) -> None:
    """What was recorded is forecast without anybody waiting for it, in the steps that were asked for."""
    made = _forecast(balance_cluster, recorded(), status="ok")
    assert made["step_s"] == 1.0 and len(made["point"]) == 12
    assert 0.0 <= made["age_s"] < 6.0
    assert made["starts_at"] <= time.time() < made["starts_at"] + 60
    assert set(made["quantiles"]) >= {"0.1", "0.5", "0.9"}


def test_forecasts_survive_a_kill(balance_cluster: Any, recorded: Callable[..., str]) -> None:
    """``kill -9``: the loop goes on, the last forecasts are told at once, and new ones follow."""
    model = recorded()
    before = _forecast(balance_cluster, model, status="ok")
    kept = balance_cluster.store()
    balance_cluster.eventually(lambda: kept.get("forecasts/1x12", model))
    kept.close()
    tick = balance_cluster.ask("balancer", "stats")["tick"]
    process = balance_cluster.kill("prediction")
    again = balance_cluster.ask("prediction", "rates", 1.0, 12, [model])
    assert again[model]["starts_at"] >= before["starts_at"] and again[model]["point"]
    assert balance_cluster.is_back("prediction", process)["epoch"] > process["epoch"]
    balance_cluster.eventually(lambda: balance_cluster.ask("balancer", "stats")["tick"] > tick + 1)

    def newer() -> bool:
        found = balance_cluster.ask("prediction", "rates", 1.0, 12, [model])[model]
        return bool(found["starts_at"] > again[model]["starts_at"] and found["status"] == "ok")

    balance_cluster.eventually(newer)


def test_a_killed_fitter_is_replaced(balance_cluster: Any, recorded: Callable[..., str]) -> None:
    """The process that fits may die; forecasts go on, and the actor that keeps them does not notice much."""
    model = recorded()
    first = _forecast(balance_cluster, model)
    name = balance_cluster.ask("prediction", "stats")["fitters"][0]
    os.kill(balance_cluster.get(balance_cluster.actor(name).ping.remote())["pid"], signal.SIGKILL)

    def newer() -> bool:
        return bool(_forecast(balance_cluster, model)["starts_at"] > first["starts_at"] + 2)

    balance_cluster.eventually(newer)


def test_the_budget_is_kept(balance_cluster: Any, recorded: Callable[..., str]) -> None:
    """Learning many series anew takes no more CPU time than the share that fits have of the machine."""
    models = [recorded() for _ in range(8)]
    for model in models:
        _forecast(balance_cluster, model)
    before, began = balance_cluster.ask("prediction", "stats"), time.monotonic()
    refreshed = balance_cluster.ask("prediction", "refresh", 1.0, 12)
    after, passed_s = balance_cluster.ask("prediction", "stats"), time.monotonic() - began
    assert refreshed["series"] >= len(models) and refreshed["cpu_s"] > 0
    assert after["cpu_s"] - before["cpu_s"] <= after["cores"] * passed_s + 1.0 + CHUNK_CPU_S


def test_forecasts_are_scored_when_their_truth_has_come(balance_cluster: Any, recorded: Callable[..., str]) -> None:
    """Nobody has to ask: once the steps of a forecast have passed, its error and coverage can be read."""
    model = recorded()

    def judged() -> Any:
        balance_cluster.ask("prediction", "rates", 1.0, 3, [model])
        return balance_cluster.ask("prediction", "accuracy").get(f"1x3/{model}")

    report = balance_cluster.eventually(judged)
    assert report["total_scored"] >= 3 and report["mae"] >= 0.0 and report["used"] == "combination"


def test_the_recorded_history_is_analysed(balance_cluster: Any, recorded: Callable[..., str]) -> None:
    """What was recorded of a model's requests is described, searched for what is abnormal, and for a trend."""
    model = recorded(3.0)
    ask = lambda method, *args: balance_cluster.ask("prediction", method, model, *args)  # noqa: E731
    usage = balance_cluster.eventually(lambda: (found := ask("analyze_usage", 120))["status"] != "unknown" and found)
    assert usage["peak"] == pytest.approx(3.0)
    assert "age_s" in ask("analyze_behavior") and "age_s" in ask("detect_trend", 200)


def test_anybody_may_ask_for_a_forecast(balance_cluster: Any, unique: Callable[[str], str]) -> None:
    """The contract's calls answer with their age; a mistake raises as it does in the caller's own process."""
    model = unique("asked")
    needs = balance_cluster.ask("prediction", "predict_needs", model, [1000.0] * 20)
    assert (needs["status"], needs["age_s"]) == ("ok", 0.0)
    usage = [{"timestamp": 10.0 * step, "cpu": 2.0} for step in range(50)]
    resources = balance_cluster.ask("prediction", "predict_resources", model, usage)
    assert resources["recommended"]["cpu"] == pytest.approx(2.0)
    first = balance_cluster.ask("prediction", "predict_load", 60)
    again = balance_cluster.ask("prediction", "predict_load", 60)
    assert first["horizon_s"] == 60.0 and again["age_s"] >= 0.0
    tuned = balance_cluster.ask("prediction", "tune_predictions", model, {"values": [1.0, 2.0] * 30, "horizon": 4})
    assert tuned["status"] == "ok" and len(tuned["point"]) == 4
    with pytest.raises(InvalidValue):
        balance_cluster.ask("prediction", "predict_needs", model, [-1.0])
    with pytest.raises(InvalidValue):
        balance_cluster.ask("prediction", "predict_load", -5)


class Slow:
    """A model that takes a while to load, and notes in which process it did."""

    def __init__(self, folder: str, load_s: float) -> None:
        self.folder = folder
        self.load_s = load_s

    def needs(self, request: dict[str, Any]) -> list[str]:
        """Ask for nothing."""
        return []

    def load(self) -> None:
        """Load, once in each process, on the devices that it sees."""
        import os
        import time
        from pathlib import Path

        time.sleep(self.load_s)
        with Path(self.folder, str(os.getpid())).open("a") as note:
            note.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\n")

    def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[int]:
        """Answer with the process that did it, after a moment's work."""
        import os
        import time

        time.sleep(0.1)
        return [os.getpid()] * len(requests)


@pytest.mark.parametrize(("gpu", "devices"), [(0.0, {"\n"}), (0.5, {"0\n", "1\n"})], ids=["cpu", "gpu"])
def test_the_balancer_acts_before_the_load_comes(
    balance_cluster: Any, unique: Callable[[str], str], tmp_path: Any, gpu: float, devices: set[str]
) -> None:
    """A recorded past says that requests will come: room is reserved and the model loaded while nobody asks for it.

    How long that took becomes the model's cold start, and the first request meets a process that has loaded.
    """
    ask, model = balance_cluster.ask, unique("ahead")
    ask("model_coordinator", "register_model", model, 0.25, 0, 2)
    ask("model_coordinator", "update_model", model, gpu_demand=gpu)
    ask("batches", "deploy_model", model, _by_value(Slow)(str(tmp_path), 0.5), objective_s=2.0, batch_max=1)
    try:
        now = int(time.time())
        # On for 20 seconds, off for 20, for six minutes; off for ten seconds, and as many before it is on again.
        past = [(f"arrivals/{model}", float(now - back), 3.0 * ((-back - 10) % 40 < 20)) for back in range(1, 400)]
        ask("monitoring", "record", past)
        unknown = {"ready": 0, "starts_s": []}  # until the scheduler has heard of the model
        pool = lambda: ask("scheduler", "stats")["pool"]["models"].get(f"model:{model}", unknown)  # noqa: E731
        balance_cluster.eventually(lambda: pool()["ready"] >= 1)
        assert ask("batches", "stats_only")["models"][model]["accepted"] == 0, "nobody has asked yet"
        assert min(pool()["starts_s"]) >= 0.5, "the load is part of the start"
        decided = [plan for plan in ask("balancer", "decisions", 50) if plan["forecasts"].get(model)]
        reserved = [action for plan in decided for action in plan["actions"] if action.get("model_id") == model]
        assert any(action["kind"] == "reserve" for action in reserved)
        assert decided[0]["guards"][model]["leads"] in {"forecast", "reactive"}, "whether the forecast pays is told"
        loaded = {note.name for note in tmp_path.iterdir()}
        accepted = ask("batches", "submit_requests", [{"model_id": model, "text": "first"}])
        answer = ask("batches", "answer", accepted["request_ids"][0], 50.0)
        assert str(answer["result"]) in loaded
        assert {note.read_text() for note in tmp_path.iterdir()} <= devices, "once in each process"
        balance_cluster.eventually(lambda: ask("balancer", "stats")["cold_start_s"][model] >= 0.5)
    finally:
        ask("batches", "undeploy_model", model)
        undeployed = ask("balancer", "stats")["tick"]
        balance_cluster.eventually(lambda: ask("balancer", "stats")["tick"] > undeployed + 1)  # it had a turn in hand
        ask("model_coordinator", "release_resources", model)
        balance_cluster.eventually(lambda: not any(model in place for place in balance_cluster.places()))


def _by_value(kind: type) -> type:
    """Let a class of this module travel with its code: executors can't import the tests."""
    from ray import cloudpickle

    kind.__module__ = "__main__"
    made: type = cloudpickle.loads(cloudpickle.dumps(kind))
    return made
