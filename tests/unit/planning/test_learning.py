"""Learning: bounds that come true, forecasts that have to pay, promises that are counted."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from balance.planning import (
    Calibration,
    DemandForecast,
    Guess,
    Memory,
    ModelState,
    PlanPolicy,
    Snapshot,
    Tally,
    learn,
    plan,
)
from balance.types import Resources

POLICY = PlanPolicy()
STEP_S = 10.0
HISTORY = 60


def wave(step: float) -> float:
    """Requests in a step: a day of 240 steps between 20 and 180."""
    return 100.0 - 80.0 * math.cos(2 * math.pi * step / 240)


def drive(counts, foretell, *, objective_s=20.0, cold_start_s=60.0, service_s=0.2, cpu=64.0):
    """Run plan, act, observe, learn over a history of counts; return replicas, modes and the last memory."""
    memory, replicas, parallelism = Memory(), 0, 1
    total = Resources.capacity(cpu=cpu)
    demand = Resources.demand(cpu=1)
    held, modes, covered = [], [], []
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
        modes.append(memory.of("m").mode)
        covered.append(memory.of("m").forecast.covered)
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


def bad_forecast(step: int) -> DemandForecast:
    rng = np.random.default_rng(step)
    middle = float(rng.uniform(0, 400))
    return DemandForecast(step * STEP_S, STEP_S, (0.5 * middle,) * 24, (middle,) * 24, (1.5 * middle,) * 24)


@pytest.fixture(scope="module")
def counts() -> list[float]:
    rng = np.random.default_rng(7)
    return [float(rng.poisson(wave(step))) for step in range(800)]


def test_coverage_converges_whatever_the_forecast_claims(counts):
    """A forecast that is much too sure of itself ends up with bounds that hold as often as they should."""

    def boastful(step):
        good = good_forecast(step)
        return replace(good, q10=good.q50, q90=good.q50)

    _, _, memory = drive(counts, boastful)
    known = memory.of("m").forecast
    assert known.windows > 600
    assert known.covered / known.windows == pytest.approx(POLICY.coverage, abs=0.03)


def test_coverage_survives_a_shift():
    """Scores from another world: after the arrivals double, the misses go back to their share."""
    rng = np.random.default_rng(3)
    calibration, covered = Calibration(), []
    for window in range(1200):
        guess = calibration.guess(100.0, 10.0, POLICY)
        actual = float(rng.poisson(100 if window < 300 else 200))
        covered.append(actual <= guess.bound)
        calibration = calibration.after(guess, actual, POLICY)
    assert sum(covered[400:]) / 800 == pytest.approx(0.9, abs=0.02)


def test_coverage_survives_growth_without_end():
    """Every window above all before it: the quantile of past scores alone would never cover; adapting does."""
    calibration = Calibration()
    for window in range(2000):
        calibration = calibration.after(calibration.guess(100.0, 10.0, POLICY), 100.0 + window, POLICY)
    assert calibration.covered / calibration.windows == pytest.approx(POLICY.coverage, abs=0.02)


def test_a_good_forecast_is_kept_and_a_bad_one_demoted(counts):
    """The forecast decides as long as its bounds cost less than the reactive rule's."""
    assert set(drive(counts, good_forecast)[1]) == {"forecast"}
    modes = drive(counts[:400], bad_forecast)[1]
    assert modes[-1] == "reactive"
    assert modes.index("reactive") < 60


def test_a_forecast_that_improves_is_taken_back(counts):
    """A demoted forecast goes on being judged, and comes back when it pays."""
    modes = drive(counts, lambda step: bad_forecast(step) if step < 200 else good_forecast(step))[1]
    assert "reactive" in modes
    assert modes[-1] == "forecast"


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
        counts[HISTORY + n] / STEP_S * 0.2 > held[n - 6]  # more Erlang than replicas
        for n in range(6, len(held))
    ]
    assert sum(late) / len(late) <= 0.01


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


def test_a_window_that_the_counts_do_not_reach_teaches_nothing():
    """Where nobody knows what came, nothing is concluded."""
    state = ModelState("m", arrivals=(1.0,) * 60, service_s=0.1)
    made = plan(Snapshot(1, 60.0, models=(state,)), Memory(), POLICY)
    known = learn(Memory(), made, Snapshot(2, 10_000.0, models=(state,))).of("m")
    assert (known.reactive.windows, known.wagers) == (0, ())


def test_memory_stays_bounded():
    """However long a history, what is kept has its bounds."""
    memory = Memory()
    for tick in range(400):
        state = ModelState(
            "m", arrivals=(4.0,) * 10, service_s=0.5, cold_start_s=10_000.0, queued=1, oldest_wait_s=99.0
        )
        snapshot = Snapshot(tick, float(tick), models=(state,))
        memory = learn(memory, plan(snapshot, memory, POLICY), replace(snapshot, at=tick + 0.5))
    known = memory.of("m")
    assert len(known.wagers) <= 128
    assert len(known.needs) <= 60
    calibration = known.reactive
    for _ in range(500):
        calibration = calibration.after(Guess(1.0, 1.0, 2.0), 1.0, POLICY)
    assert len(calibration.scores) == POLICY.memory_of_scores
