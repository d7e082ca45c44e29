"""The balancing decision, case by case."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from balance.errors import Conflict, InvalidValue
from balance.planning import (
    DataNeed,
    DemandForecast,
    HostState,
    Memory,
    ModelMemory,
    Plan,
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
    explain,
    learn,
    plan,
)
from balance.planning.scaling import Guard, Need, ScalerState
from balance.types import Resources

POLICY = PlanPolicy()


def decide(snapshot, memory=None, policy=POLICY):
    return plan(snapshot, memory or Memory(), policy)


def of_kind(made, kind):
    return [action for action in made.actions if isinstance(action, kind)]


def test_load_is_met_with_replicas(seen, model):
    """A model without replicas gets as many as its load needs, and the reason carries the numbers."""
    (reserve,) = of_kind(decide(seen(model(rate=4.0))), Reserve)
    assert (reserve.replicas, reserve.amount.cpu) == (3, 3.0)
    assert "4.6 requests/s expected by the reactive rule" in reserve.reason
    assert reserve.because["service_s"] == 0.5
    assert reserve.expects.due_at == 605.0


def test_a_forecast_acts_ahead_of_the_load(seen, model):
    """Quiet now, busy when a replica started now would be ready: it is started now."""
    step = (0.0,) * 3 + (40.0,) * 9
    coming = DemandForecast(600.0, 10.0, step, step, tuple(1.2 * count for count in step), method="theta")
    quiet = model(rate=0.1, cold_start_s=30.0)
    assert decide(seen(quiet)).decisions[0].granted == 1
    made = decide(seen(replace(quiet, forecast=coming)))
    assert made.decisions[0].outlook.source == "forecast"
    assert made.decisions[0].outlook.horizon_s == 30.0
    assert made.decisions[0].granted == 4
    assert "expected by the forecast" in of_kind(made, Reserve)[0].reason


def test_a_forecast_never_takes_away_what_is_used(seen, model):
    """A forecast of silence does not undercut the rate of late."""
    silence = DemandForecast(600.0, 10.0, (0.0,) * 6, (0.0,) * 6, (0.0,) * 6)
    outlook = decide(seen(model(rate=4.0, forecast=silence))).decisions[0].outlook
    assert outlook.rate_per_s == pytest.approx(4.0)


@pytest.mark.parametrize(
    "forecast",
    [
        DemandForecast(600.0, 10.0, (9.0,) * 6, (9.0,) * 6, (9.0,) * 6, status="insufficient_data"),
        DemandForecast(0.0, 10.0, (9.0,) * 6, (9.0,) * 6, (9.0,) * 6),
        DemandForecast(600.0, 10.0, (), (), ()),
    ],
)
def test_a_forecast_that_does_not_stand_is_not_used(seen, model, forecast):
    """A fallback, a stale or an empty forecast leaves the reactive rule."""
    assert decide(seen(model(forecast=forecast))).decisions[0].outlook.source == "reactive"


def test_a_demoted_forecast_is_not_used(seen, model):
    """Once a forecast has lost against the reactive rule, the rule decides."""
    busy = DemandForecast(600.0, 10.0, (400.0,) * 6, (400.0,) * 6, (400.0,) * 6)
    memory = Memory(models=(ModelMemory("whisper", ScalerState(guard=Guard(mode="reactive"))),))
    assert decide(seen(model(forecast=busy)), memory).decisions[0].outlook.source == "reactive"


def test_a_backlog_is_drained_within_the_objective(seen, model):
    """What waits counts as a rate on top of what comes."""
    without = decide(seen(model(), cpu=64)).decisions[0]
    behind = decide(seen(model(queued=100), cpu=64)).decisions[0]
    assert behind.outlook.backlog_per_s == 20.0
    assert behind.granted - without.granted >= 10


def test_an_idle_model_gives_back_after_the_settling_time(seen, model):
    """Nothing asked for, nothing queued: it keeps its replicas for the settling time, then gives them back."""
    idle = model(rate=0.0, replicas=3)
    memory = Memory(models=(ModelMemory("whisper", ScalerState(needs=(Need(590.0, 3),))),))
    assert of_kind(decide(seen(idle), memory), Release) == []
    (release,) = of_kind(decide(seen(idle, at=651.0), memory), Release)
    assert release.replicas == 3
    assert "holds 3 replicas" in release.reason


def test_an_unmeasured_model_gets_one(seen, model):
    """Without a measured run time one replica is tried, which brings the measurement."""
    decision = decide(seen(model(rate=100.0, service_s=None))).decisions[0]
    assert (decision.outlook.source, decision.granted) == ("unmeasured", 1)


def test_not_enough_for_all_is_shared_by_priority(seen, model):
    """The weights of the priorities decide; nobody with a claim gets nothing while another is full."""
    high, low = model("a", rate=40.0, priority=2), model("b", rate=40.0, priority=4)
    made = decide(seen(high, low, cpu=10))
    assert made.contended
    assert [decision.granted for decision in made.decisions] == [7, 2]
    assert "that is its share of the cluster" in explain(made)[1]


def test_reservations_only_take_what_is_free(seen, model):
    """Room that others hold is not reserved: the rest waits for it."""
    snapshot = replace(seen(model(rate=8.0)), free=Resources.capacity(cpu=2, memory=2**30))
    (reserve,) = of_kind(decide(snapshot), Reserve)
    assert reserve.replicas == 2
    assert "wait for room" in reserve.reason


def test_room_is_given_back_before_it_is_taken(seen, model):
    """Release comes before Reserve, and its room counts."""
    idle, busy = model("a", rate=0.0, replicas=7), model("b", rate=8.0)
    kinds = [type(action) for action in decide(seen(idle, busy, cpu=8)).actions]
    assert kinds.index(Release) < kinds.index(Reserve)


def test_parallelism_is_the_share_and_what_nobody_claims(seen, model):
    """An uncontended model may use the whole cluster; a contended one only its share."""
    (alone,) = of_kind(decide(seen(model(), cpu=8)), SetParallelism)
    assert alone.parallelism == 8
    made = decide(seen(model("a", rate=40.0, parallelism=9), model("b", rate=40.0, parallelism=9), cpu=10))
    assert sum(decision.parallelism for decision in made.decisions) <= 11


def test_parallelism_that_is_close_enough_is_kept(seen, model):
    """A grant of one model changes what is left for all others: they are not told each time."""
    assert of_kind(decide(seen(model(parallelism=6), cpu=8)), SetParallelism) == []
    assert of_kind(decide(seen(model(parallelism=5), cpu=8)), SetParallelism)[0].parallelism == 8
    assert of_kind(decide(seen(model(parallelism=9), cpu=8)), SetParallelism)[0].parallelism == 8


def test_a_late_model_is_lifted_and_put_back(seen, model):
    """Beyond its objective it runs one priority higher; well within it, at its own again; between, no change."""
    late = model(queued=1, oldest_wait_s=6.0)
    assert of_kind(decide(seen(late)), SetPriority)[0].priority == 2
    lifted = replace(late, boosted_to=2)
    assert of_kind(decide(seen(lifted)), SetPriority) == []
    assert of_kind(decide(seen(replace(lifted, oldest_wait_s=4.0))), SetPriority) == []
    assert of_kind(decide(seen(replace(lifted, oldest_wait_s=1.0))), SetPriority)[0].priority is None
    assert of_kind(decide(seen(replace(late, priority=1))), SetPriority) == []


def test_an_overloaded_model_is_throttled_and_let_go(seen, model, do):
    """What a share can't carry waits at intake; when it can, everything is let in."""
    snapshot = seen(model(rate=40.0), cpu=4)
    made = decide(snapshot)
    (throttle,) = of_kind(made, Throttle)
    assert throttle.admission_per_s == pytest.approx(0.9 * made.decisions[0].parallelism / 0.5)
    assert 0 < throttle.batch_window_s <= 0.5
    calm = replace(do(made, snapshot).models[0], arrivals=(0.5,) * 60)
    (lifted,) = of_kind(decide(replace(do(made, snapshot), models=(calm,))), Throttle)
    assert (lifted.admission_per_s, lifted.batch_window_s) == (None, 0.0)


def test_data_is_fetched_before_it_is_needed(seen, model):
    """Soonest first, within the budget, never what is there or on its way, never further ahead than useful."""
    data = (
        DataNeed("late", 10, next_use_at=900.0),
        DataNeed("soon", 10, next_use_at=620.0),
        DataNeed("slow", 10, next_use_at=700.0, fetch_s=80.0),
        DataNeed("here", 10, resident=True, next_use_at=601.0),
        DataNeed("coming", 10, fetching=True, next_use_at=601.0),
        DataNeed("huge", 10_000, next_use_at=601.0),
    )
    fetched = of_kind(decide(seen(model(data=data), data_free_bytes=100)), Prefetch)
    assert [action.data_id for action in fetched] == ["soon", "slow"]


def test_data_is_there_before_the_forecast_demand(seen, model):
    """After a quiet night no gap tells the next use; the forecast does, for what the model's batches usually have."""
    quiet = tuple(0.0 for _ in range(12))
    forecast = DemandForecast(600.0, 10.0, quiet, (0.0,) * 6 + (4.0,) * 6, (1.0,) * 6 + (9.0,) * 6)
    usual = DataNeed("usual", 10, fetch_s=35.0, share=1.0)

    def fetched(*needs, **changes):
        snapshot = seen(model(forecast=forecast, data=needs, rate=0.0, **changes), data_free_bytes=100)
        return [action.data_id for action in of_kind(decide(snapshot), Prefetch)]

    assert fetched(usual, DataNeed("seldom", 10, fetch_s=35.0, share=0.02)) == ["usual"]
    assert fetched(DataNeed("quick", 10, fetch_s=1.0, share=1.0)) == []  # there is time yet
    assert fetched(replace(usual, max_age_s=50.0)) == []  # it would be too old by then
    assert fetched(replace(usual, max_age_s=70.0)) == ["usual"]
    assert fetched(replace(usual, next_use_at=620.0, share=0.0)) == ["usual"]  # the sooner of the two
    assert fetched(replace(usual, next_use_at=1_200.0)) == ["usual"]
    forecast = replace(forecast, status="stale")
    assert fetched(usual) == []
    assert fetched(usual, queued=1) == ["usual"]  # what waits will want it


def test_two_models_that_need_the_same_data_fetch_it_once(seen, model):
    """One piece of data is fetched once, whoever needs it."""
    need = DataNeed("shared", 10, next_use_at=610.0)
    snapshot = seen(model("a", data=(need,)), model("b", data=(need,)), data_free_bytes=100)
    assert len(of_kind(decide(snapshot), Prefetch)) == 1


def test_nodes_are_asked_for_and_follow_the_need_down(seen, model, do):
    """More than the cluster holds: nodes for all that is wanted; the demand shrinks with the need."""
    snapshot = seen(model(rate=40.0), cpu=4, autoscaling=True)
    made = decide(snapshot)
    (asked,) = of_kind(made, RequestNodes)
    wanted = made.decisions[0].outlook.wanted
    [(demand, count)] = asked.bundles
    assert demand == Resources.demand(cpu=1)
    enough = decide(replace(snapshot, total=demand.scaled(count), free=demand.scaled(count)))
    assert enough.decisions[0].granted == wanted > decide(snapshot).decisions[0].granted
    assert decide(replace(snapshot, total=demand.scaled(count - 1))).decisions[0].granted < wanted, "no more than that"
    after = do(made, snapshot)
    assert of_kind(decide(after), RequestNodes) == []
    gone = replace(after, models=(replace(after.models[0], arrivals=(0.0,) * 60),))
    assert of_kind(decide(gone), RequestNodes)[0].bundles == ()
    assert of_kind(decide(replace(snapshot, autoscaling=False)), RequestNodes) == []


def test_nothing_grows_while_memory_runs_out(seen, model):
    """A host above the ceiling stops growth and prefetching; what is held stays."""
    need = DataNeed("d", 10, next_use_at=601.0)
    pressed = seen(model(data=(need,)), hosts=(HostState("h", 0.5, 0.97),), data_free_bytes=100)
    assert of_kind(decide(pressed), Reserve) + of_kind(decide(pressed), Prefetch) == []


def test_a_carried_out_plan_leaves_nothing_to_do(seen, model, do):
    """The plan after an obeyed plan is empty: no thrash."""
    snapshot = seen(
        model("a", rate=40.0, priority=1, queued=5, oldest_wait_s=9.0),
        model("b", rate=2.0, replicas=5),
        model("c", rate=0.0, replicas=1),
        cpu=12,
        autoscaling=True,
    )
    first = decide(snapshot)
    assert first.actions
    assert decide(do(first, snapshot)).actions == ()


def test_empty_snapshot_gives_an_empty_plan():
    """No models, no cluster: nothing to do, said in words."""
    made = decide(Snapshot(1, 0.0))
    assert made.actions == ()
    assert explain(made) == ["Tick 1: no model is registered, so there is nothing to balance."]


def test_records_go_to_json_and_back(seen, model):
    """Snapshot, plan, memory and policy are the same after JSON, so a history can be replayed."""
    forecast = DemandForecast(600.0, 10.0, (1.0,), (2.0,), (3.0,))
    snapshot = seen(
        model("a", rate=40.0, forecast=forecast, data=(DataNeed("d", 10, next_use_at=610.0),)),
        model("b", rate=1.0, replicas=4, queued=3, oldest_wait_s=8.0),
        autoscaling=True,
        data_free_bytes=100,
        hosts=(HostState("h"),),
    )
    made = decide(snapshot)
    memory = learn(Memory(), made, replace(snapshot, at=620.0))
    for record in (snapshot, made, memory, POLICY):
        assert type(record).from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record
    again = plan(Snapshot.from_dict(snapshot.to_dict()), Memory(), PlanPolicy.from_dict(POLICY.to_dict()))
    assert again == made
    assert {type(action) for action in Plan.from_dict(made.to_dict()).actions} == {type(a) for a in made.actions}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: m(objective_s=0.0),
        lambda m: m(rate=float("nan")),
        lambda m: m(queued=-1),
        lambda m: m(service_s=-1.0),
        lambda m: m(priority=0),
        lambda m: m(""),
        lambda m: DemandForecast(0.0, 1.0, (2.0,), (1.0,), (3.0,)),
        lambda m: DemandForecast(0.0, 1.0, (2.0,), (float("nan"),), (3.0,)),
        lambda m: DemandForecast(0.0, 1.0, (2.0,), (), (3.0,)),
        lambda m: PlanPolicy(ScalingPolicy(coverage=1.0)),
        lambda m: PlanPolicy(reservable=2.0),
    ],
)
def test_what_can_not_be_is_refused(model, wrong):
    """A snapshot with a negative count, a NaN or crossing quantiles is a mistake of its maker."""
    with pytest.raises(InvalidValue):
        wrong(model)


def test_a_model_twice_is_refused(model):
    """Two states of one model contradict each other."""
    with pytest.raises(Conflict):
        Snapshot(1, 0.0, models=(model("a"), model("a")))


def test_who_leads_can_be_fixed(seen, model):
    """``reactive`` leaves the forecast out, an expected load included; ``forecast`` keeps a demoted one in the lead."""
    coming = DemandForecast(600.0, 10.0, (30.0,) * 6, (40.0,) * 6, (50.0,) * 6)
    silent = seen(model(rate=0.0, forecast=coming))
    by = {
        lead: decide(silent, policy=PlanPolicy(ScalingPolicy(lead=lead))).decisions[0].outlook
        for lead in ("auto", "reactive")
    }
    assert by["auto"].needed > 0 and (by["reactive"].needed, by["reactive"].source) == (0, "reactive")
    demoted = Memory(models=(ModelMemory("whisper", ScalerState(guard=Guard(mode="reactive"))),))
    assert decide(silent, demoted).decisions[0].outlook.source == "reactive"
    assert decide(silent, demoted, PlanPolicy(ScalingPolicy(lead="forecast"))).decisions[0].outlook.source == "forecast"
    with pytest.raises(InvalidValue, match="lead"):
        PlanPolicy().changed(lead="oracle")


def test_without_lending_a_model_runs_on_what_it_has(seen, model):
    """What nobody claims is lent to whoever has work, unless that is switched off."""
    lent, own = (decide(seen(model()), policy=PlanPolicy(lend=lend)).decisions[0] for lend in (True, False))
    assert lent.parallelism > lent.granted
    assert own.parallelism == own.granted


def test_changes_of_the_policy_find_their_place():
    """A setting of scaling is changed by its name like any other; one that does not exist changes nothing."""
    changed = PlanPolicy().changed(coverage=0.95, reservable=0.5)
    assert (changed.scaling.coverage, changed.reservable) == (0.95, 0.5)
    with pytest.raises(InvalidValue, match="wrong"):
        PlanPolicy().changed(wrong=1)
