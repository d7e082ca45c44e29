"""What holds for any scaling decision, whatever came and whatever was forecast."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.planning import DemandForecast
from balance.planning.scaling import Observation, ScalerState, ScalingPolicy, scale

POLICY = ScalingPolicy(bin_s=10.0, window_s=40.0, season_s=1200.0, min_replicas=0, max_replicas=60)
counts = st.lists(st.floats(0, 500), min_size=1, max_size=40)
observations = st.builds(
    Observation,
    at=st.just(400.0),
    arrivals=counts.map(tuple),
    step_s=st.sampled_from([2.0, 10.0, 15.0]),
    queued=st.floats(0, 1000),
    ready=st.integers(0, 50),
    starting=st.integers(0, 20),
    service_s=st.none() | st.floats(0.0, 5.0),
    cold_start_s=st.floats(0, 600),
    objective_s=st.floats(0.1, 60),
    forecast=st.none()
    | st.lists(st.floats(0, 1000), min_size=1, max_size=8).map(
        lambda middle: DemandForecast(
            400.0, 30.0, tuple(m / 2 for m in middle), tuple(middle), tuple(2 * m for m in middle)
        )
    ),
)


def lived(seen: Observation, ticks: int) -> ScalerState:
    """Return the state after the same was observed again and again."""
    state = ScalerState()
    span = seen.step_s * len(seen.arrivals)
    for tick in range(ticks):
        _, state = scale(replace(seen, at=seen.at - span * (ticks - tick)), state, POLICY)
    return state


@given(observations, st.integers(0, 3))
@settings(max_examples=60)
def test_never_below_the_floor_and_within_the_bounds(seen, ticks):
    """Safety: what the arrivals of late and the queue need is never undercut, no bound is broken, nothing is NaN."""
    decision, state = scale(seen, lived(seen, ticks), POLICY)
    assert decision.floor <= decision.needed <= decision.replicas <= POLICY.max_replicas
    assert decision.replicas >= POLICY.min_replicas
    assert all(math.isfinite(value) for value in decision.to_dict().values() if isinstance(value, float))
    assert ScalerState.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False))) == state


@given(observations, st.integers(0, 2), st.floats(1.0, 5.0), st.integers(0, 500))
@settings(max_examples=60)
def test_more_load_never_means_fewer(seen, ticks, times, queued):
    """Monotone: after the same past, more arrivals or a longer queue never lower the floor under the decision."""
    state = lived(seen, ticks)
    more = replace(seen, arrivals=tuple(count * times for count in seen.arrivals), queued=seen.queued + queued)
    for forecast in (None, seen.forecast) if not ticks else (None,):
        less, after = (scale(replace(one, forecast=forecast), state, POLICY)[0] for one in (seen, more))
        assert after.floor >= less.floor


@given(observations, st.integers(0, 2))
@settings(max_examples=40)
def test_the_same_moment_twice_is_once(seen, ticks):
    """A decision that is asked for again is the same, and nothing is counted twice."""
    decision, state = scale(seen, lived(seen, ticks), POLICY)
    again, after = scale(seen, state, POLICY)
    assert (again, after) == (decision, state)
