"""What durability costs the scheduler: ``pytest tests/bench/bench_storage.py --benchmark-only -s``.

20,000 tasks are recorded by the journal, on a real disk, as they are submitted and as they end, and read back
as after a crash.  The peer is Python's own SQLite driver writing the same rows into the same tables by
``executemany``, handed to it ready-made.

``caller`` is the processor time of the thread that records (the scheduler's event loop), ``process`` that of
the whole process; the difference is the committing thread, most of it in SQLite and outside Python's lock.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actors.task_journal import TaskJournal
from actors.task_rows import Rows
from balance.client.wire import Answer, Function
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.storage import GroupCommit, Store

COUNT = 20_000
RECORDS = 80
"""In how many calls the ends come: chunks of 250."""

CALL = Function.of(len).call([])
SHAPE = Shape(ONE_CPU)


def submitted(count: int) -> list[Task]:
    """Return tasks as the engine reports them when they have been submitted."""
    tasks = []
    for n in range(1, count + 1):
        spec = TaskSpec(f"job-{n:06d}-3f9a", name="noop", priority=1 + n % 5)
        task = Task(spec, CALL, SHAPE, n, 1.7e9)
        task.state, task.eligible_at = State.QUEUED, 1.7e9
        tasks.append(task)
    return tasks


def ended(tasks: list[Task]) -> list[Task]:
    """Let the tasks be over."""
    for n, task in enumerate(tasks):
        task.state, task.attempt, task.node_id, task.call = State.COMPLETED, 1, "0123456789abcdef" * 3, None
        task.started_at, task.finished_at = 1.7e9, 1.7e9 + n * 1e-5
        task.result = Answer(b"\x80\x05N.", run_s=1e-5)
    return tasks


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    gc.collect()
    gc.freeze()
    yield tmp_path
    gc.unfreeze()


class Durable:
    """A journal on a disk of its own."""

    def __init__(self, path: Path) -> None:
        self.store = Store(f"sqlite:///{path}")
        self.commits = GroupCommit(self.store, self.store.acquire("scheduler"))
        self.journal = TaskJournal(self.store, self.commits)

    def record(self, tasks: list[Task], records: int) -> None:
        """Record the tasks in so many calls, and wait for the disk."""
        size = -(-len(tasks) // records)
        for start in range(0, len(tasks), size):
            self.journal.record(tasks[start : start + size])
        asyncio.run(self.journal.durable())

    def close(self) -> None:
        self.commits.close()
        self.store.close()


def measured(benchmark: Any, work: Callable[[], object], setup: Callable[[], None], rows: int = COUNT) -> None:
    """Benchmark `work` and note the processor time of a task."""
    spent: list[tuple[float, float]] = []

    def timed() -> None:
        caller, process = time.thread_time(), time.process_time()
        work()
        spent.append((time.thread_time() - caller, time.process_time() - process))

    benchmark.pedantic(timed, setup=setup, rounds=5)
    for name, index in (("caller_us_per_task", 0), ("process_us_per_task", 1)):
        benchmark.extra_info[name] = min(each[index] for each in spent) / rows * 1e6
    wall = benchmark.stats.stats.min / rows * 1e6
    info = ", ".join(f"{name} {value:.2f}" for name, value in benchmark.extra_info.items())
    print(f"\n{benchmark.name}: wall_us_per_task {wall:.2f}, {info}")


@pytest.mark.parametrize("what", ["submissions", "ends"])
def test_record(benchmark: Any, folder: Path, what: str) -> None:
    """20,000 submissions in one call; 20,000 ends in 80."""
    made: list[Durable] = []
    tasks: list[Task] = []

    def setup() -> None:
        if made:
            made.pop().close()
        made.append(Durable(folder / f"{time.monotonic_ns()}.db"))
        tasks[:] = submitted(COUNT)
        if what == "ends":
            made[0].record(tasks, 1)
            ended(tasks)

    records = RECORDS if what == "ends" else 1
    measured(benchmark, lambda: made[0].record(tasks, records), setup)
    made.pop().close()


@pytest.mark.parametrize("what", ["submissions", "ends"])
def test_peer_sqlite3(benchmark: Any, folder: Path, what: str) -> None:
    """The same rows, ready-made, into the same tables, by ``executemany`` in one transaction."""
    tasks = submitted(COUNT)
    first, last = Rows(), Rows()
    first.take(tasks, 0)
    last.take(ended(tasks), COUNT)
    made: list[sqlite3.Connection] = []

    def submissions() -> None:
        with made[0] as connection:
            connection.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)", first.new)
            connection.executemany("INSERT INTO open_tasks VALUES (?, ?, ?, ?)", first.opened.values())

    def ends() -> None:
        with made[0] as connection:
            connection.executemany("INSERT INTO task_ends VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", last.ended)
            connection.executemany("DELETE FROM open_tasks WHERE seq = ?", [(row[0],) for row in last.ended])

    def setup() -> None:
        if made:
            made.pop().close()
        path = folder / f"{time.monotonic_ns()}.db"
        Store(f"sqlite:///{path}").close()
        made.append(sqlite3.connect(path))
        made[0].execute("PRAGMA synchronous=FULL")
        if what == "ends":
            submissions()

    measured(benchmark, ends if what == "ends" else submissions, setup)
    made.pop().close()


@pytest.mark.parametrize("unfinished", [COUNT, 5 * COUNT])
def test_recover(benchmark: Any, folder: Path, unfinished: int) -> None:
    """Read so many unfinished tasks back, as the engine takes them in."""
    with closing(Durable(folder / "b.db")) as durable:
        durable.record(submitted(unfinished), 1)
        journal = TaskJournal(durable.store, durable.commits)
        measured(benchmark, lambda: list(journal.load()), lambda: None, unfinished)
        assert len(list(journal.load())) == unfinished
