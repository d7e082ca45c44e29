"""The scheduler's journal: images come back as they were, and no failed write loses a change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from actors.task_journal import TaskJournal
from balance.client.wire import Answer, Function
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import TaskImage
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


def image(task_id: str = "t", state: State = State.QUEUED, **fields: Any) -> TaskImage:
    demand = Resources.demand(cpu=0.5, memory=1024, gpu=0.25)
    spec = TaskSpec(task_id, name="len", demand=demand, retry=RetryPolicy(errors=2), timeout_s=3.0)
    call = None if state.terminal else CALL
    return TaskImage(spec, call, state, seq=7, priority=2, demand=demand.to_dict(), submitted_at=1.0, **fields)


def load(store: Store) -> dict[str, TaskImage]:
    """Read what another incarnation would find."""
    return {each.task_id: each for each in TaskJournal(store, None).load()}  # type: ignore[arg-type]


def test_an_unfinished_task_comes_back_as_it_was(store: Store, journal: TaskJournal) -> None:
    """Every field of the image survives the way through the store, the call included."""
    running = image(
        state=State.RUNNING,
        eligible_at=1.5,
        started_at=2.0,
        attempt=3,
        errors=1,
        losses=1,
        node_id="n1",
        devices=((0, 250),),
        pool="model:m",
        story=("1.000 s: queued",),
        error={"kind": "error", "type": "ValueError", "message": "m", "traceback": "t"},
    )
    journal.record([image("t"), image("waits", State.RETRYING, due_at=9.0)])
    journal.record([running])
    asyncio.run(journal.durable())
    found = load(store)
    assert found["t"] == running
    assert found["waits"] == image("waits", State.RETRYING, due_at=9.0)


def test_a_finished_task_comes_back_without_its_blobs(store: Store, journal: TaskJournal) -> None:
    """Tasks that are over are remembered, so that others may depend on them; their results stay in the store."""
    answer = Answer(True, value=b"x")
    journal.record([image()])
    journal.record([image(state=State.COMPLETED, finished_at=5.0, result=answer)])
    asyncio.run(journal.durable())
    [found] = load(store).values()
    assert found == image(state=State.COMPLETED, finished_at=5.0)
    with store.reading() as tx:
        assert tx.tasks.get("t")["result"] is not None


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failed_write_is_made_up_for(store: Store, journal: TaskJournal, writer: Writer, failures: int) -> None:
    """Inserts and updates of a commit that failed reach the disk with the next one, in their last form."""
    writer.failing = failures
    journal.record([image("a"), image("b")])
    journal.record([image("a", State.RUNNING, attempt=1)])
    journal.record([image("c")])
    asyncio.run(journal.durable())
    found = load(store)
    assert {name: each.state for name, each in found.items()} == {
        "a": State.RUNNING,
        "b": State.QUEUED,
        "c": State.QUEUED,
    }
    journal.record([image("b", State.CANCELLED, finished_at=3.0)])
    asyncio.run(journal.durable())
    assert load(store)["b"].state is State.CANCELLED


def test_nothing_is_acknowledged_while_the_disk_fails(store: Store, journal: TaskJournal, writer: Writer) -> None:
    """`durable` raises what the store raised, and once the store is well again it all gets written."""
    writer.failing = 2
    journal.record([image("a")])
    with pytest.raises(StorageError, match="disk is full"):
        asyncio.run(journal.durable())
    asyncio.run(journal.durable())
    assert list(load(store)) == ["a"]


def test_a_task_that_cannot_be_written_keeps_no_other_from_the_disk(store: Store, journal: TaskJournal) -> None:
    """After a failure tasks are written one by one: the one with text that no database takes is left out alone."""
    poison = image("poison", error={"kind": "error", "type": "E", "message": "\udce9", "traceback": ""})
    journal.record([poison, image("good")])
    asyncio.run(journal.durable())
    journal.record([image("later")])
    asyncio.run(journal.durable())
    assert sorted(load(store)) == ["good", "later"]


def test_a_task_that_may_not_run_twice_starts_on_disk(store: Store, journal: TaskJournal, writer: Writer) -> None:
    """`record` returns only when that start is written, and raises if it can't be: then nothing starts."""
    once = replace(image(), spec=replace(image().spec, idempotent=False))
    journal.record([once])
    journal.record([replace(once, state=State.RUNNING, attempt=1)])
    assert load(store)["t"].state is State.RUNNING
    writer.failing = 1
    with pytest.raises(StorageError):
        journal.record([replace(once, state=State.RUNNING, attempt=2)])
    journal.record([replace(once, state=State.RUNNING, attempt=2)])
    assert load(store)["t"].attempt == 2


def test_who_gives_up_waiting_takes_no_write_along(store: Store, journal: TaskJournal, writer: Writer) -> None:
    """A cancelled `durable` cancels neither the write nor anyone else's wait for it."""

    async def main() -> None:
        blocked = asyncio.Event()
        loop = asyncio.get_running_loop()
        release = __import__("threading").Event()

        def slow(_tx: Any) -> None:
            loop.call_soon_threadsafe(blocked.set)
            release.wait(5)

        writer.commits.submit(slow)
        await blocked.wait()
        journal.record([image()])
        patient, impatient = (asyncio.create_task(journal.durable()) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        release.set()
        await patient

    asyncio.run(main())
    assert list(load(store)) == ["t"]
