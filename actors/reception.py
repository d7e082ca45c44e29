"""Where tasks come in: known ones are told from new ones, and the new ones enter the engine.

A submission is checked as a whole before any of it enters, and is durable when it is through.  A large one
enters in slices short enough that nobody else waits for it.  Two submissions that name the same id go one
after the other, so that the second finds what the first has left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from actors.archive import Archive, read
from actors.bulks import needs_one_slice
from balance.client.wire import Call
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.spec import TaskSpec
from balance.errors import Conflict, NotReady, UnknownId

SLICE = 200
"""How many tasks enter the engine at once: a few milliseconds' work."""

Submission = tuple[TaskSpec, Call]
Stored = tuple[str | None, bytes | None]


class Admitted(NamedTuple):
    """What became of a submission.

    Attributes
    ----------
    new : list of (TaskSpec, Call)
        The tasks that have entered.
    known : list of str
        The ids that stood for the same call before.
    """

    new: list[Submission]
    known: list[str]


class Reception:
    """Lets tasks into the engine.

    Parameters
    ----------
    scheduler : TaskScheduler
        Runs them.
    archive : Archive
        The journal.
    entered : callable
        Called when tasks have entered: something may fall due now.
    """

    def __init__(self, scheduler: TaskScheduler, archive: Archive, entered: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._archive = archive
        self._entered = entered
        self._entering: set[str] = set()
        self._settled = asyncio.Condition()
        self._closed = False

    async def admit(
        self,
        specs: Sequence[TaskSpec],
        calls: Sequence[Call],
        *,
        fresh: bool = False,
        before: Callable[[Sequence[str]], None] = lambda _ids: None,
        undone: Callable[[Sequence[str]], None] = lambda _ids: None,
    ) -> Admitted:
        """Let new tasks in, all or none; they are durable when this returns.

        Parameters
        ----------
        specs, calls : sequence
            The tasks, side by side.
        fresh : bool
            Whether no id can be known: then nothing is read.
        before : callable
            Called with the ids of each slice before it enters: what ends at once is awaited already.
        undone : callable
            Called with the ids of a slice that has not entered after all.

        Raises
        ------
        Conflict, InvalidValue, UnknownId, DependencyCycle
            As `TaskScheduler.submit_many`; an id that stands for another call is a `Conflict`.
        NotReady
            After `close`.
        """
        if self._closed:
            raise NotReady("the scheduler drains: it finishes what it has and takes no new tasks")
        ids = _unique([spec.task_id for spec in specs])
        async with self._settled:
            await self._settled.wait_for(lambda: self._entering.isdisjoint(ids))
        self._entering |= ids
        try:
            admitted = await self._sift(specs, calls, fresh)
            await self._recall_prerequisites(admitted.new)
            await self._enter(admitted.new, before, undone)
            await self._archive.durable()
        finally:
            self._entering -= ids
            async with self._settled:
                self._settled.notify_all()
        return admitted

    async def close(self) -> None:
        """Take no tasks any more; return when those under way are in."""
        self._closed = True
        async with self._settled:
            await self._settled.wait_for(lambda: not self._entering)

    async def _sift(self, specs: Sequence[TaskSpec], calls: Sequence[Call], fresh: bool) -> Admitted:
        """Tell new tasks from known ones, with one query for all that are not in memory."""
        tasks = self._scheduler.engine.state.tasks
        here = [tasks[spec.task_id] for spec in specs if spec.task_id in tasks]
        known: dict[str, object] = {task.task_id: task.call for task in here if task.call is not None}
        if not fresh:
            await self._archive.durable()  # what is on its way there counts
            absent = [spec.task_id for spec in specs if spec.task_id not in known]
            if absent:
                known.update(await asyncio.to_thread(self._archive.calls_of, absent))
        if not known:
            return Admitted(list(zip(specs, calls, strict=True)), [])
        admitted = Admitted([], [])
        for spec, call in zip(specs, calls, strict=True):
            if spec.task_id not in known:
                admitted.new.append((spec, call))
            elif _same(known[spec.task_id], call):
                admitted.known.append(spec.task_id)
            else:
                raise Conflict(
                    f"task {spec.task_id!r} exists already and runs another call; an id stands for one function with "
                    "the same arguments",
                    task_id=spec.task_id,
                )
        return admitted

    async def _recall_prerequisites(self, new: Sequence[Submission]) -> None:
        """Let the engine know finished tasks again that it has forgotten and that new ones wait for."""
        engine = self._scheduler.engine
        tasks = engine.state.tasks
        asked = dict.fromkeys(name for spec, _ in new for name in spec.dependencies)
        coming = {spec.task_id for spec, _ in new} if asked else set()
        found = await read(self._archive, [name for name in asked if name not in coming and name not in tasks])
        engine.adopt([image for name, image in found.items() if name not in tasks], now=self._scheduler.now())
        if found:
            engine.take_changes()  # the journal has them
        for name in asked:
            if name not in tasks and name not in coming:
                raise UnknownId("task", name, engine.state.some_ids())

    async def _enter(
        self,
        new: Sequence[Submission],
        before: Callable[[Sequence[str]], None],
        undone: Callable[[Sequence[str]], None],
    ) -> None:
        size = max(1, len(new)) if needs_one_slice(new) else SLICE
        for start in range(0, len(new), size):
            if start:
                await asyncio.sleep(0)
            part = new[start : start + size]
            ids = [spec.task_id for spec, _ in part]
            before(ids)
            try:
                self._scheduler.submit_many(part)
            except BaseException:
                undone(ids)
                raise
            self._entered()


def _unique(ids: Sequence[str]) -> set[str]:
    unique = set(ids)
    if len(unique) != len(ids):
        twice = next(task_id for task_id, number in Counter(ids).items() if number > 1)
        raise Conflict(f"task {twice!r} is submitted twice at once", task_id=twice)
    return unique


def _same(known: object, call: Call) -> bool:
    """Say whether what is known of a task's call, in memory or on disk, is this call; names are for people."""
    return isinstance(known, tuple) and known[:2] == call[:2]
