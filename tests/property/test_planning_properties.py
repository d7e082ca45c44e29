"""What holds for any plan: never more than there is, the same for the same, monotone, at rest when obeyed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from balance.planning import (
    DemandForecast,
    Memory,
    ModelState,
    PlanPolicy,
    Prefetch,
    Release,
    RequestNodes,
    Reserve,
    ScalingPolicy,
    SetParallelism,
    SetPriority,
    Snapshot,
    Throttle,
    learn,
    plan,
)
from balance.planning.sizing import replicas_for
from balance.types import Resources

POLICY = PlanPolicy(ScalingPolicy(max_replicas=50))
amounts = st.builds(
    lambda cpu, memory, gpu: Resources.demand(cpu=cpu / 2, memory=memory * 2**20, gpu=gpu),
    st.integers(1, 8),
    st.integers(0, 4000),
    st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0]),
)
forecasts = st.none() | st.lists(st.floats(0, 200), min_size=1, max_size=6).map(
    lambda middle: DemandForecast(
        100.0, 5.0, tuple(m / 2 for m in middle), tuple(middle), tuple(m * 2 + 1 for m in middle)
    )
)


@st.composite
def models(draw, name):
    return ModelState(
        name,
        priority=draw(st.integers(1, 5)),
        demand=draw(amounts),
        objective_s=draw(st.sampled_from([0.1, 1.0, 20.0])),
        queued=draw(st.integers(0, 50)),
        running=draw(st.integers(0, 3)),
        oldest_wait_s=draw(st.floats(0, 60)),
        arrivals=tuple(draw(st.lists(st.floats(0, 100), max_size=5))),
        forecast=draw(forecasts),
        service_s=draw(st.none() | st.floats(0.0, 3.0)),
        service_p90_s=draw(st.none() | st.floats(0.0, 9.0)),
        cold_start_s=draw(st.sampled_from([0.0, 5.0])),
        replicas=draw(st.integers(0, 3)),
        parallelism=draw(st.integers(0, 6)),
    )


@st.composite
def snapshots(draw):
    some = [draw(models(name)) for name in "abc"[: draw(st.integers(1, 3))]]
    total = Resources.capacity(cpu=draw(st.integers(0, 40)), memory=16 * 2**30, gpu=draw(st.integers(0, 4)))
    free = total
    for model in some:
        free = free - model.demand.scaled(model.replicas)
    return Snapshot(1, 100.0, total, free, tuple(some), autoscaling=draw(st.booleans()))


def obey(made, snapshot):
    """Return the snapshot after every action succeeded."""
    states = {model.model_id: model for model in snapshot.models}
    free, asked = snapshot.free, snapshot.nodes_asked
    for action in made.actions:
        match action:
            case Reserve():
                free = free - action.amount
                state = states[action.model_id]
                states[action.model_id] = replace(state, replicas=state.replicas + action.replicas)
            case Release():
                free = free + action.amount
                state = states[action.model_id]
                states[action.model_id] = replace(state, replicas=state.replicas - action.replicas)
            case SetParallelism():
                states[action.model_id] = replace(states[action.model_id], parallelism=action.parallelism)
            case SetPriority():
                states[action.model_id] = replace(states[action.model_id], boosted_to=action.priority)
            case Throttle():
                states[action.model_id] = replace(
                    states[action.model_id],
                    batch_window_s=action.batch_window_s,
                    admission_per_s=action.admission_per_s,
                )
            case RequestNodes():
                asked = action.bundles
            case Prefetch():
                raise AssertionError("no data was asked for")
    return replace(snapshot, free=free, nodes_asked=asked, models=tuple(states.values()))


@given(snapshots())
def test_grants_fit_and_nothing_is_negative(snapshot):
    """Safety: all grants together fit in the cluster, new reservations in what is free, no number is below 0."""
    made = plan(snapshot, Memory(), POLICY)
    held = Resources()
    for decision in made.decisions:
        held = held + snapshot.model(decision.outlook.model_id).demand.scaled(decision.granted)
        assert 0 <= decision.granted <= decision.outlook.wanted
        assert decision.parallelism >= 1 or snapshot.model(decision.outlook.model_id).parallelism >= 0
    assert held.fits_in(snapshot.total)
    free = snapshot.free
    for action in made.actions:
        if isinstance(action, Release):
            assert 0 < action.replicas <= snapshot.model(action.model_id).replicas
            free = free + action.amount
        if isinstance(action, Reserve):
            assert action.replicas > 0
            assert action.amount.fits_in(free)
            free = free - action.amount


@given(snapshots())
def test_same_snapshot_same_plan(snapshot):
    """The plan is a function: equal arguments, equal plan, whatever the order of the models."""
    made = plan(snapshot, Memory(), POLICY)
    assert made == plan(Snapshot.from_dict(snapshot.to_dict()), Memory(), POLICY)
    assert made == plan(replace(snapshot, models=snapshot.models[::-1]), Memory(), POLICY)


@given(snapshots())
def test_an_obeyed_plan_comes_to_rest(snapshot):
    """Liveness without thrash: obeying changes nothing twice; after two turns there is nothing left to do.

    One more turn may be needed, since room that a first turn gives back is free only in the second.
    """
    for _ in range(2):
        snapshot = obey(plan(snapshot, Memory(), POLICY), snapshot)
    assert plan(snapshot, Memory(), POLICY).actions == ()


@given(snapshots(), st.integers(1, 40), st.floats(1, 50))
def test_more_demand_never_means_fewer_replicas(snapshot, queued, more):
    """Monotone: whoever has more to do is granted no less."""
    first = snapshot.models[0]
    busier = replace(first, queued=first.queued + queued, arrivals=tuple(count + more for count in first.arrivals))
    after = replace(snapshot, models=(busier, *snapshot.models[1:]))
    before = {d.outlook.model_id: d.granted for d in plan(snapshot, Memory(), POLICY).decisions}
    assert {d.outlook.model_id: d.granted for d in plan(after, Memory(), POLICY).decisions}[first.model_id] >= before[
        first.model_id
    ]


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0.01, 5), st.floats(0, 10))
def test_sizing_is_monotone(low, high, service_s, wait_s):
    """A higher rate, a longer service or a shorter wait never needs fewer replicas."""
    low, high = sorted((low, high))
    base = replicas_for(low, service_s, wait_s, limit=300)
    assert base <= replicas_for(high, service_s, wait_s, limit=300)
    assert base <= replicas_for(low, service_s, wait_s / 2, limit=300)


@given(st.lists(snapshots(), min_size=1, max_size=4))
def test_learning_from_anything_keeps_plans_sound(history):
    """Whatever was learnt, memory goes to JSON and back, and the next plan still fits."""
    memory = Memory()
    for turn, snapshot in enumerate(history):
        made = plan(snapshot, memory, POLICY)
        memory = learn(memory, made, replace(snapshot, at=100.0 + 10 * (turn + 1)), POLICY)
        assert Memory.from_dict(memory.to_dict()) == memory
        held = Resources()
        for decision in made.decisions:
            held = held + snapshot.model(decision.outlook.model_id).demand.scaled(decision.granted)
        assert held.fits_in(snapshot.total)
