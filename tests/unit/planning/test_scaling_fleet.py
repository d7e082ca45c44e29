"""Orders and queues of a fleet, and how fast a queue is to go."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from balance.planning.scaling import Fleet, Margin, Observation, ScalerState, ScalingPolicy, scale

WAITING = Observation(
    600.0, (40.0,) * 60, 1.0, queued=4000, service_s=0.5, objective_s=5.0, ready=20, cold_start_s=300.0
)
"""Twenty replicas' worth of work on twenty replicas, and a hundred seconds of it wait."""


def needed(seen: Observation, **policy: float) -> int:
    return scale(seen, ScalerState(), ScalingPolicy(**policy))[0].needed


@pytest.mark.parametrize("more", [1, 2])
def test_one_more_is_ordered_as_several_are(more):
    """A single replica takes its cold start too, and is the first to go again."""
    told = Fleet(2).towards(2 + more, now=0.0, cold_start_s=60.0)
    assert told == Fleet(2, ((60.0, more),))
    assert told.towards(2, now=15.0, cold_start_s=60.0) == Fleet(2)
    assert Fleet(2, ((60.0, 1),)).towards(2 + 1 + more, now=15.0, cold_start_s=60.0).orders == ((60.0, 1), (75.0, more))
    assert Fleet(2).towards(2 + more, now=0.0, cold_start_s=0.0) == Fleet(2 + more)


def test_the_dearer_a_miss_the_faster_a_queue_goes():
    """The time to drain falls as one over the root of the price: four times the price, twice the replicas for it."""
    calm = {price: needed(replace(WAITING, queued=0), coverage=price / (1 + price)) for price in (1.0, 4.0)}
    drains = [needed(WAITING, coverage=price / (1 + price)) - calm[price] for price in (1.0, 4.0)]
    floors = {
        queued: scale(replace(WAITING, queued=queued), ScalerState(), ScalingPolicy())[0].floor for queued in (0, 4000)
    }
    assert floors[4000] - floors[0] == pytest.approx(2000 / 70.7, abs=1.5)  # whatever any forecast says
    # 300 s of cold start: drained in 212 s at a price of one, in 106 s at four; 2,000 replica-seconds wait.
    assert drains == [pytest.approx(2000 / 212.1, abs=1.5), pytest.approx(2000 / 106.1, abs=1.5)]


def test_the_longer_a_start_the_slower_a_queue_goes():
    """Who pays for a long start orders fewer replicas that are needed only once; all within the two bounds."""
    drains = [
        needed(replace(WAITING, cold_start_s=start_s)) - needed(replace(WAITING, cold_start_s=start_s, queued=0))
        for start_s in (0.0, 60.0, 300.0, 1200.0)
    ]
    assert drains == sorted(drains, reverse=True)
    assert drains[0] == pytest.approx(2000 / 5.0, abs=2)  # at once: within the objective
    assert drains[1] == pytest.approx(2000 / 30.0, abs=2)  # no sooner than two bins show that it went
    assert needed(WAITING, drain_s=20.0) > needed(WAITING)  # never later than was asked for


def test_the_margin_goes_on_beyond_what_was_seen():
    """Exponential scores: the reach is their quantile, also where one in so many has not been seen yet."""
    scores = [-math.log(1.0 - (rank + 1) / 721) for rank in range(720)]
    margin = Margin().after(scores[::-1], kept=720)
    for coverage in (0.5, 0.9, 0.99, 0.999, 0.9999):
        assert margin.reach(coverage) == pytest.approx(-math.log(1.0 - coverage), rel=0.1)
