"""Who gets which room: reservations, backfill, preemption, gangs, tenants, devices."""

from __future__ import annotations

import pytest
from cluster_play import Play, need, room

from balance.core.scheduler.events import (
    CapacityChanged,
    NodeJoined,
    NodeLost,
    ReservationAdded,
    ReservationRemoved,
    TaskCancelRequested,
    TaskSubmitted,
)
from balance.core.scheduler.policy import Tenant
from balance.core.scheduler.spec import TaskSpec
from balance.errors import Conflict

# ---------------------------------------------------------------- reservation and backfill


def test_a_big_task_starts_behind_a_stream_of_small_ones():
    """Two devices, an endless stream of one-device tasks: the two-device task starts within one runtime."""
    play = Play(("n1", room(gpu=2)))
    play.submit("s0", need(gpu=1))
    play.submit("s1", need(gpu=1))
    play.submit("big", need(gpu=2))
    for number in range(2, 10):
        play.submit(f"s{number}", need(gpu=1))
    play.now = 5.0
    assert play.finish("s0") == ["s0 completed"]
    play.now = 6.0
    assert play.finish("s1") == ["s1 completed", "start big on n1/0/1"]


def test_backfill_uses_the_hole_without_delaying_the_reservation():
    """Who will be done in time may use the room that is kept; who would not, or may not, waits."""
    play = Play(("n1", room(gpu=2)))
    play.submit("a", need(gpu=1), expected_run_s=10.0)
    play.submit("b", need(gpu=1), expected_run_s=2.0)
    play.submit("big", need(gpu=2))
    play.now = 2.0
    play.finish("b")
    assert play.submit("unknown", need(gpu=1), name="never seen before") == []
    assert play.submit("slow", need(gpu=0.5), expected_run_s=9.0) == []
    assert play.submit("quick", need(gpu=0.7), expected_run_s=7.0) == ["start quick on n1/1"]
    play.now = 9.0
    assert play.finish("quick") == ["quick completed"]
    play.now = 10.0
    assert play.finish("a") == ["a completed", "start big on n1/0/1"]


def test_a_wrong_guess_can_not_starve_the_reservation():
    """Tasks that claim one second and take ten are believed no more once one was measured: none overtakes."""
    play = Play(("n1", room(cpu=2)))
    play.submit("l0", expected_run_s=1.0)
    play.submit("l1", expected_run_s=1.0)
    play.submit("big", need(cpu=2))
    for number in range(2, 20):
        play.submit(f"l{number}", expected_run_s=1.0)
    order = []
    running = [("l0", 10.0), ("l1", 15.0)]
    while running:
        running.sort(key=lambda pair: pair[1])
        task_id, end = running.pop(0)
        play.now = end
        for line in play.finish(task_id):
            if line.startswith("start"):
                order.append(line.split()[1])
                running.append((order[-1], end + 10.0))
    assert order.index("big") == 0, order


def test_an_overestimate_can_not_starve_the_reservation():
    """What ends long before it was expected to brings the promised moment forward."""
    play = Play(("n1", room(cpu=2)))
    play.submit("slow", expected_run_s=1000.0, name="slow")
    play.submit("l0", expected_run_s=100.0, name="l0")
    play.submit("big", need(cpu=2))
    for number in range(1, 9):
        play.submit(f"l{number}", expected_run_s=100.0, name=f"l{number}")
    play.now = 10.0
    assert play.finish("l0") == ["l0 completed", "start l1 on n1"]
    play.now = 15.0
    assert play.finish("slow") == ["slow completed"]
    play.now = 20.0
    assert play.finish("l1") == ["l1 completed", "start big on n1"]


def test_what_runs_beyond_the_promised_moment_does_not_count_as_free_then():
    """Beside a long runner only what leaves room for the reservation even then may start."""
    play = Play(("n1", room(cpu=4)))
    play.submit("long", need(cpu=1), expected_run_s=1000.0)
    play.submit("short", need(cpu=2), expected_run_s=10.0)
    play.submit("big", need(cpu=3))
    play.now = 1.0
    assert play.submit("unknown", need(cpu=1), name="never seen before") == []
    play.now = 10.0
    assert play.finish("short") == ["short completed", "start big on n1"]
    play.submit("big2", need(cpu=2))
    assert play.submit("third", need(cpu=1), name="never seen before") == []


def test_what_is_free_elsewhere_is_used_while_room_is_kept():
    """An earmark costs one node's hole, not the cluster."""
    play = Play(("n1", room(gpu=2)), ("n2", room(gpu=2)))
    for number in range(4):
        play.submit(f"s{number}", need(gpu=1))
    play.submit("big", need(gpu=2))
    for number in range(4, 8):
        play.submit(f"s{number}", need(gpu=1))
    started = []
    for number in range(3):
        started += [line for line in play.finish(f"s{number}") if "start" in line]
    assert "start big on n1/0/1" in started or "start big on n2/0/1" in started
    assert len(started) >= 2


def test_an_earmark_goes_when_its_task_does():
    """Cancelled, the room is everyone's again, at once."""
    play = Play(("n1", room(cpu=2)))
    play.submit("a")
    play.submit("b")
    play.submit("big", need(cpu=2))
    play.submit("small")
    assert play.finish("a") == ["a completed"]
    assert play.tell(TaskCancelRequested("big")) == ["big cancelled", "start small on n1"]


def test_who_is_more_urgent_may_use_room_kept_for_others():
    """An earmark protects against those behind, not against those before."""
    play = Play(("n1", room(cpu=2)))
    play.submit("a")
    play.submit("b")
    play.submit("big", need(cpu=2), priority=3)
    play.submit("small", priority=3)
    play.finish("a")
    assert play.submit("alarm", priority=1) == ["start alarm on n1"]


# ---------------------------------------------------------------- preemption


def test_preemption_stops_what_loses_least():
    """Of two victims that would do, the one that has run for less is stopped; it runs again later."""
    play = Play(("n1", room(cpu=2)))
    play.submit("old", priority=5, preemptible=True)
    play.now = 50.0
    play.submit("young", priority=5, preemptible=True)
    play.now = 60.0
    assert play.submit("urgent", priority=1) == ["stop young: preempted"]
    assert play.submit("sneak", priority=5) == []
    assert play.stopped("young") == ["start urgent on n1"]
    assert play.finish("urgent") == ["urgent completed", "start young on n1"]
    assert play.engine.task("young").preemptions == 1


def test_preemption_needs_leave_and_a_lower_priority():
    """What does not allow it, or is as urgent, is never stopped."""
    play = Play(("n1", room(cpu=2)))
    play.submit("guarded", priority=5)
    play.submit("equal", priority=2, preemptible=True)
    assert play.submit("urgent", priority=2) == []


def test_no_more_is_stopped_than_is_needed():
    """A small newcomer takes the place of one small task, whatever the cheaper order would collect."""
    play = Play(("n1", room(cpu=4)))
    play.submit("tiny", need(cpu=1), priority=5, preemptible=True)
    play.submit("large", need(cpu=3), priority=5, preemptible=True)
    play.now = 10.0
    assert play.submit("urgent", need(cpu=3), priority=1) == ["stop large: preempted"]


def test_a_task_is_preempted_so_often_and_no_more():
    """After that it is left alone, however urgent the others are."""
    play = Play(("n1", room(cpu=1)), preemptions_max=1)
    play.submit("victim", priority=5, preemptible=True)
    play.submit("u1", priority=1)
    play.stopped("victim")
    play.finish("u1")
    assert play.submit("u2", priority=1) == []


# ---------------------------------------------------------------- gangs


def gang(play, ids, demand, size=None, **options):
    specs = [TaskSpec(i, demand=demand, gang_id="g", gang_size=size or len(ids), **options) for i in ids]
    return play.tell(*map(TaskSubmitted, specs))


def test_a_gang_starts_together_over_nodes_or_not_at_all():
    """Three members that need two nodes wait until both have room, then start in one go."""
    play = Play(("n1", room(gpu=2)), ("n2", room(gpu=2)))
    play.submit("a", need(gpu=2))
    assert gang(play, ["g0", "g1", "g2"], need(gpu=1)) == []
    assert len(play.finish("a")) == 4
    places = [(play.starts[i].node_id, play.starts[i].devices) for i in ("g0", "g1", "g2")]
    assert len(set(places)) == 3
    assert {play.state(i) for i in ("g0", "g1", "g2")} == {"running"}


def test_a_gang_that_does_not_fit_keeps_nobody_else_from_starting():
    """Placing it on trial leaves no trace: what fits beside nothing of it starts."""
    play = Play(("n1", room(cpu=2)))
    assert gang(play, ["g0", "g1", "g2"], need(cpu=1)) == []
    assert play.submit("small", need(cpu=1), priority=1) == ["start small on n1"]


def test_an_incomplete_gang_waits():
    """The last member to come starts all."""
    play = Play(("n1", room(cpu=4)))
    assert gang(play, ["g0"], need(cpu=1), size=2) == []
    assert gang(play, ["g1"], need(cpu=1), size=2) == ["start g0 on n1", "start g1 on n1"]
    with pytest.raises(Conflict, match="full"):
        gang(play, ["g2"], need(cpu=1), size=2)


def test_a_gang_gets_room_kept_on_every_node_it_needs():
    """A stream of small tasks does not keep a gang waiting for ever."""
    play = Play(("n1", room(cpu=1)), ("n2", room(cpu=1)))
    play.submit("s0")
    play.submit("s1")
    gang(play, ["g0", "g1"], need(cpu=1))
    for number in range(2, 9):
        play.submit(f"s{number}")
    assert play.finish("s0") == ["s0 completed"]
    assert sorted(play.finish("s1")) == ["s1 completed", "start g0 on n1", "start g1 on n2"]


def test_a_gang_starts_again_together():
    """One member loses its worker: the others are stopped, and all start anew."""
    play = Play(("n1", room(cpu=1)), ("n2", room(cpu=1)))
    gang(play, ["g0", "g1"], need(cpu=1))
    assert play.fail("g0", "worker_lost") == ["stop g1: gang"]
    assert play.stopped("g1") == []
    assert sorted(play.at(play.now + 1)) == ["start g0 on n1", "start g1 on n2"]


def test_a_gang_fails_together():
    """One member fails for good: the others are cancelled."""
    play = Play(("n1", room(cpu=2)))
    gang(play, ["g0", "g1"], need(cpu=1))
    assert play.fail("g0") == ["g0 failed", "stop g1: cancelled"]
    assert play.stopped("g1") == ["g1 cancelled"]
    assert "g0" in play.engine.task("g1").reason
    assert not play.engine.state.gangs


# ---------------------------------------------------------------- tenants


def run_shares(play, tenants, seconds):
    """Let endless one-second tasks of all tenants run; return how many of each were done after ten seconds.

    Whoever comes first has the cluster to itself for a second; the others are given that back within ten.
    """
    done = dict.fromkeys(tenants, 0)
    number = 0
    for tenant in tenants:
        for _ in range(40):
            number += 1
            play.submit(f"{tenant}-{number}", tenant=tenant)
    running = list(play.starts)
    for second in range(seconds):
        play.now = second + 1.0
        for task_id in running:
            tenant = task_id.split("-")[0]
            number += 1
            play.submit(f"{tenant}-{number}", tenant=tenant)
        before = set(play.starts)
        for task_id in running:
            done[task_id.split("-")[0]] += second >= 10
            play.finish(task_id)
        running = [task_id for task_id in play.starts if task_id not in before]
    return done


def test_shares_follow_the_weights():
    """Weights 1:2:4 and endless work: shares within 3 %."""
    play = Play(("n1", room(cpu=14)), tenants=(Tenant("a", weight=1), Tenant("b", weight=2), Tenant("c", weight=4)))
    done = run_shares(play, ["a", "b", "c"], 40)
    total = sum(done.values())
    for tenant, weight in (("a", 1), ("b", 2), ("c", 4)):
        assert done[tenant] / total == pytest.approx(weight / 7, rel=0.03)


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_shares_follow_the_weights_where_they_come_in_large_pieces(slots):
    """Two slots for three tenants: over time each has its share, though at any moment one of them has nothing."""
    play = Play(("n1", room(cpu=slots)), tenants=(Tenant("a"), Tenant("b", weight=2), Tenant("c", weight=4)))
    done = run_shares(play, ["a", "b", "c"], 10 + 84)
    total = sum(done.values())
    for tenant, weight in (("a", 1), ("b", 2), ("c", 4)):
        assert done[tenant] / total == pytest.approx(weight / 7, rel=0.03)


def test_an_idle_tenants_share_is_lent_and_comes_back():
    """Alone, one tenant has everything; when the other comes, the next rooms that free are its own."""
    play = Play(("n1", room(cpu=4)), tenants=(Tenant("a"), Tenant("b")))
    for number in range(8):
        play.submit(f"a{number}", tenant="a")
    assert len(play.starts) == 4
    for number in range(4):
        play.submit(f"b{number}", tenant="b")
    assert play.finish("a0")[1] == "start b0 on n1"
    assert play.finish("a1")[1] == "start b1 on n1"
    assert play.finish("a2")[1] == "start a4 on n1"


def test_the_dominant_resource_counts():
    """The example of the DRF paper: 9 CPU, 18 GB; A needs (1, 4), B (3, 1): A runs 3 tasks, B 2."""
    play = Play(("n1", room(cpu=9, memory=18)))
    for number in range(6):
        play.tell(
            TaskSubmitted(TaskSpec(f"a{number}", demand=need(cpu=1, memory=4), tenant="a")),
            TaskSubmitted(TaskSpec(f"b{number}", demand=need(cpu=3, memory=1), tenant="b")),
        )
    play.tell(NodeLost("n1"))
    play.at(100.0)
    play.starts.clear()
    play.tell(NodeJoined("n1", room(cpu=9, memory=18)))
    assert sum(task_id.startswith("a") for task_id in play.starts) == 3
    assert sum(task_id.startswith("b") for task_id in play.starts) == 2


def test_a_limit_is_never_exceeded_and_denies_what_is_above_it():
    """Not even on an idle cluster."""
    play = Play(("n1", room(cpu=8)), tenants=(Tenant("small", limit=room(cpu=2)),))
    for number in range(4):
        play.submit(f"t{number}", tenant="small")
    assert sorted(play.starts) == ["t0", "t1"]
    assert play.submit("large", need(cpu=3), tenant="small") == ["large denied"]
    assert play.finish("t0")[1] == "start t2 on n1"


def test_a_tenant_below_its_quota_goes_first():
    """Its quota is its own, however large its share by weight is."""
    play = Play(
        ("n1", room(cpu=4)), tenants=(Tenant("owner", weight=0.1, quota=room(cpu=3)), Tenant("guest", weight=10))
    )
    play.submit("g0", need(cpu=4), tenant="guest")
    for number in range(4):
        play.submit(f"g{number + 1}", tenant="guest")
        play.submit(f"o{number}", tenant="owner")
    play.finish("g0")
    assert sorted(play.starts) == ["g0", "g1", "o0", "o1", "o2"]


# ---------------------------------------------------------------- devices and reservations


def test_fractions_never_share_a_device_that_can_not_hold_them():
    """Eight at 0.4 on two nodes of two devices: all run, two to a device (bare Ray places four)."""
    play = Play(("n1", room(gpu=2)), ("n2", room(gpu=2)))
    for number in range(9):
        play.submit(f"t{number}", need(gpu=0.4))
    used = [(start.node_id, start.devices) for start in play.starts.values()]
    assert len(used) == 8
    assert all(used.count(place) == 2 for place in used)


def test_a_reservation_is_drawn_on_first_and_by_its_own_only():
    """Who names it uses it and then the general room; who does not never touches it."""
    play = Play(("n1", room(cpu=1)))
    play.tell(ReservationAdded("model-a", "n1", room(cpu=1)))
    assert play.submit("other") == ["start other on n1"]
    assert play.submit("other2") == []
    assert play.submit("mine", reservation="model-a") == ["start mine on n1 in model-a"]
    play.submit("mine2", reservation="model-a", priority=1)
    assert play.finish("other") == ["other completed", "start mine2 on n1"]


def test_a_reservation_that_goes_leaves_its_tasks_running():
    """They count against the node's general capacity from then on."""
    play = Play(("n1", room(cpu=1)))
    play.tell(ReservationAdded("r", "n1", room(cpu=1)))
    play.submit("mine", reservation="r")
    assert play.tell(ReservationRemoved("r", "n1")) == []
    assert play.submit("next") == []
    assert play.tell(CapacityChanged("n1", room(cpu=2))) == ["start next on n1"]


def test_a_reservation_spans_nodes_and_shrinks_one_by_one():
    """Its tasks start wherever it has room; what goes from one node stays on the others."""
    play = Play(("n1", room(cpu=1)), ("n2", room(cpu=1)))
    for node_id in ("n1", "n2"):
        play.tell(ReservationAdded("r", node_id, room(cpu=1)))
    for name in "ab":
        play.submit(name, need(cpu=1), reservation="r")
    assert {start.reservation for start in play.starts.values()} == {"r"}
    assert {start.node_id for start in play.starts.values()} == {"n1", "n2"}
    for name in "ab":
        play.finish(name)
    for _ in range(2):
        play.tell(ReservationRemoved("r", "n2"))
    assert play.submit("c", reservation="r") == ["start c on n1 in r"]


def test_capacity_that_is_taken_back_stops_new_starts_only():
    """What runs runs on; nothing new starts until there is room again."""
    play = Play(("n1", room(cpu=2)))
    play.submit("a")
    play.submit("b")
    play.tell(CapacityChanged("n1", room(cpu=1)))
    play.submit("c")
    assert play.finish("a") == ["a completed"]
    assert play.finish("b") == ["b completed", "start c on n1"]
    assert play.submit("nothing", need()) == ["start nothing on n1"]


def test_no_room_is_kept_for_who_has_come_to_its_limit():
    """A large task of a tenant waits for room; a small one of it takes up the limit: others may have the room."""
    play = Play(("n1", room(cpu=4)), tenants=(Tenant("capped", limit=room(cpu=3)),))
    play.tell(TaskSubmitted(TaskSpec("first", demand=need(cpu=2))))
    play.tell(TaskSubmitted(TaskSpec("large", tenant="capped", demand=need(cpu=3))))
    assert play.tell(TaskSubmitted(TaskSpec("small", tenant="capped", demand=need(cpu=1)))) == ["start small on n1"]
    assert play.tell(TaskSubmitted(TaskSpec("other", demand=need(cpu=1)))) == ["start other on n1"]
    assert play.finish("small") == ["small completed"]
    assert play.finish("first") == ["first completed", "start large on n1"]


def test_limits_above_the_capacity_keep_a_demand_from_being_denied():
    """What others hold now may come back: the task waits."""
    play = Play()
    play.tell(NodeJoined("n1", room(cpu=2), limit=room(cpu=8)))
    play.submit("t", need(cpu=6))
    assert play.state("t") == "queued"
    assert play.submit("u", need(cpu=9)) == ["u denied"]
