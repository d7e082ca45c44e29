"""The scheduler's journal in the store: every change of a task is written behind, in one commit with others.

`record` reads what changed, hands it to the group commit and returns; whoever acknowledges something awaits
`durable` first.  The one thing that must be on disk before it happens is the start of a task that may not
run twice, and for that `record` waits.

A write that fails loses nothing: it and those after it are kept, and the next write (or `durable`) carries them
again, in their order.  Then halves of a write that is refused are tried apart, so that one task that can't be
written keeps no other from the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from actors.task_rows import Rows, images_of
from balance.client.wire import Answer
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage
from balance.storage import GroupCommit, Store
from balance.storage.tasks import Finished, Unfinished

FINISHED_LOADED = 1000
"""How many tasks that are over are remembered after a restart; the others' outcomes are in the store."""

FORGOTTEN_AT_ONCE = 1000
"""How many old tasks go in one write: nobody waits long for the disk."""


class TaskJournal:
    """Keeps tasks.

    A task's number in the store is its ``seq`` in the engine, so that no row is ever looked up to be written:
    one that is higher than all before belongs to a new task.

    Parameters
    ----------
    store : Store
        Read at a restart.
    commits : GroupCommit
        Writes.
    """

    def __init__(self, store: Store, commits: GroupCommit) -> None:
        self._store = store
        self._commits = commits
        self._highest = 0
        self._last: Future[None] | None = None
        # Shared with the thread that commits: what the next write takes along, and what is not written, oldest first.
        self._lock = threading.Lock()
        self._waiting: Rows | None = None
        self._unwritten: list[Rows] = []

    def record(self, changes: Sequence[Task]) -> None:
        """Write the changes behind; waits only where a task that is not idempotent starts."""
        with self._lock:
            last, rows = self._next_write()
            self._highest = rows.take(changes, self._highest)
        if any(task.state is State.RUNNING for task in changes):
            last.result()

    def _next_write(self) -> tuple[Future[None], Rows]:
        """Return a write that has not begun, and what it takes along: many records share one."""
        if self._waiting is None or self._last is None:
            rows = Rows()
            self._last = self._commits.submit(lambda tx: self._write(tx, rows))
            self._waiting = rows
            self._last.add_done_callback(lambda done: self._written(done, rows))
        return self._last, self._waiting

    def _write(self, tx: Any, rows: Rows) -> None:
        with self._lock:
            self._close(rows)
            former = list(self._unwritten)
        if not former:
            rows.write(tx)
        for each in [*former, rows] if former else ():
            each.write_apart(tx)

    def _written(self, done: Future[None], rows: Rows) -> None:
        with self._lock:
            self._close(rows)  # a write may fail before it began
            if done.cancelled() or done.exception() is not None:
                self._unwritten.append(rows)
            else:
                self._unwritten.clear()

    def _close(self, rows: Rows) -> None:
        if self._waiting is rows:
            self._waiting = None

    async def durable(self) -> None:
        """Return when everything recorded so far is on disk; raises what the store raised, twice."""
        last = self._last
        if last is None:
            return
        # Shielded: who gives up waiting must not take the write with it.
        await asyncio.gather(asyncio.shield(asyncio.wrap_future(last)), return_exceptions=True)
        if last.cancelled() or last.exception() is not None:
            with self._lock:
                again, _ = self._next_write()
            await asyncio.shield(asyncio.wrap_future(again))

    async def forget(self, before: float) -> int:
        """Forget the tasks that finished before `before` (POSIX seconds), a few at a time; return how many."""
        gone = 0
        while True:
            some = await asyncio.wrap_future(self._commits.submit(lambda tx: tx.tasks.prune(before, FORGOTTEN_AT_ONCE)))
            gone += some
            if some < FORGOTTEN_AT_ONCE:
                return gone

    def load(self) -> Iterable[TaskImage]:
        """Return the tasks that are not over, and the last of those that are (without their results)."""
        with self._store.reading() as tx, _collector_at_rest():
            known: dict[int, Unfinished | Finished] = {row.seq: row for row in tx.tasks.finished(FINISHED_LOADED)}
            known.update((row.seq, row) for row in tx.tasks.unfinished())
            latest = tx.tasks.latest()
            if latest is not None:
                # The engine goes on counting from the highest number that it is given, so it is given that one.
                known[latest.seq] = latest
                self._highest = latest.seq
            return images_of(list(known.values()))

    def find_all(self, ids: Sequence[str]) -> list[TaskImage]:
        """Return those of these tasks that are on disk; those that are completed with their `Answer`."""
        with self._store.reading() as tx:
            rows = tx.tasks.find(ids)
            completed = [row for row in rows if isinstance(row, Finished) and row.state == State.COMPLETED]
            results = tx.tasks.results([row.task_id for row in completed])
        answers: dict[str, Answer] = {}
        for row in completed:
            value, output = results[row.task_id]
            answers[row.task_id] = Answer(value, output=output or "", run_s=row.run_s or 0.0)
        return images_of(rows, answers)

    def calls_of(self, ids: Sequence[str]) -> dict[str, tuple[str | None, bytes | None]]:
        """Return, for those of these tasks that are on disk, the hash of the function and the pickled arguments."""
        with self._store.reading() as tx:
            return tx.tasks.calls(ids)


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Build many objects that stay without looking, again and again, whether they are garbage: half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
