"""Tasks of a client in one process: every outcome is a report, every mistake an error."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from balance.clock import FakeClock
from balance.core.coordinator import OperationCoordinator
from balance.core.coordinator.operation_coordinator import Operation, TaskReport
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import NodeJoined
from balance.errors import Conflict, InvalidValue, UnknownId
from balance.types import Resources


@pytest.fixture
def operations(fake_clock: FakeClock) -> OperationCoordinator:
    node = NodeJoined("lab", Resources.capacity(cpu=2, memory=2**30), None)
    return OperationCoordinator(scheduler=TaskScheduler(clock=fake_clock, nodes=[node]))


def test_a_result_comes_back_in_a_report(operations: OperationCoordinator) -> None:
    """Completed, with result, node, attempt and times; the status afterwards is the same report."""
    report = operations.execute_task("sum", lambda: 2 + 3, 1, 0)
    assert (report["status"], report["result"], report["node"], report["attempt"]) == ("completed", 5, "lab", 1)
    assert report["error"] is None and report["run_s"] == 0.0
    assert operations.get_task_status("sum") == report


def test_a_task_that_raises_is_a_failed_report(operations: OperationCoordinator) -> None:
    """Type, message and traceback are in the report; nothing is raised, not even by an exit."""

    def task() -> None:
        raise ValueError("on purpose")

    report = operations.execute_task("bad", task, 1, 0)
    assert report["status"] == "failed" and report["error"]["type"] == "ValueError"
    assert "on purpose" in report["error"]["traceback"]
    assert operations.execute_task("exit", lambda: sys.exit(3), 1, 0)["status"] == "failed"


def test_what_never_fits_is_denied_at_once(operations: OperationCoordinator) -> None:
    """A demand above every node is denied with what lacks."""
    report = operations.execute_task("huge", print, 64, 0)
    assert report["status"] == "denied" and report["error"]["resource"] == "cpu"


def test_an_id_stands_for_one_function(operations: OperationCoordinator) -> None:
    """The same call again returns the same outcome without running; another function is a `Conflict`."""
    runs: list[int] = []

    def task() -> int:
        runs.append(1)
        return len(runs)

    first = operations.execute_task("t", task, 1, 0)
    assert operations.execute_task("t", task, 1, 0) == first and runs == [1]
    with pytest.raises(Conflict):
        operations.execute_task("t", print, 1, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("", print, 1, 0),
        ("t", None, 1, 0),
        ("t", print, -0.1, 0),
        ("t", print, math.nan, 0),
        ("t", print, 1, math.inf),
        ("t", print, 1, 0, 0),
        ("t", print, 1, 0, "high"),
    ],
)
def test_mistakes_raise_and_leave_nothing_behind(operations: OperationCoordinator, arguments: tuple[Any, ...]) -> None:
    """`InvalidValue` for every argument that can't be; the id is not taken by it."""
    with pytest.raises(InvalidValue):
        operations.execute_task(*arguments)
    with pytest.raises(UnknownId):
        operations.get_task_status("t")


def test_an_operation_is_exact_about_what_it_needs() -> None:
    """Demands are rounded up to thousandths of a core and whole bytes."""
    operation = Operation.of("t", print, 0.0001, 0.5, 3)
    assert operation.demand == Resources(cpu_milli=1, memory_bytes=1) and operation.priority == 3


def test_a_report_tells_a_result_from_its_other_fields() -> None:
    """The result is the task's own object, whatever it is; every other field is a JSON value."""
    marker = object()
    status = {
        "task_id": "t",
        "status": "completed",
        "error": None,
        "reason": "",
        "priority": 1,
        "attempt": 1,
        "node_id": "n",
        "submitted_at": 0.0,
        "queued_s": 0.5,
        "run_s": 1.0,
    }
    report = TaskReport.of(status, marker, "printed").to_dict()
    assert report["result"] is marker and report["output"] == "printed"
    assert report["submitted_at"].startswith("1970-01-01T00:00:00")
