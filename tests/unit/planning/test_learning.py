"""Learning: expectations that come true, forecasts that have to pay, promises that are counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from balance.planning import (
    DemandForecast,
    Memory,
    ModelState,
    PlanPolicy,
    ScalingPolicy,
    Snapshot,
    Tally,
    learn,
    plan,
    suppose,
)
from balance.planning.scaling import Margin, Reach
from balance.types import Resources

STEP_S = 10.0
POLICY = PlanPolicy(ScalingPolicy(bin_s=STEP_S, window_s=40.0, season_s=2400.0))
HISTORY = 60


def wave(step: float) -> float:
    """Requests in a step: a day of 240 steps between 20 and 180."""
    return 100.0 - 80.0 * math.cos(2 * math.pi * step / 240)


def drive(counts, foretell, *, objective_s=20.0, cold_start_s=60.0, service_s=0.2, cpu=64.0):
    """Run plan, act, observe, learn over a history of counts; return replicas, modes and the last memory."""
    memory, replicas, parallelism = Memory(), 0, 1
    total = Resources.capacity(cpu=cpu)
    demand = Resources.demand(cpu=1)
    held, modes = [], []
    for step in range(HISTORY, len(counts)):
        state = ModelState(
            "m",
            demand=demand,
            objective_s=objective_s,
            cold_start_s=cold_start_s,
            service_s=service_s,
            arrivals=tuple(counts[step - HISTORY : step]),
            step_s=STEP_S,
            forecast=foretell(step),
            replicas=replicas,
            parallelism=parallelism,
        )
        snapshot = Snapshot(step, step * STEP_S, total, total - demand.scaled(replicas), (state,))
        if step > HISTORY:
            memory = learn(memory, made, snapshot, POLICY)  # noqa: F821 (made in the turn before)
        made = plan(snapshot, memory, POLICY)
        replicas, parallelism = made.decisions[0].granted, made.decisions[0].parallelism
        held.append(replicas)
        modes.append(memory.of("m").scaling.guard.mode)
    return held, modes, memory


def good_forecast(step: int) -> DemandForecast:
    middle = [wave(step + n) for n in range(24)]
    return DemandForecast(
        step * STEP_S,
        STEP_S,
        tuple(m - 1.28 * math.sqrt(m) for m in middle),
        tuple(middle),
        tuple(m + 1.28 * math.sqrt(m) for m in middle),
    )


@pytest.fixture(scope="module")
def counts() -> list[float]:
    rng = np.random.default_rng(7)
    return [float(rng.poisson(wave(step))) for step in range(700)]


def test_coverage_converges_whatever_the_forecast_claims(counts):
    """A forecast that is much too sure of itself ends up with bounds that hold as often as they should."""

    def boastful(step):
        good = good_forecast(step)
        return replace(good, q10=good.q50, q90=good.q50)

    _, _, memory = drive(counts, boastful)
    coverage, scaling = POLICY.scaling.coverage, memory.of("m").scaling
    assert scaling.reach == Reach.of(scaling.expects, coverage)
    scores = scaling.expects.led.scores
    held = [score <= Margin(scores[:place]).reach(coverage) for place, score in enumerate(scores)]
    assert len(held) > 100
    assert sum(held) / len(held) == pytest.approx(coverage, abs=0.06)


def test_the_worth_of_a_forecast_is_learnt(counts):
    """A forecast that knows the wave keeps its say; one that is noise loses it."""

    def noise(step):
        middle = float(np.random.default_rng(step).uniform(0, 400))
        return DemandForecast(step * STEP_S, STEP_S, (0.5 * middle,) * 24, (middle,) * 24, (1.5 * middle,) * 24)

    def say(foretell):
        return drive(counts[:500], foretell)[2].of("m").scaling.expects.centre.weights[-1]

    assert say(good_forecast) > 0.5
    assert abs(say(noise)) < 0.1


def test_the_history_does_not_thrash(counts):
    """Two waves with noise: replicas follow them up and down, with few changes of direction."""
    held, _, _ = drive(counts, good_forecast)
    changes = [b - a for a, b in pairwise(held) if b != a]
    reversals = sum(1 for a, b in pairwise(changes) if a * b < 0)
    assert min(held) >= 1
    assert max(held) >= 4
    assert len(changes) <= 60
    assert reversals <= 30


def test_capacity_is_there_when_the_load_is(counts):
    """With a cold start of a minute, the replicas wanted a minute ago carry the load of now almost always."""
    held, _, _ = drive(counts, good_forecast)
    late = [
        counts[HISTORY + n] / STEP_S * 0.2 > 1.1 * held[n - 6]  # more than replicas and queue can take
        for n in range(6, len(held))
    ]
    assert sum(late) / len(late) <= 0.02


def test_what_is_supposed_shifts_what_was_learnt(counts):
    """A hypothesis about demand is planned for with the margin that was learnt, not with the floor alone."""
    _, _, memory = drive(counts[:400], lambda step: None)
    state = ModelState(
        "m",
        demand=Resources.demand(cpu=1),
        service_s=0.2,
        arrivals=tuple(counts[340:400]),
        step_s=STEP_S,
        cold_start_s=60.0,
    )
    seen = Snapshot(400, 4000.0, Resources.capacity(cpu=64), Resources.capacity(cpu=64), (state,))
    memory = learn(memory, plan(seen, memory, POLICY), seen, POLICY)
    now, doubled = (plan(each, memory, POLICY).decisions[0].outlook for each in (seen, suppose(seen, ["demand=x2"])))
    assert doubled.rate_per_s == pytest.approx(2 * now.rate_per_s)


def test_promises_are_counted():
    """An action's expectation is judged at its time by what is seen then."""
    state = ModelState("m", demand=Resources.demand(cpu=1), service_s=0.5, arrivals=(4.0,) * 60, objective_s=5.0)
    total = Resources.capacity(cpu=8)
    made = plan(Snapshot(1, 60.0, total, total, (state,)), Memory(), POLICY)
    early = learn(Memory(), made, Snapshot(2, 61.0, total, total, (state,)))
    assert early.tallies == ()
    assert len(early.expectations) == 1
    late = replace(state, oldest_wait_s=9.0)
    assert learn(Memory(), made, Snapshot(2, 66.0, models=(state,))).tallies == (Tally("reserve", 1, 0),)
    assert learn(Memory(), made, Snapshot(2, 66.0, models=(late,))).tallies == (Tally("reserve", 0, 1),)
    assert learn(Memory(), made, Snapshot(2, 66.0)).models == ()


def test_memory_stays_bounded():
    """However long a history, what is kept has its bounds."""
    memory, sizes = Memory(), []
    for tick in range(40):
        at = 600.0 * tick
        state = ModelState(
            "m", arrivals=(4.0,) * 60, step_s=10.0, service_s=0.5, cold_start_s=300.0, queued=1, oldest_wait_s=99.0
        )
        snapshot = Snapshot(tick, at, models=(state,))
        memory = learn(memory, plan(snapshot, memory, POLICY), snapshot, POLICY)
        sizes.append(len(json.dumps(memory.to_dict())))
    assert max(sizes[30:]) < 1.2 * max(sizes[:30])
    assert sizes[-1] < 100_000
