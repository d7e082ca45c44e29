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
    models = [recorded() for _ in range(30)]
    for model in models:
        _forecast(balance_cluster, model)
    before, began = balance_cluster.ask("prediction", "stats"), time.monotonic()
    refreshed = balance_cluster.ask("prediction", "refresh", 1.0, 12)
    after, passed_s = balance_cluster.ask("prediction", "stats"), time.monotonic() - began
    assert refreshed["series"] >= len(models) and refreshed["cpu_s"] > 0
    assert after["cpu_s"] - before["cpu_s"] <= after["cores"] * passed_s + 1.0 + CHUNK_CPU_S


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
    with pytest.raises(InvalidValue):
        balance_cluster.ask("prediction", "predict_needs", model, [-1.0])
    with pytest.raises(InvalidValue):
        balance_cluster.ask("prediction", "predict_load", -5)
