"""`TaskScheduler` in a plain process: the contract, submission, steering, the journal."""

from __future__ import annotations

import json
import sys

import pytest

from balance.clock import FakeClock
from balance.core.scheduler import PriorityManager, TaskScheduler
from balance.core.scheduler.events import ClockAdvanced, NodeJoined, TaskFinished
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.errors import Conflict, DependencyCycle, InvalidValue, NotReady, StorageError, UnknownId
from balance.types import Resources

NODE = NodeJoined("here", Resources.capacity(cpu=2, memory=2**30))


class Memory:
    """A journal that keeps images in a dict, as a store would, and can be told to fail."""

    def __init__(self):
        self.images = {}
        self.calls = []
        self.broken = False

    def record(self, changes):
        if self.broken:
            raise StorageError("the disk is full")
        self.calls.append([(task.task_id, str(task.state)) for task in changes])
        self.images.update({task.task_id: task.image() for task in changes})

    def load(self):
        return list(self.images.values())


class Remote:
    """An executor that only notes what it is told, as one in a cluster does before anything has happened."""

    eager = True

    def __init__(self):
        self.started = []
        self.stopped = []
        self.refuse = False

    def start(self, instruction, call):
        if self.refuse:
            raise RuntimeError("no such node")
        self.started.append((instruction.task_id, instruction.attempt, call))

    def stop(self, task_id, attempt, reason):
        self.stopped.append((task_id, attempt, reason))

    def wait(self, timeout_s):
        return []


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def scheduler(clock):
    made = TaskScheduler(clock=clock, nodes=[NODE])
    yield made
    made.engine.validate()


def test_the_contract_in_one_story(scheduler, clock):
    """Priority first, then age; delays are slept through, not polled; everything is done in the end."""
    done = []
    scheduler.schedule_task(done.append, 3, 10.0, "delayed")
    scheduler.schedule_task(done.append, 2, 0, "second")
    scheduler.schedule_task(lambda *, word: done.append(word), word="first")
    listed = scheduler.get_scheduled_tasks()
    assert [task["priority"] for task in listed] == [1, 2, 3]
    assert [task["status"] for task in listed] == ["queued", "queued", "delayed"]
    json.dumps(listed)
    began = clock.now()
    scheduler.run_scheduler()
    assert done == ["first", "second", "delayed"]
    assert clock.now() - began == pytest.approx(10.0)
    assert scheduler.execute_next_task() is False


def test_a_task_that_raises_is_recorded_and_harms_nobody(scheduler):
    """Its traceback is kept; SystemExit and MemoryError are outcomes like any other."""
    failed = scheduler.submit(lambda: 1 / 0)
    left = scheduler.submit(sys.exit, [3])
    fine = scheduler.submit(divmod, [7, 2])
    scheduler.run_scheduler()
    error = scheduler.status(failed)["error"]
    assert (error["type"], "ZeroDivisionError" in error["traceback"]) == ("ZeroDivisionError", True)
    assert scheduler.status(left)["error"]["type"] == "SystemExit"
    assert scheduler.outcome(fine).result == (3, 1)
    assert scheduler.outcome(fine).done


def test_a_failing_task_is_retried_as_its_policy_says(scheduler, clock):
    """Two failures, then success: three attempts, with waits slept through."""
    calls = []

    def flaky():
        calls.append(clock.now())
        if len(calls) < 3:
            raise OSError("not yet")
        return "at last"

    task_id = scheduler.submit(flaky, retry=RetryPolicy(errors=2, base_s=4.0))
    scheduler.run_scheduler()
    assert scheduler.outcome(task_id).result == "at last"
    assert scheduler.status(task_id)["attempt"] == len(calls) == 3
    assert calls[2] > calls[0]


def test_a_task_may_use_the_scheduler_that_runs_it(scheduler):
    """It may submit, look, and stop the run."""
    seen = []

    def parent():
        seen.append(scheduler.submit(seen.append, ["child"], name="child"))
        scheduler.stop()

    scheduler.submit(parent)
    scheduler.run_scheduler()
    assert seen == ["child-2"]
    scheduler.run_scheduler()
    assert seen == ["child-2", "child"]


def test_what_does_not_fit_is_left_queued_and_the_run_ends(scheduler):
    """A demand that could be met, but not now with nothing running, does not hang the caller."""
    scheduler.pause()
    scheduler.submit(print)
    scheduler.run_scheduler()
    assert scheduler.queue_stats()["by_state"]["queued"] == 1


def test_statuses_are_json_and_go_on_after_the_end(scheduler, clock):
    """Queued and run seconds are measured on the clock."""
    task_id = scheduler.submit(clock.advance, [2.5], name="sleep", priority=2)
    clock.advance(4.0)
    assert scheduler.status(task_id)["queued_s"] == pytest.approx(4.0)
    scheduler.run_scheduler()
    status = scheduler.status(task_id)
    json.dumps(status)
    assert (status["status"], status["queued_s"], status["run_s"]) == ("completed", 4.0, 2.5)
    assert scheduler.forget(task_id) is True
    with pytest.raises(UnknownId, match=r"sleep|registered"):
        scheduler.status(task_id)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("not callable",), InvalidValue),
        ((print, 0), InvalidValue),
        ((print, True), InvalidValue),
        ((print, 1, -1.0), InvalidValue),
        ((print, 1, float("nan")), InvalidValue),
    ],
)
def test_bad_arguments_leave_the_queue_as_it_was(scheduler, arguments, error):
    """The error names the value; nothing is queued."""
    with pytest.raises(error):
        scheduler.schedule_task(*arguments)
    assert scheduler.get_scheduled_tasks() == []


def test_many_at_once_all_or_none(scheduler):
    """A batch may depend on itself in any order; one bad task refuses all."""
    calls = [
        (TaskSpec("sum", dependencies=("a", "b")), lambda: "sum"),
        (TaskSpec("a"), lambda: "a"),
        (TaskSpec("b"), lambda: "b"),
    ]
    assert scheduler.submit_many(calls) == ["sum", "a", "b"]
    with pytest.raises(Conflict):
        scheduler.submit_many([(TaskSpec("new"), print), (TaskSpec("a"), print)])
    with pytest.raises(DependencyCycle):
        scheduler.submit_many(
            [(TaskSpec("x", dependencies=("y",)), print), (TaskSpec("y", dependencies=("x",)), print)]
        )
    with pytest.raises(UnknownId):
        scheduler.status("new")
    scheduler.run_scheduler()
    assert scheduler.outcome("sum").result == "sum"


def test_a_priority_manager_reorders_what_is_queued(clock):
    """A change by id moves the task; one set beforehand goes before the one it came with."""
    manager = PriorityManager()
    scheduler = TaskScheduler(clock=clock, nodes=[NODE], priorities=manager)
    done = []
    manager.set_priority("early", 1)
    for task_id in ("one", "two", "early"):
        scheduler.submit(done.append, [task_id], task_id=task_id, priority=3)
    assert manager.get_priority("two") == 3
    manager.adjust_priority("two", -1)
    scheduler.run_scheduler()
    assert done == ["early", "two", "one"]


def test_draining_takes_nothing_new_and_finishes_the_rest(scheduler):
    """After `resume` it takes tasks again."""
    scheduler.submit(print, kwargs={"end": ""})
    scheduler.drain()
    with pytest.raises(NotReady):
        scheduler.submit(print)
    scheduler.run_scheduler()
    scheduler.resume()
    scheduler.submit(print, kwargs={"end": ""})


def test_queue_stats_count_by_priority_and_age(scheduler, clock):
    """They cost the same however long the queue is, and are JSON."""
    scheduler.pause()
    for priority in (1, 5, 5):
        scheduler.submit(print, priority=priority, demand=Resources.demand(cpu=1, memory=10))
    clock.advance(3.0)
    stats = scheduler.queue_stats()
    json.dumps(stats)
    assert stats["queued_by_priority"] == {"1": 1, "5": 2}
    assert stats["queued_demand"] == {"cpu": 3.0, "memory": 30}
    assert stats["oldest_queued_s"] == pytest.approx(3.0)


def test_an_eager_executor_gets_tasks_at_once_and_reports_by_events(clock):
    """In a cluster a submission starts what fits; outcomes are delivered."""
    remote = Remote()
    scheduler = TaskScheduler(clock=clock, executor=remote, nodes=[NODE])
    over = []
    scheduler.on_finish(over.append)
    scheduler.submit_many([(TaskSpec(f"t{n}"), f"call {n}") for n in range(3)])
    assert remote.started == [("t0", 1, "call 0"), ("t1", 1, "call 1")]
    scheduler.deliver(TaskFinished("t0", 1, "result"))
    assert remote.started[-1] == ("t2", 1, "call 2")
    assert [(each.task_id, each.result) for each in over] == [("t0", "result")]
    assert scheduler.cancel("t1") is True
    assert remote.stopped == [("t1", 1, "cancelled")]
    assert scheduler.cancel("t0") is False


def test_an_executor_that_can_not_start_has_refused(clock):
    """The task starts again after a short wait; nothing is lost and nothing is raised."""
    remote = Remote()
    remote.refuse = True
    scheduler = TaskScheduler(clock=clock, executor=remote, nodes=[NODE])
    scheduler.submit_many([(TaskSpec("t"), None)])
    assert scheduler.status("t")["status"] == "retrying"
    remote.refuse = False
    clock.advance(scheduler.next_due() - scheduler.now())
    scheduler.deliver(ClockAdvanced())
    assert remote.started == [("t", 2, None)]


# ---------------------------------------------------------------- the journal


def test_nothing_starts_before_it_is_in_the_journal(clock):
    """Submission and start are recorded in one call, before the executor hears of it."""
    journal, remote = Memory(), Remote()
    scheduler = TaskScheduler(clock=clock, executor=remote, journal=journal, nodes=[NODE])
    journal.broken = True
    with pytest.raises(StorageError):
        scheduler.submit_many([(TaskSpec("t"), None)])
    assert remote.started == []
    journal.broken = False
    scheduler.deliver(ClockAdvanced())
    assert journal.calls == [[("t", "running")]]
    assert remote.started == [("t", 1, None)]


def test_a_new_scheduler_goes_on_where_the_lost_one_stopped(clock):
    """Queued, delayed, waiting and finished tasks are there again; what ran is run again, under a new attempt."""
    journal, remote = Memory(), Remote()
    first = TaskScheduler(clock=clock, executor=remote, journal=journal, nodes=[NODE])
    first.submit_many(
        [
            (TaskSpec("done"), "done"),
            (TaskSpec("runs", priority=1), "runs"),
            (TaskSpec("unsafe", idempotent=False), "unsafe"),
            (TaskSpec("queued", priority=4), "queued"),
            (TaskSpec("later", not_before=first.now() + 60.0), "later"),
            (TaskSpec("after", dependencies=("queued",)), "after"),
        ]
    )
    first.deliver(TaskFinished("done", 1, "result"))
    clock.advance(5.0)
    del first
    second_executor = Remote()
    second = TaskScheduler(clock=clock, executor=second_executor, journal=journal, nodes=[NODE])
    assert second.recover() == 6
    states = {task_id: second.status(task_id)["status"] for task_id in journal.images}
    assert states["done"] == "completed" and second.outcome("done").result == "result"
    assert states["unsafe"] == "failed"
    assert states["runs"] == "running", "it may run twice: queued again at its old place, with no loss counted"
    assert (states["later"], states["after"]) == ("delayed", "waiting")
    clock.advance(60.0)
    second.deliver(ClockAdvanced())
    assert ("queued", 1, "queued") in second_executor.started
    assert ("runs", 2, "runs") in second_executor.started
    second.engine.validate()


def test_what_still_runs_after_a_restart_is_left_running(clock):
    """Executors outlive the scheduler: their attempts go on and their reports count."""
    journal = Memory()
    first = TaskScheduler(clock=clock, executor=Remote(), journal=journal, nodes=[NODE])
    first.submit_many([(TaskSpec("t"), "t")])
    second = TaskScheduler(clock=clock, executor=Remote(), journal=journal, nodes=[NODE])
    second.recover(alive={("t", 1)})
    second.deliver(TaskFinished("t", 1, "kept"))
    assert second.outcome("t").result == "kept"
    homeless = TaskScheduler(clock=clock, executor=Remote(), journal=Memory(), nodes=[])
    homeless._journal.images = {"t": first.engine.image("t")}
    homeless.recover(alive={("t", 1)})
    assert homeless.status("t")["status"] == "retrying"
    homeless.engine.validate()


def test_room_is_kept_for_a_big_task_over_a_restart(clock):
    """Earmarks are not written down: they are made again as soon as someone would overtake."""
    journal = Memory()
    first = TaskScheduler(clock=clock, executor=Remote(), journal=journal, nodes=[NODE])
    big = Resources.demand(cpu=2)
    first.submit_many([(TaskSpec("s0"), None), (TaskSpec("s1"), None), (TaskSpec("big", demand=big), None)])
    first.submit_many([(TaskSpec(f"s{number}"), None) for number in range(2, 6)])
    second = TaskScheduler(clock=clock, executor=Remote(), journal=journal, nodes=[NODE])
    second.recover()
    assert [second.status(name)["status"] for name in ("s0", "s1", "big")] == ["running", "running", "queued"]
    second.deliver(TaskFinished("s0", 2))
    assert second.status("s2")["status"] == "queued", "nobody overtakes the big task"
    second.deliver(TaskFinished("s1", 2))
    assert second.status("big")["status"] == "running"


def test_what_was_measured_survives_a_restart(clock):
    """Run times and memory peaks, as JSON: the next scheduler makes chunks and requests as the last one did."""
    first = TaskScheduler(clock=clock, executor=Remote(), nodes=[NODE])
    first.submit_many([(TaskSpec("t", name="fit"), None)])
    first.deliver(TaskFinished("t", 1, run_s=0.25, peak_memory_bytes=77))
    second = TaskScheduler(clock=clock, executor=Remote(), nodes=[NODE])
    second.engine.relearn(json.loads(json.dumps(first.engine.learnt())))
    assert second.engine.learnt() == first.engine.learnt()
    assert second.engine.state.run_times.mean_s("fit") == 0.25
    assert second.suggest_memory("fit")["memory_bytes"] == 77


def test_ids_that_are_made_up_are_never_used_twice(clock):
    """Not even after a restart."""
    journal = Memory()
    first = TaskScheduler(clock=clock, journal=journal, nodes=[NODE])
    ids = {first.submit(print, name="t") for _ in range(3)}
    second = TaskScheduler(clock=clock, journal=journal, nodes=[NODE])
    second.recover()
    assert second.submit(print, name="t") not in ids


# ---------------------------------------------------------------- explain


def test_explain_says_what_lacks_and_behind_whom(clock):
    """Resource, amount, node, who is ahead, and an estimated start with its range."""
    scheduler = TaskScheduler(clock=clock, executor=Remote(), nodes=[NODE])
    scheduler.submit_many(
        [(TaskSpec(f"run{n}", expected_run_s=10.0, name="known"), None) for n in range(2)]
        + [(TaskSpec("first", expected_run_s=4.0), None), (TaskSpec("second", priority=4, expected_run_s=1.0), None)]
    )
    clock.advance(1.0)
    told = scheduler.explain("second")
    json.dumps(told)
    assert (told["status"], told["resource"], told["lacking"], told["node_id"]) == ("queued", "cpu", 1.0, "here")
    assert (told["ahead"], told["behind"]) == (1, ["first"])
    assert told["estimated_start_low"] <= told["estimated_start"] <= told["estimated_start_high"]
    assert told["estimated_start"] == pytest.approx(scheduler.now() + 10.0), "in 9 s, and a little behind the first"
    assert "1 cores of cpu lack on here" in told["reason"]


def test_explain_has_words_for_every_state(clock):
    """Waiting names the prerequisites, delay the time left, denial the change that would admit it."""
    scheduler = TaskScheduler(clock=clock, executor=Remote(), nodes=[NODE])
    scheduler.submit_many(
        [
            (TaskSpec("runs"), None),
            (TaskSpec("waits", dependencies=("runs",)), None),
            (TaskSpec("later", not_before=scheduler.now() + 8.0), None),
            (TaskSpec("huge", demand=Resources.demand(cpu=5)), None),
            (TaskSpec("lonely", gang_id="g", gang_size=2), None),
        ]
    )
    assert scheduler.explain("runs")["reason"] == "it runs, attempt 1"
    assert scheduler.explain("waits")["waits_for"] == ["runs"]
    assert scheduler.explain("later")["reason"].endswith("8 s away")
    assert scheduler.explain("huge")["change"]["lacking"] == 3.0
    assert scheduler.explain("lonely")["reason"] == "1 members of its gang are not ready"
    scheduler.pause()
    scheduler.submit_many([(TaskSpec("held"), None)])
    assert scheduler.explain("held")["reason"] == "the scheduler is paused"


def test_measured_peaks_suggest_a_request(clock):
    """The largest of the last peaks, with how likely the next one is above it."""
    scheduler = TaskScheduler(clock=clock, executor=Remote(), nodes=[NODE])
    for number, peak in enumerate((10, 30, 20)):
        scheduler.submit_many([(TaskSpec(f"t{number}", name="fit"), None)])
        scheduler.deliver(TaskFinished(f"t{number}", 1, peak_memory_bytes=peak))
    assert scheduler.suggest_memory("fit") == {
        "status": "ok",
        "memory_bytes": 30,
        "samples": 3,
        "exceed_probability": 0.25,
    }
