"""Scaling policies on a simulated clock: waits, misses and costs as one would count them by hand."""

from __future__ import annotations

import numpy as np
import pytest

from balance.errors import InvalidValue
from balance.planning.scaling import Observation, ScalingPolicy
from balance.simulation.scaling import Balanced, Demand, Oracle, Scene, TargetUtilisation, simulate
from balance.simulation.scaling.outcome import Crowd

STEP_S = 15.0


class Always:
    """Wants the same number whatever happens."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.seen: list[Observation] = []

    def wants(self, seen: Observation) -> int:
        """Return that number."""
        self.seen.append(seen)
        return self.replicas


def steps(*parts: tuple[float, int]) -> Demand:
    """Demand of so many replicas' worth of work for so many steps, each part after the other."""
    return Demand(tuple(load / 0.1 for load, count in parts for _ in range(count)), STEP_S)


def test_misses_are_those_who_wait_longer_than_the_objective():
    """Served one by one in order of arrival: the crowd counts the same, whatever the capacity does."""
    rng = np.random.default_rng(4)
    part_s, lag = 5.0, 2
    came, capacity = rng.uniform(0, 60, 200), rng.uniform(10, 50, 200)
    crowd = Crowd(lag)
    counted = sum(crowd.after(float(a), float(c)) for a, c in zip(came, capacity, strict=True))

    fine = 200  # so many slices of each part, each served as a whole
    arrivals = np.repeat(came / fine, fine)
    room = np.repeat(capacity / fine, fine)
    left, total, late = 0.0, np.concatenate([[0.0], np.cumsum(arrivals)]), 0.0
    for index, free in enumerate(room):
        left = min(total[index + 1], left + free)
        before = index + 1 - lag * fine
        if before > 0 and left < total[before]:
            late += arrivals[before - 1]
    assert part_s * lag == 10.0
    assert counted == pytest.approx(late, rel=0.02)
    assert counted > 0


def test_enough_replicas_miss_nothing_and_cost_what_they_are():
    """Ten replicas' worth of work on twelve replicas: no miss, 1.2 replica-seconds for each of work."""
    made = simulate(Scene(steps((10.0, 400)), warm_up_s=1500.0), Always(12))
    assert (made.missed, made.cost, made.peak, made.unserved) == (0.0, pytest.approx(1.2), 12, 0.0)


def test_a_jump_is_missed_for_as_long_as_a_start_takes():
    """Load doubles at once: what comes is late from ten seconds' backlog on until the new replicas have drained it."""
    ready = []
    scene = Scene(steps((10.0, 40), (20.0, 80)), cold_start_s=300.0)
    made = simulate(scene, TargetUtilisation(0.8, drain_s=60.0), lambda _step, replicas, _queue: ready.append(replicas))
    first = next(step for step, replicas in enumerate(ready) if replicas > 20)
    assert first == 40 + 1 + 20  # the step, the one in which it is seen, and the cold start
    late_s = made.missed / 200.0
    assert 300.0 - 30.0 < late_s < 300.0 + 150.0


def test_what_was_ordered_and_given_back_is_paid_until_then():
    """A replica costs from its order on; the newest are given back first and are gone at once."""
    scene = Scene(steps((2.0, 10)), cold_start_s=60.0)

    class Once:
        def wants(self, seen: Observation) -> int:
            return 5 if seen.at in (15.0, 30.0) else 3

    made = simulate(scene, Once())
    assert made.replica_s == STEP_S * (2 + 5 + 5 + 3 * 7)
    assert made.changes == 2


def test_the_policy_sees_the_p90_of_starts_as_measured():
    """With a spread the told cold start is the 0.9 quantile of the starts so far, not the median that is given."""

    class More(Always):
        def wants(self, seen: Observation) -> int:
            self.replicas += 1
            return super().wants(seen)

    policy = More(10)
    simulate(Scene(steps((10.0, 120)), cold_start_s=60.0, cold_spread=0.5, seed=2), policy)
    told = policy.seen[-1].cold_start_s
    assert policy.seen[0].cold_start_s == 60.0
    assert 60.0 * np.exp(0.5 * 0.8) < told < 60.0 * np.exp(0.5 * 2.0)


@pytest.mark.parametrize("poisson", [False, True])
def test_the_same_scene_gives_the_same_outcome(poisson):
    """Chance is seeded."""
    scene = Scene(steps((5.0, 60), (9.0, 60)), cold_spread=0.3, poisson=poisson, seed=3)
    first, second = (simulate(scene, TargetUtilisation(0.9)) for _ in range(2))
    assert first == second
    assert (first.requests == pytest.approx(60 * 15 * 140.0)) is not poisson


def test_the_oracle_misses_nothing_for_less_than_anybody_else():
    """Who knows the future has capacity for exactly that."""
    rng = np.random.default_rng(1)
    load = 10 + 5 * np.sin(np.arange(600) / 60) + rng.uniform(0, 1, 600)
    demand = Demand(tuple((load / 0.1).tolist()), STEP_S)
    scene = Scene(demand, cold_start_s=120.0, warm_up_s=900.0)
    oracle = simulate(scene, Oracle(demand, 0.1, 120.0))
    assert oracle.missed == 0
    for target in (0.6, 0.7, 0.8, 0.9):
        rival = simulate(scene, TargetUtilisation(target))
        assert rival.missed > 0 or rival.cost > oracle.cost


def test_balance_holds_its_coverage_on_a_quiet_day():
    """The decision's own code, driven by the simulator: few misses at a modest price, and the load is followed."""
    load = 10 + 6 * np.sin(np.arange(1600) * 2 * np.pi / 800)
    demand = Demand(tuple((load / 0.1).tolist()), STEP_S)
    scene = Scene(demand, cold_start_s=150.0, warm_up_s=400 * STEP_S)
    made = simulate(scene, Balanced(ScalingPolicy(coverage=0.98, season_s=800 * STEP_S)))
    assert made.miss_share < 0.005
    assert made.cost < 1.25


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Demand(()),
        lambda: Demand((float("nan"),)),
        lambda: Demand((-1.0,)),
        lambda: Demand((0.0,)).scaled_to(1.0, 0.1),
        lambda: Demand.of_counts([1.0], every_s=60.0, step_s=7.0),
        lambda: Scene(Demand((1.0,)), cold_start_s=-1.0),
        lambda: Scene(Demand((1.0,)), warm_up_s=15.0),
        lambda: TargetUtilisation(0.0),
    ],
)
def test_what_can_not_be_is_refused(wrong):
    """No demand, a negative or undefined rate, a warm-up as long as everything: mistakes of the caller."""
    with pytest.raises(InvalidValue):
        wrong()
