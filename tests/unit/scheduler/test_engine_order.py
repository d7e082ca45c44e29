"""In which order tasks run: priority, aging, delays, dependencies, retries, ends."""

from __future__ import annotations

import pytest
from cluster_play import Play, need, room

from balance.core.scheduler.events import (
    NodeJoined,
    NodeLost,
    Paused,
    PriorityChanged,
    Resumed,
    StartRefused,
    TaskCancelRequested,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
)
from balance.core.scheduler.instructions import FinishTask, WakeAt
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.errors import Conflict, DependencyCycle, InvalidTransition, InvalidValue, UnknownId

ONE = ("n1", room(cpu=1))


def test_the_smaller_priority_number_runs_first_then_the_older_task():
    """Priority decides; within one, first in first out."""
    play = Play()
    for task_id, priority in [("low", 5), ("first", 2), ("second", 2), ("top", 1)]:
        play.submit(task_id, priority=priority)
    assert play.tell(NodeJoined(*ONE)) == ["start top on n1"]
    assert play.finish("top") == ["top completed", "start first on n1"]
    assert play.finish("first") == ["first completed", "start second on n1"]
    assert play.finish("second") == ["second completed", "start low on n1"]


def test_waiting_ages_a_task_past_newer_urgent_ones():
    """Four steps of waiting make BACKGROUND as urgent as a new CRITICAL one; a little more, more urgent."""
    play = Play(ONE, aging_step_s=10.0)
    play.submit("busy")
    play.submit("old", priority=5)
    play.now = 39.9
    play.submit("early", priority=1)
    play.now = 40.1
    play.submit("late", priority=1)
    assert play.finish("busy")[1] == "start early on n1"
    assert play.finish("early")[1] == "start old on n1"


def test_a_delay_does_not_age():
    """Aging counts from when a task could have run, not from when it was submitted."""
    play = Play(ONE, aging_step_s=10.0)
    play.submit("busy")
    play.submit("delayed", priority=3, not_before=100.0)
    play.now = 99.0
    play.submit("fresh", priority=3)
    play.at(100.0)
    assert play.finish("busy")[1] == "start fresh on n1"


def test_a_change_of_priority_reorders_the_queue():
    """A queued task moves to its new place at once."""
    play = Play(ONE)
    play.submit("busy")
    play.submit("a", priority=2)
    play.submit("b", priority=4)
    play.tell(PriorityChanged("b", 1))
    assert play.finish("busy")[1] == "start b on n1"


def test_the_engine_says_when_to_wake_it():
    """A delayed task needs one look at the clock, at its time, and no other."""
    play = Play(ONE)
    out = play.engine.handle(TaskSubmitted(TaskSpec("later", not_before=5.0)), now=0.0)
    assert out == [WakeAt(5.0)]
    assert play.at(4.9) == []
    assert play.at(5.0) == ["start later on n1"]
    assert play.engine.next_due() is None


def test_a_task_waits_for_its_prerequisites():
    """Dependents are released by the last prerequisite, in the same call; order of submission is free."""
    play = Play(("n1", room(cpu=4)))
    out = play.tell(
        TaskSubmitted(TaskSpec("join", dependencies=("left", "right"))),
        TaskSubmitted(TaskSpec("left")),
        TaskSubmitted(TaskSpec("right")),
    )
    assert out == ["start left on n1", "start right on n1"]
    assert play.finish("left") == ["left completed"]
    assert play.finish("right") == ["right completed", "start join on n1"]


def test_failure_reaches_everyone_downstream():
    """Nobody is left hanging: direct and indirect dependents end as upstream_failed."""
    play = Play(ONE)
    play.submit("a")
    play.submit("b", dependencies=("a",))
    play.submit("c", dependencies=("b",), not_before=50.0)
    assert play.fail("a") == ["a failed", "b upstream_failed", "c upstream_failed"]
    assert play.submit("d", dependencies=("c",)) == ["d upstream_failed"]


@pytest.mark.parametrize(
    ("specs", "error"),
    [
        ([TaskSpec("x"), TaskSpec("x")], Conflict),
        ([TaskSpec("known")], Conflict),
        ([TaskSpec("x", dependencies=("unheard",))], UnknownId),
        ([TaskSpec("x", dependencies=("y",)), TaskSpec("y", dependencies=("x",))], DependencyCycle),
    ],
)
def test_a_bad_submission_changes_nothing(specs, error):
    """All tasks of one call enter, or none does."""
    play = Play(ONE)
    play.submit("known")
    before = play.engine.snapshot()
    with pytest.raises(error):
        play.tell(TaskSubmitted(TaskSpec("innocent")), *map(TaskSubmitted, specs))
    assert play.engine.snapshot() == before


def test_errors_and_lost_workers_are_counted_apart():
    """One retry for errors and one for losses: three failures of two kinds are survived only so far."""
    play = Play(ONE)
    play.submit("t", retry=RetryPolicy(errors=1, lost=1, base_s=1.0))
    assert play.fail("t") == []
    assert play.state("t") == "retrying"
    assert play.at(2.0) == ["start t on n1"]
    assert play.fail("t", "worker_lost") == []
    assert play.at(4.0) == ["start t on n1"]
    assert play.fail("t") == ["t failed"]
    task = play.engine.task("t")
    assert (task.attempt, task.errors, task.losses) == (3, 2, 1)
    assert task.error["type"] == "Oops"


def test_the_backoff_is_the_same_after_a_restart():
    """Jitter comes from the task and the failure, not from a generator's state."""
    policy = RetryPolicy(base_s=2.0, cap_s=10.0)
    waits = [policy.wait_s("t", failure) for failure in range(1, 8)]
    assert waits == [policy.wait_s("t", failure) for failure in range(1, 8)]
    assert all(0 <= wait <= min(10.0, 2.0 * 2**n) for n, wait in enumerate(waits))
    assert len({round(policy.wait_s(f"t{n}", 4), 6) for n in range(50)}) == 50


def test_what_may_not_run_twice_fails_when_its_worker_is_lost():
    """A task that is not idempotent may have had its effect; running it again could double it."""
    play = Play(ONE, ("n2", room(cpu=1)))
    play.submit("pay", idempotent=False)
    assert play.tell(NodeLost("n1")) == ["pay failed"]


def test_a_refused_start_costs_no_retry_and_waits_a_little():
    """Nothing of it ran, so even a task that may not run twice starts again."""
    play = Play(ONE)
    play.submit("t", idempotent=False, retry=RetryPolicy(errors=0, lost=0))
    assert play.tell(StartRefused("t", 1, "no lease")) == []
    assert play.at(0.06) == ["start t on n1"]
    assert play.engine.task("t").told()[-1].endswith("attempt 2 on n1")


def test_a_kill_for_memory_is_followed_by_a_larger_request():
    """Doubled each time, up to what the largest node has; then it fails with the numbers."""
    play = Play(("n1", room(cpu=1, memory=1000)))
    play.submit("t", need(cpu=1, memory=300))
    for expected in (600, 1000):
        play.fail("t", "out_of_memory")
        play.at(play.now + 1)
        assert play.starts["t"].demand.memory_bytes == expected
    assert play.fail("t", "out_of_memory") == ["t failed"]
    assert "1000 bytes" in play.engine.task("t").reason


def test_a_timeout_stops_the_attempt_and_counts_from_its_start():
    """The worker's own start counts; the attempt is over once the executor says so."""
    play = Play(ONE)
    play.submit("t", timeout_s=5.0)
    play.now = 2.0
    play.tell(TaskStarted("t", 1))
    assert play.at(6.9) == []
    assert play.at(7.0) == ["stop t: timeout"]
    assert play.state("t") == "running"
    assert play.stopped("t") == ["t timed_out"]


def test_a_deadline_ends_waiting_and_running_tasks():
    """A result after the deadline is worth nothing."""
    play = Play(ONE)
    play.submit("runs", deadline=5.0)
    play.submit("waits", deadline=4.0)
    assert play.at(4.0) == ["waits timed_out"]
    assert play.at(5.0) == ["stop runs: deadline"]
    assert play.stopped("runs") == ["runs timed_out"]


def test_cancelling():
    """A queued task ends at once, a running one when it has been stopped; if it made it, it made it."""
    play = Play(ONE)
    play.submit("runs")
    play.submit("waits")
    assert play.tell(TaskCancelRequested("waits")) == ["waits cancelled"]
    assert play.tell(TaskCancelRequested("runs")) == ["stop runs: cancelled"]
    assert play.tell(TaskCancelRequested("runs")) == []
    assert play.stopped("runs") == ["runs cancelled"]
    play.submit("fast")
    play.tell(TaskCancelRequested("fast"))
    assert play.finish("fast") == ["fast completed"]
    with pytest.raises(UnknownId):
        play.tell(TaskCancelRequested("unheard of"))


def test_late_reports_of_a_lost_worker_are_ignored():
    """An orphan may answer for seconds after its node was declared lost."""
    play = Play(ONE, ("n2", room(cpu=1)))
    play.submit("t")
    play.tell(NodeLost("n1"))
    play.at(play.engine.next_due())
    assert play.starts["t"].attempt == 2
    assert play.tell(TaskFinished("t", 1, "from the grave")) == []
    assert play.finish("t", "honest") == ["t completed"]
    assert play.engine.task("t").result == "honest"


def test_a_report_that_nothing_explains_raises_with_the_story():
    """An attempt that was never started can't end."""
    play = Play(ONE)
    play.submit("t")
    with pytest.raises(InvalidTransition, match="attempt 2") as caught:
        play.tell(TaskFinished("t", 2))
    assert caught.value.details["story"][-1].endswith("attempt 1 on n1")


def test_what_was_decided_before_an_error_is_not_lost():
    """Instructions of the events before a bad one come with the next call."""
    play = Play(ONE)
    play.submit("t")
    with pytest.raises(UnknownId):
        play.engine.handle(TaskFinished("t", 1), TaskCancelRequested("unheard of"), now=1.0)
    assert [type(each) for each in play.engine.handle(now=1.0)] == [FinishTask]


def test_a_demand_that_no_node_could_hold_is_denied_at_once():
    """With what lacks, how much, and the most there is; its dependents fail with it."""
    play = Play(("n1", room(cpu=4, gpu=1)), ("n2", room(cpu=8)))
    assert play.submit("huge", need(cpu=12)) == ["huge denied"]
    error = play.engine.task("huge").error
    assert (error["resource"], error["lacking"], error["node_id"]) == ("cpu", 4.0, "n2")
    assert error["largest_possible"]["cpu"] == 8.0
    assert play.submit("both", need(cpu=8, gpu=1)) == ["both denied"]


def test_before_any_node_has_joined_nothing_is_denied():
    """A cluster that is still starting may hold it yet."""
    play = Play()
    play.submit("t", need(cpu=64))
    assert play.state("t") == "queued"


def test_pausing():
    """Nothing starts while paused; what runs goes on."""
    play = Play(ONE)
    play.submit("runs")
    play.tell(Paused())
    play.submit("waits")
    assert play.finish("runs") == ["runs completed"]
    assert play.tell(Resumed()) == ["start waits on n1"]


def test_only_the_latest_finished_tasks_are_remembered():
    """Memory is bounded; a forgotten id is unknown."""
    play = Play(ONE, history_max=2)
    for number in range(4):
        play.submit(f"t{number}")
        play.finish(f"t{number}")
    assert list(play.engine.state.tasks) == ["t2", "t3"]
    with pytest.raises(UnknownId):
        play.engine.task("t0")


@pytest.mark.parametrize(
    "wrong",
    [
        {"task_id": ""},
        {"task_id": "t", "priority": 0},
        {"task_id": "t", "timeout_s": 0},
        {"task_id": "t", "deadline": float("nan")},
        {"task_id": "t", "dependencies": "abc"},
        {"task_id": "t", "gang_size": 2},
        {"task_id": "t", "demand": 3},
        {"task_id": "t", "preemptible": True, "idempotent": False},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(wrong):
    """The error names the field."""
    with pytest.raises(InvalidValue):
        TaskSpec(**wrong)
