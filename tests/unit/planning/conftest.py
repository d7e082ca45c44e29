"""A cluster that does what plans say, at once and completely: enough to see what planning leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from balance.planning import (
    ModelState,
    Plan,
    Prefetch,
    Release,
    RequestNodes,
    Reserve,
    SetParallelism,
    SetPriority,
    Snapshot,
    Throttle,
)
from balance.types import Resources


def carry_out(plan: Plan, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot after every action succeeded and nothing else happened."""
    models = {model.model_id: model for model in snapshot.models}
    free, asked = snapshot.free, snapshot.nodes_asked
    for action in plan.actions:
        if isinstance(action, RequestNodes):
            asked = action.bundles
            continue
        model = models[action.model_id]
        if isinstance(action, Reserve):
            free = free - action.amount
            model = replace(model, replicas=model.replicas + action.replicas)
        elif isinstance(action, Release):
            free = free + action.amount
            model = replace(model, replicas=model.replicas - action.replicas)
        elif isinstance(action, SetParallelism):
            model = replace(model, parallelism=action.parallelism)
        elif isinstance(action, SetPriority):
            model = replace(model, boosted_to=action.priority)
        elif isinstance(action, Throttle):
            model = replace(model, batch_window_s=action.batch_window_s, admission_per_s=action.admission_per_s)
        elif isinstance(action, Prefetch):
            data = tuple(replace(one, fetching=True) if one.data_id == action.data_id else one for one in model.data)
            model = replace(model, data=data)
            models = {
                key: replace(
                    other,
                    data=tuple(replace(o, fetching=True) if o.data_id == action.data_id else o for o in other.data),
                )
                for key, other in models.items()
            }
        models[model.model_id] = model
    return replace(snapshot, free=free, nodes_asked=asked, models=tuple(models[key] for key in sorted(models)))


@pytest.fixture
def do() -> Callable[[Plan, Snapshot], Snapshot]:
    """The cluster that obeys."""
    return carry_out


@pytest.fixture
def seen() -> Callable[..., Snapshot]:
    """A snapshot of models on a cluster of `cpu` cores of which nobody else holds any."""

    def build(*models: ModelState, cpu: float = 8, at: float = 600.0, tick: int = 1, **more: object) -> Snapshot:
        total = Resources.capacity(cpu=cpu, memory=64 * 2**30)
        free = total
        for model in models:
            free = free - model.demand.scaled(model.replicas)
        return Snapshot(tick, at, total, free, tuple(models), **more)

    return build


@pytest.fixture
def model() -> Callable[..., ModelState]:
    """A model with a steady rate of requests a second, half a second each."""

    def build(model_id: str = "whisper", rate: float = 4.0, cpu: float = 1.0, **more: object) -> ModelState:
        given = {"service_s": 0.5, "objective_s": 5.0, "arrivals": (rate,) * 60, "demand": Resources.demand(cpu=cpu)}
        return ModelState(model_id, **{**given, **more})

    return build
