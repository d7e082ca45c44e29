"""How good the estimated starts are that `explain` gives: against what happened, and against simpler guesses."""

from __future__ import annotations

import numpy as np
import pytest

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.explain import explain
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.simulation import (
    Cluster,
    Simulation,
    Stream,
    bursty,
    log_normal,
    merged,
    no_hint,
    true_hint,
    wrong_hint,
)
from balance.types import Resources

KINDS = (("short", 1, 10.0), ("middle", 2, 20.0), ("long", 1, 40.0))
SIGMA = 0.8
HINTS = {"unknown": no_hint, "true": true_hint, "too short": wrong_hint(1.0, 0.4), "too long": wrong_hint(1.0, 3.0)}


def asked_and_true(hint, seed):
    """Return what was estimated for tasks in a queue that comes and goes: rows of true wait, low, middle, high.

    A second array has what someone would say who knows the latest waits only: their mean, less what this
    task has waited already.
    """
    work = sum(cores * median for _, cores, median in KINDS) / 3 * np.exp(SIGMA**2 / 2)
    streams = [
        Stream(
            TaskSpec(name, name=name, demand=Resources.demand(cpu=cores)),
            bursty(32 / work * 0.95 / 3, burst_factor=6.0, burst_s=120.0, calm_s=300.0),
            log_normal(median, SIGMA),
            hint,
            count=300,
            seed=10 * seed + number,
        )
        for number, (name, cores, median) in enumerate(KINDS)
    ]
    asked = []

    def look(engine: Engine, now: float) -> None:
        queued = [task for task in engine.state.tasks.values() if task.state is State.QUEUED]
        for task in queued[:: max(1, len(queued) // 4)]:
            told = explain(engine.state, task, now)
            if told.estimated_start is not None:
                low, high = told.estimated_start_low, told.estimated_start_high
                asked.append((task.task_id, now, low - now, told.estimated_start - now, high - now))

    history = Simulation(Cluster.parse("4x8cpu"), merged(*streams)).run(observer=look, observe_every_s=20.0)
    number = {task_id: index for index, task_id in enumerate(history.task_ids)}
    order = np.argsort(history.started)
    starts, waits = history.started[order], (history.started - history.eligible)[order]
    rows, simple = [], []
    for task_id, now, *estimate in asked:
        rows.append((history.started[number[task_id]] - now, *estimate))
        last = waits[max(0, np.searchsorted(starts, now) - 50) : np.searchsorted(starts, now)]
        simple.append(max(0.0, last.mean() - (now - history.eligible[number[task_id]])) if len(last) else 0.0)
    return np.array(rows), np.array(simple)


def pinball(true, quantile, guess):
    """The loss that the true quantile minimises (Koenker & Bassett, Econometrica 46, 1978)."""
    off = true - guess
    return float(np.mean(np.where(off >= 0, quantile * off, (quantile - 1) * off)))


@pytest.mark.parametrize("hint", HINTS)
def test_estimated_starts_are_calibrated_and_beat_the_latest_waits(hint):
    """Whatever submitters say of run times: better than the mean of the latest waits, and about as sure as they are."""
    rows, simple = asked_and_true(HINTS[hint], seed=1)
    assert len(rows) > 100
    true, low, middle, high = rows.T
    assert pinball(true, 0.5, middle) < 0.75 * pinball(true, 0.5, simple)
    inside = np.mean((true >= low - 1e-9) & (true <= high + 1e-9))
    assert 0.55 <= inside <= 0.97, f"{inside:.0%} of the true starts lie in the range that should hold 80 %"
