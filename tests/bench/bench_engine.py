"""What one decision costs with a long queue: ``pytest tests/bench/bench_engine.py --benchmark-only -s``.

A decision chooses the tenant, the line and the room and commits the start; a turnover is one outcome in, a
decision, and the finding that nothing more fits.
"""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import NodeJoined, Paused, Resumed, TaskFinished, TaskSubmitted
from balance.core.scheduler.instructions import StartTask
from balance.core.scheduler.spec import TaskSpec
from balance.types import Resources

SHAPES = [Resources.demand(cpu=1), Resources.demand(cpu=1, memory=2**28), Resources.demand(cpu=1, gpu=0.25)]

ROOMY = Resources.capacity(cpu=512, memory=2**40, gpu=64)


def filled(queued: int, nodes: int = 8, tenants: int = 4) -> tuple[Engine, list[StartTask]]:
    """Return an engine with all nodes busy and `queued` tasks waiting, and what runs."""
    engine = Engine()
    for number in range(nodes):
        engine.handle(NodeJoined(f"n{number}", Resources.capacity(cpu=16, memory=2**36, gpu=4)), now=0.0)
    running: list[StartTask] = []
    for start in range(0, queued, 10_000):
        events = [
            TaskSubmitted(
                TaskSpec(
                    f"task-{n}",
                    name="bench",
                    demand=SHAPES[n % 3],
                    priority=1 + n % 5,
                    tenant=f"tenant-{n % tenants}",
                )
            )
            for n in range(start, min(start + 10_000, queued))
        ]
        running += [i for i in engine.handle(*events, now=1.0 + start * 1e-4) if isinstance(i, StartTask)]
    engine.state.changed.clear()
    return engine, running


@pytest.mark.parametrize("queued", [1_000, 100_000, 1_000_000])
def test_decision_cost(benchmark, queued):
    """Start the one that is first, out of so many."""
    engine, _ = filled(queued)
    for number in range(8):
        engine.handle(Paused(), NodeJoined(f"free{number}", ROOMY), now=999.0)
    engine.handle(Resumed(), now=1_000.0, starts=0)
    gc.collect()
    gc.freeze()

    def decide() -> None:
        out = engine.handle(now=1_000.0, starts=1)
        engine.state.changed.clear()
        assert isinstance(out[0], StartTask)

    benchmark.pedantic(decide, rounds=500, iterations=1, warmup_rounds=50)
    gc.unfreeze()


@pytest.mark.parametrize("queued", [1_000, 100_000, 1_000_000])
def test_turnover_cost(benchmark, queued):
    """One outcome in, one start out, on a full cluster."""
    engine, running = filled(queued)
    gc.collect()
    gc.freeze()
    now = 1_000.0

    def decide() -> None:
        nonlocal now
        now += 0.001
        done = running.pop()
        for instruction in engine.handle(TaskFinished(done.task_id, done.attempt), now=now):
            if isinstance(instruction, StartTask):
                running.append(instruction)
        engine.state.changed.clear()

    benchmark.pedantic(decide, rounds=500, iterations=1, warmup_rounds=50)
    gc.unfreeze()


def test_memory_per_task(benchmark):
    """What one queued task keeps in memory, with its id and its call's place, in bytes."""
    count = 100_000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    engine, _ = filled(count)
    per_task = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    benchmark.extra_info["bytes_per_task"] = per_task
    print(f"\n{per_task:.0f} bytes a task")
    assert per_task <= 1024
    benchmark.pedantic(engine.next_due, rounds=1)
