"""The scheduler's journal: tasks come back as they were, and no failed write loses a change."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from actors.task_journal import TaskJournal
from balance.client.wire import Answer, Function
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.room import Hold, Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage
from balance.errors import StorageError
from balance.storage import GroupCommit, Store
from balance.types import Resources

CALL = Function.of(len).call([1, 2, 3])


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


class Writer:
    """A group commit that can be told to fail."""

    def __init__(self, store: Store) -> None:
        self.commits = GroupCommit(store, store.acquire("scheduler"))
        self.failing = 0

    def submit(self, write: Any) -> Any:
        if self.failing:
            self.failing -= 1

            def broken(_tx: Any) -> None:
                raise StorageError("the disk is full")

            return self.commits.submit(broken)
        return self.commits.submit(write)


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    writer = Writer(store)
    yield writer
    writer.commits.close()


@pytest.fixture
def journal(store: Store, writer: Writer) -> TaskJournal:
    return TaskJournal(store, writer)  # type: ignore[arg-type]


SPEC = TaskSpec(
    "t",
    name="len",
    demand=Resources.demand(cpu=0.5, memory=1024, gpu=0.25),
    priority=2,
    retry=RetryPolicy(errors=2),
    timeout_s=3.0,
)
_numbers: dict[str, int] = {}


def task(task_id: str = "t", state: State = State.QUEUED, *, idempotent: bool = True, **given: Any) -> Task:
    """Return a task as the engine would report it; one id has one number."""
    spec = replace(SPEC, task_id=task_id, idempotent=idempotent)
    made = Task(spec, CALL, Shape(spec.demand), _numbers.setdefault(task_id, len(_numbers) + 1), 1.0)
    made.state, made.eligible_at = state, 1.0
    if state.terminal:
        made.call, made.finished_at = None, 5.0
    for name, value in given.items():
        setattr(made, name, value)
    return made


@pytest.fixture(autouse=True)
def _fresh_numbers() -> Iterator[None]:
    _numbers.clear()
    yield


def load(store: Store) -> dict[str, TaskImage]:
    """Read what another incarnation would find."""
    return {each.task_id: each for each in TaskJournal(store, None).load()}  # type: ignore[arg-type]


def test_an_unfinished_task_comes_back_as_it_was(store: Store, journal: TaskJournal) -> None:
    """Whatever has happened to it survives the way through the store, the call included."""
    room = Room("n1", "model:m", Resources.capacity(cpu=4, gpu=1), ((0, 1000),))
    running = task(
        state=State.RUNNING,
        idempotent=False,
        priority=4,
        eligible_at=1.5,
        started_at=2.0,
        attempt=3,
        errors=1,
        losses=1,
        memory_kills=1,
        preemptions=2,
        refusals=5,
        node_id="n1",
        stop_reason="preempted",
        solo=True,
        noted=2,
        shape=Shape(Resources.demand(cpu=0.5, memory=2048, gpu=0.25)),
        hold=Hold("t", room, SPEC.demand, ((0, 250),)),
        story=["1.000 s: queued"],
        error={"kind": "error", "type": "ValueError", "message": "caf\udce9 \0", "traceback": "t"},
    )
    waits = task("waits", State.RETRYING, due_at=9.0, eligible_at=None)
    journal.record([task(idempotent=False), waits])
    journal.record([running])
    asyncio.run(journal.durable())
    assert load(store) == {"t": running.image(), "waits": waits.image()}


@pytest.mark.parametrize(
    "options",
    [
        {"dependencies": ("a", "b"), "deadline": 9.5, "not_before": 2},
        {"tenant": "کاربر"},
        {"preemptible": True, "reservation": "r", "expected_run_s": 0.25, "memory_limit_bytes": 2**31},
        {"retry": RetryPolicy(base_s=0.5), "timeout_s": None, "demand": ONE_CPU, "name": "task", "priority": 3},
    ],
)
def test_whatever_a_spec_says_comes_back(store: Store, journal: TaskJournal, options: dict[str, Any]) -> None:
    """Specs that differ in one field are not taken for one another."""
    specs = [replace(SPEC, task_id=f"t{n}", **dict(list(options.items())[:n])) for n in range(len(options) + 1)]
    calls = [CALL._replace(name=spec.name) for spec in specs]
    shapes = [Shape(spec.demand) for spec in specs]
    tasks = [Task(*each, n, 1.0) for n, each in enumerate(zip(specs, calls, shapes, strict=True), 1)]
    journal.record(tasks)
    asyncio.run(journal.durable())
    assert load(store) == {each.task_id: each.image() for each in tasks}


def test_a_finished_task_comes_back_without_its_blobs(store: Store, journal: TaskJournal) -> None:
    """Tasks that are over are remembered, so that others may depend on them; their results stay in the store."""
    answer = Answer(value=b"x", output="printed", run_s=0.25)
    ended = task(state=State.COMPLETED, attempt=1, started_at=2.0, node_id="n1", result=answer)
    failed = task("f", State.FAILED, attempt=2, error={"kind": "error"}, reason="raised", story=["s"], noted=2)
    journal.record([task(), task("f"), task("open")])
    journal.record([ended, failed])
    asyncio.run(journal.durable())
    found = load(store)
    assert found["t"] == replace(ended.image(), result=None)
    assert found["f"] == failed.image()
    assert {each.task_id: each for each in journal.find_all(["t", "f", "open", "none"])} == {
        "t": ended.image(),
        "f": failed.image(),
        "open": task("open").image(),
    }
    assert journal.calls_of(["t", "open", "none"]) == dict.fromkeys(["t", "open"], CALL[:2])


def test_the_task_that_was_submitted_last_is_always_loaded(
    store: Store, journal: TaskJournal, monkeypatch: Any
) -> None:
    """The engine goes on counting from the highest number, so that no new task is taken for an old one."""
    monkeypatch.setattr("actors.task_journal.FINISHED_LOADED", 1)
    journal.record([task("a"), task("b")])
    journal.record([task("b", State.COMPLETED, finished_at=3.0), task("a", State.COMPLETED, finished_at=4.0)])
    asyncio.run(journal.durable())
    assert sorted(load(store)) == ["a", "b"]


def test_many_records_share_a_write(journal: TaskJournal, writer: Writer) -> None:
    """What is recorded while the disk is busy goes in one write."""
    release = threading.Event()
    held = writer.commits.submit(lambda _tx: release.wait(5))
    for n in range(100):
        journal.record([task(f"t{n}")])
    release.set()
    asyncio.run(journal.durable())
    held.result()
    assert writer.commits.writes <= 3


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failed_write_is_made_up_for(store: Store, journal: TaskJournal, writer: Writer, failures: int) -> None:
    """What a commit that failed carried reaches the disk with the next one, in its last form."""
    writer.failing = failures
    steps = [
        [task("a"), task("b")],
        [task("a", State.RETRYING, attempt=1, errors=1)],
        [task("c"), task("b", State.CANCELLED, finished_at=3.0)],
    ]
    for step in steps:
        journal.record(step)
        with contextlib.suppress(StorageError):
            journal._last.result(5)
    asyncio.run(journal.durable())
    assert {name: each.state for name, each in load(store).items()} == {
        "a": State.RETRYING,
        "b": State.CANCELLED,
        "c": State.QUEUED,
    }
    journal.record([task("a", State.COMPLETED)])
    asyncio.run(journal.durable())
    assert load(store)["a"].state is State.COMPLETED
    with store.reading() as tx:
        assert [row.task_id for row in tx.tasks.unfinished()] == ["c"]


def test_nothing_is_acknowledged_while_the_disk_fails(store: Store, journal: TaskJournal, writer: Writer) -> None:
    """`durable` raises what the store raised, and once the store is well again it all gets written."""
    writer.failing = 2
    journal.record([task("a")])
    with pytest.raises(StorageError, match="disk is full"):
        asyncio.run(journal.durable())
    asyncio.run(journal.durable())
    assert list(load(store)) == ["a"]


def test_a_task_that_cannot_be_written_keeps_no_other_from_the_disk(store: Store, journal: TaskJournal) -> None:
    """After a refusal halves are written apart: the one with text that no database takes is left out alone."""
    journal.record([task("poison", call=CALL._replace(function="caf\udce9")), *(task(f"good{n}") for n in range(9))])
    asyncio.run(journal.durable())
    journal.record([task("later")])
    asyncio.run(journal.durable())
    assert sorted(load(store)) == [*(f"good{n}" for n in range(9)), "later"]


def test_a_task_that_may_not_run_twice_starts_on_disk(store: Store, journal: TaskJournal, writer: Writer) -> None:
    """`record` returns only when that start is written, and raises if it can't be: then nothing starts."""
    journal.record([task(idempotent=False)])
    running = task(state=State.RUNNING, idempotent=False, attempt=1)
    journal.record([running])
    assert load(store)["t"].state is State.RUNNING
    writer.failing = 1
    running.attempt = 2
    with pytest.raises(StorageError):
        journal.record([running])
    journal.record([running])
    assert load(store)["t"].attempt == 2


def test_who_gives_up_waiting_takes_no_write_along(store: Store, journal: TaskJournal, writer: Writer) -> None:
    """A cancelled `durable` cancels neither the write nor anyone else's wait for it."""

    async def main() -> None:
        blocked = asyncio.Event()
        loop = asyncio.get_running_loop()
        release = threading.Event()

        def slow(_tx: Any) -> None:
            loop.call_soon_threadsafe(blocked.set)
            release.wait(5)

        writer.commits.submit(slow)
        await blocked.wait()
        journal.record([task()])
        patient, impatient = (asyncio.create_task(journal.durable()) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        release.set()
        await patient

    asyncio.run(main())
    assert list(load(store)) == ["t"]


def test_old_tasks_are_forgotten(store: Store, journal: TaskJournal, monkeypatch: Any) -> None:
    """All of them, however few at a time; the others stay."""
    monkeypatch.setattr("actors.task_journal.FORGOTTEN_AT_ONCE", 2)
    names = [f"t{n}" for n in range(5)]
    journal.record([task(name) for name in names])
    journal.record([task(name, State.COMPLETED, finished_at=float(n)) for n, name in enumerate(names)])

    async def main() -> int:
        await journal.durable()
        return await journal.forget(4.0)

    assert asyncio.run(main()) == 4
    assert list(load(store)) == ["t4"]
