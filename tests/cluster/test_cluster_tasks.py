"""Tasks from a plain Ray driver: results, failures, order, leases, and what user code may do to an executor."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balance.errors import Conflict, InvalidValue, UnknownId

pytestmark = pytest.mark.cluster

QUICK = {"lost": 1, "base_s": 0.01}
"""A retry policy with little patience."""


def _until(path: Path) -> Callable[[], str]:
    """Return a task that runs until a file is there."""
    text = str(path)

    def wait() -> str:
        while not Path(text).exists():
            time.sleep(0.01)
        return text

    return wait


def test_a_task_returns_its_result_and_what_it_printed(balance_cluster: Any, unique: Any) -> None:
    """`execute_task` answers with status, result, output, node and times."""

    def task() -> dict[str, Any]:
        print("working")
        return {"answer": 42, "at": complex(1, 2)}

    report = balance_cluster.execute(unique("task"), task)
    assert (report["status"], report["result"]) == ("completed", {"answer": 42, "at": complex(1, 2)})
    assert report["output"] == "working\n" and report["error"] is None
    assert report["node"] == balance_cluster.ray.get_runtime_context().get_node_id()
    assert report["attempt"] == 1 and report["queued_s"] >= 0 and report["run_s"] >= 0


def test_a_task_that_raises_fails_with_its_traceback(balance_cluster: Any, unique: Any) -> None:
    """What a task raises is its outcome: type, message, traceback and what it had printed; no retry unasked."""

    def task() -> None:
        print("so far so good")
        raise ZeroDivisionError("on purpose \udc80")

    report = balance_cluster.execute(unique("task"), task)
    assert (report["status"], report["attempt"], report["result"]) == ("failed", 1, None)
    error = report["error"]
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "on purpose ?")
    assert "in task" in error["traceback"] and "so far so good" in error["traceback"]


def test_what_the_cluster_could_never_hold_is_denied_at_once(balance_cluster: Any, unique: Any) -> None:
    """A demand above every node is denied with what lacks, not queued for ever."""
    report = balance_cluster.execute(unique("task"), lambda: None, cpu=1000)
    assert report["status"] == "denied" and "cpu" in report["reason"]
    assert report["error"]["resource"] == "cpu" and report["error"]["lacking"] >= 900


def test_the_same_id_is_the_same_task(balance_cluster: Any, unique: Any, signals: Path) -> None:
    """Asked again under one id, during the run or after it, a task runs once and has one outcome."""
    task_id, log = unique("task"), str(signals / "runs")

    def task() -> int:
        with Path(log).open("a") as handle:
            handle.write("x")
        return os.getpid()

    first, second = balance_cluster.get(
        [balance_cluster.start("operation_coordinator", "execute_task", task_id, task, 0.5, 0) for _ in range(2)]
    )
    third = balance_cluster.execute(task_id, task)
    assert first == second == third
    assert Path(log).read_text() == "x"


def test_the_same_id_for_another_function_is_a_conflict(balance_cluster: Any, unique: Any) -> None:
    """An id stands for one function; the error arrives as `Conflict`, with its details."""
    task_id = unique("task")
    balance_cluster.execute(task_id, lambda: 1)
    with pytest.raises(Conflict) as caught:
        balance_cluster.execute(task_id, lambda: 2)
    assert caught.value.cause.details == {"task_id": task_id}


def _bad_calls(task_id: str) -> list[tuple[type[Exception], tuple[Any, ...]]]:
    return [
        (InvalidValue, ("", len, 1, 0)),
        (InvalidValue, (task_id, "no function", 1, 0)),
        (InvalidValue, (task_id, len, -1, 0)),
        (InvalidValue, (task_id, len, float("nan"), 0)),
        (InvalidValue, (task_id, len, 1, 0, 0)),
    ]


def test_errors_arrive_as_their_own_type(balance_cluster: Any, unique: Any) -> None:
    """A caller's mistake raises the error of `balance.errors` in the caller, and changes nothing."""
    task_id = unique("task")
    for kind, arguments in _bad_calls(task_id):
        with pytest.raises(kind):
            balance_cluster.ask("operation_coordinator", "execute_task", *arguments)
    with pytest.raises(InvalidValue, match="colour"):
        balance_cluster.ask("operation_coordinator", "submit_task", task_id, len, 1, 0, colour="blue")
    with pytest.raises(InvalidValue, match="retry"):
        balance_cluster.ask("operation_coordinator", "submit_task", task_id, len, 1, 0, retry={"errors": -1})
    with pytest.raises(UnknownId):
        balance_cluster.ask("operation_coordinator", "get_task_status", task_id)


def test_many_waiting_tasks_run_in_priority_order(balance_cluster: Any, unique: Any, signals: Path) -> None:
    """Of 50 concurrent tasks that fill the cluster one by one, the urgent run first, then first come, first served."""
    gate, log = signals / "gate", str(signals / "order")
    whole = balance_cluster.ray.cluster_resources()["CPU"]
    blocker = balance_cluster.start("operation_coordinator", "execute_task", unique("gate"), _until(gate), whole, 0)

    def entry(number: int) -> Callable[[], None]:
        def task() -> None:
            with Path(log).open("a") as handle:
                handle.write(f"{number}\n")

        return task

    priorities = [1 + (number * 7) % 5 for number in range(50)]
    calls = []
    for number, priority in enumerate(priorities):
        task_id = unique("ordered")
        balance_cluster.ask("operation_coordinator", "submit_task", task_id, entry(number), whole, 0, priority)
        calls.append(balance_cluster.start("scheduler", "wait", task_id))
    gate.touch()
    assert {outcome["status"] for outcome in balance_cluster.get(calls)} == {"completed"}
    assert balance_cluster.get(blocker)["status"] == "completed"
    ran = [int(line) for line in Path(log).read_text().split()]
    assert ran == sorted(range(50), key=lambda number: (priorities[number], number))


def test_small_tasks_share_a_lease_that_ray_accounts_for(
    balance_cluster: Any, unique: Any, signals: Path, eventually: Any
) -> None:
    """Two tasks of half a core run at once on one leased core, Ray counts that core, and gets it back when idle."""
    whole = balance_cluster.ray.cluster_resources()["CPU"]
    free = lambda: balance_cluster.ray.available_resources().get("CPU", 0)  # noqa: E731
    eventually(lambda: free() == whole)
    gate = signals / "gate"
    calls = [
        balance_cluster.start("operation_coordinator", "execute_task", unique("half"), _until(gate), 0.5, 0)
        for _ in range(2)
    ]
    eventually(lambda: balance_cluster.held() == 1.0)
    assert balance_cluster.held("held") == 1.0
    eventually(lambda: free() == whole - 1)
    gate.touch()
    assert {report["status"] for report in balance_cluster.get(calls)} == {"completed"}
    eventually(lambda: free() == whole)
    assert balance_cluster.held("held") == 0


def test_an_exit_in_a_task_is_a_failure_and_not_a_death(balance_cluster: Any, unique: Any) -> None:
    """`sys.exit` ends the task with an error; its executor lives on and nothing is run twice."""
    report = balance_cluster.execute(unique("task"), lambda: sys.exit(3))
    assert (report["status"], report["attempt"]) == ("failed", 1)
    assert (report["error"]["type"], report["error"]["message"]) == ("SystemExit", "3")


def test_a_task_that_kills_its_process_fails_after_its_retries(
    balance_cluster: Any, unique: Any, signals: Path
) -> None:
    """`os._exit` takes one executor each time; the task fails once its patience is used up, its neighbour is fine."""
    gate, deadly = signals / "gate", unique("deadly")
    neighbour = balance_cluster.start("operation_coordinator", "execute_task", unique("calm"), _until(gate), 0.5, 0)
    balance_cluster.ask("operation_coordinator", "submit_task", deadly, lambda: os._exit(1), 0.5, 0, retry=QUICK)
    outcome = balance_cluster.ask("scheduler", "wait", deadly)
    assert (outcome["status"], outcome["attempt"]) == ("failed", 2)
    assert outcome["error"]["kind"] == "worker_lost" and "lost 2 times" in outcome["reason"]
    gate.touch()
    assert balance_cluster.get(neighbour)["attempt"] == 1


def test_a_killed_executor_costs_one_attempt(balance_cluster: Any, unique: Any, signals: Path) -> None:
    """A task whose executor is killed half-way runs again on another and completes at attempt 2."""
    first = str(signals / "first")

    def task() -> int:
        if not Path(first).exists():
            Path(first).touch()
            os.kill(os.getpid(), 9)
        return os.getpid()

    report = balance_cluster.execute(unique("task"), task)
    assert (report["status"], report["attempt"]) == ("completed", 2)


def test_a_task_that_may_not_run_twice_does_not(balance_cluster: Any, unique: Any, signals: Path) -> None:
    """A task that is not idempotent fails when its executor dies half-way, and ran once."""
    task_id, log = unique("task"), str(signals / "runs")

    def task() -> None:
        with Path(log).open("a") as handle:
            handle.write("x")
        os._exit(1)

    balance_cluster.ask("operation_coordinator", "submit_task", task_id, task, 0.5, 0, idempotent=False)
    outcome = balance_cluster.ask("scheduler", "wait", task_id)
    assert outcome["status"] == "failed" and "may not run twice" in outcome["reason"]
    assert Path(log).read_text() == "x"


def test_what_cannot_be_pickled_is_refused_with_the_reason(balance_cluster: Any, unique: Any) -> None:
    """A function that can't travel never leaves the driver; a result that can't travel fails its task."""
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"pickle|serialize"):
        balance_cluster.execute(unique("task"), lambda: lock)
    report = balance_cluster.execute(unique("task"), lambda: (number for number in range(3)))
    assert report["status"] == "failed" and "generator" in report["error"]["message"]
    assert "can't be pickled" in report["error"]["message"]


class _Unpicklable:
    """Can be called, arrives (by Ray's way), and can't be sent on."""

    def __call__(self) -> int:
        return 1

    def __reduce__(self) -> Any:
        return _rebuilt, ()


def _rebuilt() -> Any:
    import threading

    class Stuck:
        lock = threading.Lock()

        def __call__(self) -> int:
            return 1

        def __getstate__(self) -> Any:
            raise TypeError("it holds a lock")

    return Stuck()


def test_a_function_that_cannot_be_sent_on_is_the_callers_mistake(balance_cluster: Any, unique: Any) -> None:
    """What reaches the coordinator but can't be pickled again is an `InvalidValue` that says so."""
    with pytest.raises(InvalidValue, match="can be pickled"):
        balance_cluster.execute(unique("task"), _Unpicklable())


def test_a_timeout_stops_a_running_task(balance_cluster: Any, unique: Any, signals: Path) -> None:
    """A task that runs for longer than its limit is stopped, and its executor with it."""
    task_id, pid = unique("task"), str(signals / "pid")

    def task() -> None:
        with Path(pid).open("w") as handle:
            handle.write(str(os.getpid()))
        while True:
            time.sleep(0.01)

    balance_cluster.ask("operation_coordinator", "submit_task", task_id, task, 0.5, 0, timeout_s=0.5)
    outcome = balance_cluster.ask("scheduler", "wait", task_id)
    assert outcome["status"] == "timed_out" and "0.5 s" in outcome["reason"]
    status = balance_cluster.ask("operation_coordinator", "get_task_status", task_id)
    assert status["error"]["type"] == "TimeoutError"


def test_a_running_task_can_be_cancelled(balance_cluster: Any, unique: Any, signals: Path, eventually: Any) -> None:
    """`cancel_task` stops what runs and takes what waits out of the queue; a second time there is nothing to cancel."""
    running, waiting = unique("running"), unique("waiting")
    whole = balance_cluster.ray.cluster_resources()["CPU"]
    for task_id in (running, waiting):
        balance_cluster.ask("operation_coordinator", "submit_task", task_id, _until(signals / "never"), whole, 0)
    started = lambda: balance_cluster.ask("scheduler", "outcome", running)["status"] == "running"  # noqa: E731
    eventually(started)
    assert [balance_cluster.ask("operation_coordinator", "cancel_task", each) for each in (waiting, running)] == [
        True,
        True,
    ]
    outcomes = [balance_cluster.ask("scheduler", "wait", each)["status"] for each in (running, waiting)]
    assert outcomes == ["cancelled", "cancelled"]
    assert balance_cluster.ask("operation_coordinator", "cancel_task", running) is False


def test_a_task_waits_for_those_it_depends_on(balance_cluster: Any, unique: Any) -> None:
    """A task with dependencies runs after them; one whose dependency failed is ``upstream_failed``."""
    first, second, broken, after = (unique(name) for name in ("first", "second", "broken", "after"))
    ask = balance_cluster.ask
    ask("operation_coordinator", "submit_task", first, lambda: 1, 0.5, 0)
    ask("operation_coordinator", "submit_task", second, lambda: 2, 0.5, 0, dependencies=[first])
    ask("operation_coordinator", "submit_task", broken, lambda: 1 / 0, 0.5, 0)
    ask("operation_coordinator", "submit_task", after, lambda: 2, 0.5, 0, dependencies=[broken])
    assert ask("scheduler", "wait", second)["status"] == "completed"
    assert ask("scheduler", "wait", after)["status"] == "upstream_failed"


def test_the_contract_of_the_scheduler_holds_on_the_cluster(balance_cluster: Any, unique: Any, signals: Path) -> None:
    """`schedule_task` with arguments runs on an executor; `run_scheduler` returns when nothing is left to run."""
    text = str(signals / unique("said"))

    def say(word: str, *, loud: bool) -> None:
        with Path(text).open("w") as handle:
            handle.write(word.upper() if loud else word)

    balance_cluster.ask("scheduler", "schedule_task", say, 2, 0.2, "hello", loud=True)
    assert any("say" in task["name"] for task in balance_cluster.ask("scheduler", "get_scheduled_tasks"))
    balance_cluster.ask("scheduler", "run_scheduler")
    assert Path(text).read_text() == "HELLO"
