"""Short tasks of one line start together, run one after another, and are handed back without harm."""

from __future__ import annotations

import pytest
from cluster_play import Play, need, room

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import (
    NodeJoined,
    NodeLost,
    Paused,
    Resumed,
    StartRefused,
    TaskCancelRequested,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskSubmitted,
)
from balance.core.scheduler.instructions import StartChunk
from balance.core.scheduler.spec import TaskSpec


def measured(*nodes, cpu: float = 1, run_s: float = 0.001, **policy) -> Play:
    """Return a play on one node that knows how long tasks of the usual name take."""
    play = Play(*(nodes or [("n1", room(cpu=cpu))]), **{"chunk_s": 0.005, **policy})
    play.engine.state.run_times.learn("task", run_s)
    return play


def submit(play: Play, names: str, **options) -> list[str]:
    """Submit tasks of one letter each, all at once."""
    return play.tell(*(TaskSubmitted(TaskSpec(name, **options)) for name in names))


def test_short_tasks_start_together_and_pass_the_room_on():
    """One instruction; the ledger sees one of them at a time; all are running, all end."""
    play = measured()
    assert submit(play, "abc") == ["start a b c on n1"]
    assert [play.state(name) for name in "abc"] == ["running"] * 3
    for holder, following in [("a", "b"), ("b", "c")]:
        assert [hold.holder for hold in play.engine.state.ledger.holds()] == [holder]
        assert play.finish(holder, run_s=0.001) == [f"{holder} completed"]
        assert play.engine.state.ledger.room("n1").cpu == 0, "the room has passed on"
        assert [hold.holder for hold in play.engine.state.ledger.holds()] == [following]
    assert play.finish("c") == ["c completed"]
    assert play.engine.state.ledger.room("n1").cpu == 1000


def test_a_member_killed_for_memory_leaves_the_room_as_it_was_taken():
    """Its request grows at once; what passes on, and is given back, is what the chunk had."""
    play = measured(("n1", room(cpu=1, memory=4)))
    assert submit(play, "ab", demand=need(cpu=1, memory=1)) == ["start a b on n1"]
    play.finish("a")
    assert play.tell(TaskFailed("b", 1, "out_of_memory", peak_memory_bytes=2)) == ["start b on n1"]
    assert play.engine.state.ledger.room("n1").memory == 0
    play.engine.validate()


def test_a_chunk_is_as_long_as_the_policy_says():
    """By measured run time: no more than `chunk_s` seconds, and no more than `chunk_max` members."""
    assert submit(measured(run_s=0.002), "abcde") == ["start a b on n1"]
    assert submit(measured(run_s=0.004), "abcde") == ["start a on n1"]
    assert submit(measured(chunk_max=3), "abcde") == ["start a b c on n1"]
    assert submit(measured(chunk_s=0.0), "abcde") == ["start a on n1"]


def test_what_was_never_measured_runs_alone_until_it_is():
    """The first run teaches how long the others take."""
    play = Play(("n1", room(cpu=1)), chunk_s=0.005)
    assert submit(play, "abcd", name="new") == ["start a on n1"]
    assert play.finish("a", run_s=0.001) == ["a completed", "start b c d on n1"]


def test_a_line_is_split_over_the_rooms_that_are_free():
    """Nobody queues behind others beside an idle room."""
    play = measured(("n1", room(cpu=2)), ("n2", room(cpu=1)), chunk_s=1.0)
    assert submit(play, "abcdefg") == ["start a b c on n2", "start d e on n1", "start f on n1"]
    play = measured(cpu=4)
    assert submit(play, "abcd") == [f"start {name} on n1" for name in "abcd"]


def test_the_rooms_of_chunks_that_end_soon_count_as_free():
    """The last of a line are not all put behind the first room that happens to be free."""
    play = measured(cpu=2, chunk_s=1.0, chunk_max=4)
    assert submit(play, "abcdefghijkl") == ["start a b c d on n1", "start e f g h on n1"]
    out = play.tell(*(TaskFinished(name, 1, run_s=0.001) for name in "abcd"))
    assert out[-1] == "start i j on n1"


@pytest.mark.parametrize(
    "options",
    [{"idempotent": False}, {"timeout_s": 9.0}],
    ids=["may not run twice", "has a timeout"],
)
def test_some_run_by_themselves(options):
    """Neither first in a chunk nor within one."""
    play = measured()
    play.tell(Paused())
    play.submit("a")
    play.submit("x", **options)
    play.submit("b")
    assert play.tell(Resumed()) == ["start a on n1"]
    assert play.finish("a", run_s=0.001) == ["a completed", "start x on n1"]
    assert play.finish("x", run_s=0.001)[-1] == "start b on n1"


def test_members_of_gangs_start_as_gangs():
    """However short they are."""
    play = measured(cpu=2)
    play.tell(*(TaskSubmitted(TaskSpec(name, gang_id="g", gang_size=2)) for name in "ab"))
    assert sorted(play.starts) == ["a", "b"]


def test_priorities_and_order_hold_within_chunks():
    """The members are the first of the line, in its order."""
    play = measured(chunk_max=3)
    play.tell(Paused())
    for name, priority in [("a", 5), ("b", 3), ("c", 1), ("d", 3), ("e", 1)]:
        play.submit(name, priority=priority)
    assert play.tell(Resumed()) == ["start c e b on n1"]


def test_who_is_handed_back_gets_its_old_place():
    """Before who came later; under a new attempt; a late report of the old one counts for nothing."""
    play = measured()
    submit(play, "abc")
    submit(play, "d")
    assert play.returned("b") == []
    assert play.returned("c") == []
    assert play.finish("a", run_s=0.001) == ["a completed", "start b c d on n1"]
    assert play.attempts["b"] == 2
    assert play.tell(TaskFinished("b", 1, "late")) == []
    assert play.finish("b", "kept") == ["b completed"]
    assert play.engine.task("b").result == "kept"
    assert (play.engine.task("b").losses, play.engine.task("b").refusals) == (0, 0)


def test_suspects_of_a_killed_executor_run_alone_from_then_on():
    """The one that kills dies alone, after its retries; the others are done, and none of their retries is used."""
    play = measured()
    submit(play, "abcd")
    out = [line for name in "abcd" for line in play.returned(name, solo=True)]
    assert out == ["start a on n1"]
    assert play.fail("a", "worker_lost") == ["start b on n1"]
    assert play.finish("b", run_s=0.001) == ["b completed", "start c on n1"]
    assert play.finish("c", run_s=0.001) == ["c completed", "start d on n1"]
    assert [play.engine.task(name).losses for name in "abcd"] == [1, 0, 0, 0]


def test_a_lost_node_takes_the_one_whose_turn_it_was():
    """Those behind it had not begun: they queue again at once, with no loss counted."""
    play = measured()
    submit(play, "abc")
    play.tell(NodeLost("n1"))
    assert (play.state("a"), play.engine.task("a").losses) == ("retrying", 1)
    assert [(play.state(name), play.engine.task(name).losses) for name in "bc"] == [("queued", 0), ("queued", 0)]
    assert play.tell(NodeJoined("n2", room(cpu=1))) == ["start b c on n2"]


def test_a_member_can_be_cancelled_before_its_turn():
    """It is stopped like any running task; handed back, it is cancelled and its mates go on."""
    play = measured()
    submit(play, "abc")
    assert play.tell(TaskCancelRequested("b")) == ["stop b: cancelled"]
    assert play.returned("b") == ["b cancelled"]
    assert play.returned("c") == []
    assert play.finish("a", run_s=0.001) == ["a completed", "start c on n1"]


def test_cancelling_the_one_whose_turn_it_is_passes_the_room_on():
    """The room is never free between two members."""
    play = measured()
    submit(play, "ab")
    play.tell(TaskCancelRequested("a"))
    assert play.stopped("a") == ["a cancelled"]
    assert [hold.holder for hold in play.engine.state.ledger.holds()] == ["b"]


def test_a_member_past_its_deadline_is_stopped():
    """Whether its turn has come or not."""
    play = measured()
    play.tell(Paused())
    play.submit("a")
    play.submit("b", deadline=5.0)
    assert play.tell(Resumed()) == ["start a b on n1"]
    assert play.at(5.0) == ["stop b: deadline"]
    assert play.returned("b") == ["b timed_out"]


def test_preemption_takes_the_whole_chunk():
    """All of it has to go before the room is free; it runs again later, only who had begun as preempted."""
    play = measured()
    submit(play, "abc", priority=5, preemptible=True)
    play.now = 1.0
    assert play.submit("urgent", priority=1) == [f"stop {name}: preempted" for name in "abc"]
    assert play.stopped("a") == play.returned("b") == []
    assert play.returned("c") == ["start urgent on n1"]
    assert [play.engine.task(name).preemptions for name in "abc"] == [1, 0, 0]
    assert play.finish("urgent", run_s=0.001)[-1] == "start a b c on n1"


def test_only_what_may_be_preempted_is_put_behind_what_may():
    """A stop of the one never reaches the other."""
    play = measured()
    play.tell(Paused())
    play.submit("a", preemptible=True)
    play.submit("b")
    assert play.tell(Resumed()) == ["start a on n1"]


def test_a_refused_chunk_is_tried_again_later():
    """Every member is refused by itself."""
    play = measured()
    submit(play, "ab")
    play.tell(StartRefused("a", 1, "no lease"), StartRefused("b", 1, "no lease"))
    assert [play.state(name) for name in "ab"] == ["retrying", "retrying"]
    assert play.at(1.0) == ["start a b on n1"]


def test_no_chunk_where_room_is_kept():
    """What ends by the promised moment may start there, one by one."""
    play = measured(cpu=2, run_s=0.5, chunk_s=2.0)
    play.submit("long", expected_run_s=10.0)
    play.submit("short")
    play.submit("big", need(cpu=2))
    assert submit(play, "abcd") == []
    assert play.finish("short", run_s=0.5) == ["short completed", "start a on n1"]


def test_many_reports_at_once_pass_the_room_on_once():
    """The same state as one by one, and the run times are each member's own."""
    play = measured()
    submit(play, "abcd")
    play.now = 0.004
    out = play.tell(*(TaskFinished(name, 1, run_s=0.001) for name in "abc"))
    assert out == [f"{name} completed" for name in "abc"]
    assert [hold.holder for hold in play.engine.state.ledger.holds()] == ["d"]
    ran = [play.engine.task(name).finished_at - play.engine.task(name).started_at for name in "abc"]
    assert ran == pytest.approx([0.001] * 3)


def test_no_chunks_where_starts_are_counted():
    """Who asks for one start gets one task."""
    play = measured()
    play.engine.handle(*(TaskSubmitted(TaskSpec(name)) for name in "abc"), now=0.0, starts=0)
    assert [type(each).__name__ for each in play.engine.handle(now=0.0, starts=1)] == ["StartTask"]


def test_a_restored_engine_knows_its_chunks():
    """Members, whose turn it is, who is to run alone, and when they should be over."""
    play = measured()
    submit(play, "abc")
    submit(play, "d")
    play.returned("c", solo=True)
    play.finish("a", run_s=0.001)
    twin = Engine(policy=play.engine.state.policy)
    twin.restore(play.engine.snapshot())
    twin.validate()
    assert twin.snapshot() == play.engine.snapshot()
    for engine in (play.engine, twin):
        started = engine.handle(TaskFinished("b", 1, run_s=0.001), now=1.0)[-1]
        assert (started.task_id, started.attempt) == ("c", 2)


def test_the_instruction_is_complete():
    """Ids and attempts in order, the place and the demand of one."""
    play = measured()
    events = [TaskSubmitted(TaskSpec(name)) for name in "ab"]
    out = play.engine.handle(*events, now=0.0)
    assert out == [StartChunk(("a", "b"), (1, 1), "n1", (), TaskSpec("a").demand, None)]
    back = [TaskReturned("a", 1), TaskReturned("b", 1)]
    assert play.engine.handle(*back, now=0.0)[0].attempts == (2, 2)
