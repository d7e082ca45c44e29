"""What a decision costs, in function calls: a count, so that it is the same on every machine."""

from __future__ import annotations

import sys

import pytest

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import NodeJoined, TaskCancelRequested, TaskFinished, TaskSubmitted
from balance.core.scheduler.instructions import StartTask
from balance.core.scheduler.spec import TaskSpec
from balance.types import Resources

SHAPES = [Resources.demand(cpu=1), Resources.demand(cpu=1, memory=64), Resources.demand(cpu=1, gpu=0.25)]


def filled(queued: int, nodes: int = 4) -> tuple[Engine, list[StartTask]]:
    engine = Engine()
    for number in range(nodes):
        engine.handle(NodeJoined(f"n{number}", Resources.capacity(cpu=8, memory=10**6, gpu=4)), now=0.0)
    events = [
        TaskSubmitted(TaskSpec(f"t{n}", demand=SHAPES[n % 3], priority=1 + n % 5, tenant=f"tenant-{n % 4}"))
        for n in range(queued + 8 * nodes)
    ]
    return engine, [each for each in engine.handle(*events, now=1.0) if isinstance(each, StartTask)]


def calls(function) -> int:
    """Count the calls, of Python and C functions, that `function` makes."""
    count = 0

    def tracer(_frame, event, _arg):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tracer)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def decisions(queued: int, nodes: int = 4) -> float:
    """Return the mean number of calls from one outcome to the start that follows it."""
    engine, running = filled(queued, nodes)
    total = 0
    for step in range(60):
        done = running.pop(0)
        out = []
        total += calls(
            lambda done=done, out=out, step=step: out.extend(
                engine.handle(TaskFinished(done.task_id, 1), now=2.0 + step)
            )
        )
        running += [each for each in out if isinstance(each, StartTask)]
    assert len(running) == 8 * nodes
    return total / 60


def test_a_decision_costs_the_same_with_sixteen_times_the_queue():
    """The heaps' own comparisons, O(log n), are in C; the calls around them do not grow."""
    few, many = decisions(500), decisions(8000)
    assert many <= few * 1.1 + 5
    assert many <= 400


def test_a_decision_costs_the_same_on_sixteen_times_the_nodes():
    """Only rooms that changed are scored again."""
    few, many = decisions(600, nodes=2), decisions(600, nodes=32)
    assert many <= few * 1.25 + 10


def test_cancelled_tasks_do_not_pile_up():
    """Entries that no longer hold are dropped: cancelling most of a queue leaves no trace in its heaps."""
    engine, _ = filled(3000)
    queued = [task.task_id for task in engine.state.tasks.values() if task.state == "queued"]
    for task_id in queued[:2990]:
        engine.handle(TaskCancelRequested(task_id), now=2.0)
    engine.validate()
    kept = sum(len(line.heap) for account in engine.state.shares.accounts() for line in account.lines.values())
    kept += sum(len(account.heap) for account in engine.state.shares.accounts())
    assert kept <= 600


def test_a_line_that_does_not_fit_is_not_tried_again_before_something_is_freed():
    """Submitting to a full cluster does not search it every time."""
    engine, _ = filled(100)
    first = calls(lambda: engine.handle(TaskSubmitted(TaskSpec("one", demand=SHAPES[0], tenant="tenant-0")), now=3.0))
    second = calls(lambda: engine.handle(TaskSubmitted(TaskSpec("two", demand=SHAPES[0], tenant="tenant-0")), now=3.0))
    assert second <= first
    assert second < 150


@pytest.mark.parametrize("lines", [200])
def test_the_scan_is_bounded(lines):
    """However many shapes wait in vain, one decision looks at a bounded number of them."""
    engine = Engine()
    engine.handle(NodeJoined("n1", Resources.capacity(cpu=4)), now=0.0)
    engine.handle(*[TaskSubmitted(TaskSpec(f"run{n}")) for n in range(4)], now=0.0)
    shapes = [Resources.demand(cpu=2 + n / 1000) for n in range(lines)]
    engine.handle(*[TaskSubmitted(TaskSpec(f"t{n}", demand=d)) for n, d in enumerate(shapes)], now=1.0)
    spent = calls(lambda: engine.handle(TaskFinished("run0", 1), now=2.0))
    assert spent < engine.state.policy.scan_max * 60
