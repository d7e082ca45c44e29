"""Where clients bring their tasks and fetch what became of them.

Outcomes are told to each client through a bounded `Ring`, many in one answer; a client that comes from
elsewhere, or to a scheduler that was restarted, says which tasks it follows and is told at once of those
that are over.

It runs in the scheduler's event loop, but knows no Ray: the engine, the journal and the functions are given.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from actors.archive import Archive, read
from actors.bulks import bulk_specs
from actors.function_store import FunctionStore
from actors.reception import Reception
from actors.ring import Ring
from balance.client.wire import Answer, Bulk, Call, LargeAnswer, PlainOutcome
from balance.clock import Clock
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import TaskCancelRequested
from balance.core.scheduler.explain import Explanation, explain
from balance.core.scheduler.instructions import FinishTask
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.status import TaskStatus
from balance.core.scheduler.task import TaskImage
from balance.errors import UnknownId
from balance.types import check_id

COLLECT_MAX_S = 60.0
"""The longest that a client may wait in one call."""

ABSENT_S = 900.0
"""After how many seconds without a call what waits for a client is given up; it can ask for it by id."""


@dataclass(slots=True)
class _Reader:
    ring: Ring
    seen_at: float


class Desk:
    """Takes tasks in and gives outcomes out.

    Parameters
    ----------
    scheduler : TaskScheduler
        Runs the tasks.
    archive : Archive
        The journal.
    functions : FunctionStore
        Keeps what the tasks call.
    clock : Clock
        For what clients are told of and when they were last seen.
    epoch : int
        The scheduler's incarnation.
    entered : callable
        Called when tasks have entered the engine: something may fall due now.
    """

    def __init__(
        self,
        scheduler: TaskScheduler,
        archive: Archive,
        functions: FunctionStore,
        *,
        clock: Clock,
        epoch: int,
        entered: Callable[[], None] = lambda: None,
    ) -> None:
        self._scheduler = scheduler
        self._archive = archive
        self._functions = functions
        self._clock = clock
        self._epoch = epoch
        self._entered = entered
        self._reception = Reception(scheduler, archive, entered)
        self._readers: dict[str, _Reader] = {}
        self._followers: dict[str, tuple[Ring, ...]] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    # -- tasks in ----------------------------------------------------------------------------------

    async def submit_bulk(self, client_id: str, bulk: Bulk) -> dict[str, Any]:
        """Queue many tasks, all or none, and let their outcomes be told to `client_id`.

        Returns
        -------
        dict
            ``status``: ``accepted``, or ``lacks_functions`` (nothing was queued: ``functions`` have to be sent
            along); ``accepted`` and ``known``: how many tasks are new, and how many had been accepted before
            under the same id with the same call; ``epoch`` of the scheduler.  What is acknowledged is durable.

        Raises
        ------
        Conflict
            An id stands for another call, or is there twice.
        InvalidValue, UnknownId, DependencyCycle
            As `TaskScheduler.submit_many`.
        NotReady
            The scheduler drains.
        """
        specs = bulk_specs(bulk, self._scheduler.now())
        await self._functions.keep(bulk.functions)
        lacking = self._functions.lacking(kind.function for kind in bulk.kinds)
        if lacking:
            return {"status": "lacks_functions", "functions": lacking, "accepted": 0, "known": 0, "epoch": self._epoch}
        ring = self._reader(client_id).ring
        mine = (ring,)
        admitted = await self._reception.admit(
            specs,
            bulk.calls(),
            fresh=bulk.epoch == self._epoch,
            before=lambda ids: self._followers.update(dict.fromkeys(ids, mine)),
            undone=self._unfollow,
        )
        if admitted.known:
            ring.add(await self._over(admitted.known, ring))
        new, known = len(admitted.new), len(admitted.known)
        return {"status": "accepted", "accepted": new, "known": known, "epoch": self._epoch}

    async def submit(self, spec: TaskSpec, call: Call) -> bool:
        """Queue one task, durably; say whether it is new.  Raises as `submit_bulk` does."""
        return bool((await self._reception.admit([spec], [call])).new)

    async def close(self) -> None:
        """Take no tasks any more; return when those under way are in."""
        await self._reception.close()

    # -- outcomes out ------------------------------------------------------------------------------

    def tell(self, ended: Iterable[FinishTask]) -> None:
        """Take in what is over, and on disk, for those who follow it."""
        told: dict[Ring, list[PlainOutcome]] = {}
        for finish in ended:
            task_id = finish.task_id
            if self._waiting and (event := self._waiting.pop(task_id, None)) is not None:
                event.set()
            for ring in self._followers.pop(task_id, ()):
                if ring not in told:
                    told[ring] = []
                told[ring].append(_outcome_of(finish))
            if type(finish.result) is LargeAnswer:
                finish.result.settle()
        for ring, outcomes in told.items():
            ring.add(outcomes)

    async def collect(self, client_id: str, after: int, wait_s: float, limit: int) -> dict[str, Any]:
        """Return the outcomes after number `after`, waiting for the first for at most `wait_s` seconds.

        Returns
        -------
        dict
            ``status``: ``ok``, or ``lost`` where outcomes after `after` are not here (the scheduler was
            restarted, or the client did not fetch them in time): `follow` again what is outstanding;
            ``last``: what to ask for next; ``outcomes``: a list of `PlainOutcome`; ``epoch`` of the scheduler.
        """
        if client_id not in self._readers or self._reader(client_id).ring.lacks(after):
            ring = self._reader(client_id).ring
            return {"status": "lost", "last": ring.last, "outcomes": [], "epoch": self._epoch}
        ring = self._reader(client_id).ring
        found = ring.after(after, limit)
        if not found and wait_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ring.changed.wait(), min(wait_s, COLLECT_MAX_S))
            found = ring.after(after, limit)
        return {"status": "ok", "last": after + len(found), "outcomes": found, "epoch": self._epoch}

    async def follow(self, client_id: str, ids: Sequence[str]) -> dict[str, Any]:
        """Let the outcomes of tasks be told to `client_id`, whoever has submitted them.

        Returns
        -------
        dict
            ``outcomes``: of those that are over already, with the state ``unknown`` for what is no task;
            ``epoch`` of the scheduler.
        """
        return {"outcomes": await self._over(ids, self._reader(client_id).ring), "epoch": self._epoch}

    async def _over(self, ids: Sequence[str], ring: Ring, *, again: bool = False) -> list[PlainOutcome]:
        """Return the outcomes of those that are over, or no tasks at all; those of the others go to `ring` later."""
        tasks = self._scheduler.engine.state.tasks
        rest = []
        for task_id in ids:  # without a pause: what ends from here on goes to the ring
            if task_id in tasks and not tasks[task_id].state.terminal:
                self._follow(task_id, ring)
            else:
                rest.append(task_id)
        found = await read(self._archive, rest)
        outcomes: list[PlainOutcome] = []
        came: list[str] = []
        for task_id in rest:
            image = found.get(task_id)
            if image is not None and image.state.terminal:
                outcomes.append(_outcome_of(image))
            elif image is None and (again or task_id not in tasks):
                outcomes.append((task_id, "unknown", None, None))
            else:
                came.append(task_id)  # while the disk was read
        # Once more is enough for those: one that is over, and still not on disk, has been forgotten there.
        return [*outcomes, *await self._over(came, ring, again=True)] if came else outcomes

    async def wait(self, task_id: str) -> None:
        """Return when a task that the engine knows is over, and that is on disk."""
        task = self._scheduler.engine.state.tasks.get(task_id)
        if task is not None and not task.state.terminal:
            await self._waiting.setdefault(task_id, asyncio.Event()).wait()
        await self._archive.durable()

    async def find(self, task_id: str) -> TaskImage:
        """Return a task as it is now, from the engine or, once it has forgotten it, from the disk."""
        engine = self._scheduler.engine
        task = engine.state.tasks.get(check_id("task_id", task_id))
        if task is not None and (task.state is not State.COMPLETED or _is_here(task.result)):
            return engine.image(task_id)
        found = await read(self._archive, [task_id])
        if not found:
            raise UnknownId("task", task_id, engine.state.some_ids())
        return found[task_id]

    async def cancel_many(self, ids: Sequence[str]) -> list[bool]:
        """Cancel tasks; say of each whether it was not over already.

        Raises
        ------
        UnknownId
            There is no such task; none is cancelled then.
        """
        over = {task_id: (await self.find(task_id)).state.terminal for task_id in ids}
        self._scheduler.deliver(*(TaskCancelRequested(task_id) for task_id, ended in over.items() if not ended))
        self._entered()
        return [not over[task_id] for task_id in ids]

    async def status(self, task_id: str) -> TaskStatus:
        """Return how a task stands; `UnknownId` if there is none."""
        task = await self.find(task_id)
        return TaskStatus.of(task, self._scheduler.now(), self._scheduler.engine.state.policy.aging_step_s)

    async def explain(self, task_id: str) -> Explanation:
        """Return why a task is where it is; `UnknownId` if there is none."""
        state, now = self._scheduler.engine.state, self._scheduler.now()
        known = state.tasks.get(task_id)
        if known is not None:
            return explain(state, known, now)
        image = await self.find(task_id)
        return explain(state, image.revive(state.shape(image.spec.demand, image.spec.reservation)), now)

    async def results(self, ids: Sequence[str]) -> list[PlainOutcome]:
        """Return how tasks that are over ended, in the order of `ids`; for a task whose arguments they are."""
        found = await read(self._archive, ids)
        return [_outcome_of(found[name]) if name in found else (name, "unknown", None, None) for name in ids]

    # -- inside ------------------------------------------------------------------------------------

    def _reader(self, client_id: str) -> _Reader:
        now = self._clock.now()
        reader = self._readers.get(client_id)
        if reader is None:
            reader = self._readers[check_id("client_id", client_id)] = _Reader(Ring(), now)
        reader.seen_at = now
        return reader

    def _unfollow(self, ids: Sequence[str]) -> None:
        for task_id in ids:
            self._followers.pop(task_id, None)

    def _follow(self, task_id: str, ring: Ring) -> None:
        others = self._followers.get(task_id, ())
        if ring not in others:
            self._followers[task_id] = (*others, ring)

    def leave(self, client_id: str) -> None:
        """Give up what waits for a client that goes."""
        if client_id in self._readers:
            self._forget({self._readers[client_id].ring})

    async def forget_absent(self) -> None:
        """Give up what waits for clients that have not called for `ABSENT_S` seconds."""
        until = self._clock.now() - ABSENT_S
        self._forget({reader.ring for reader in self._readers.values() if reader.seen_at < until})

    def _forget(self, gone: set[Ring]) -> None:
        if not gone:
            return
        self._readers = {name: reader for name, reader in self._readers.items() if reader.ring not in gone}
        for ring in gone:
            ring.changed.set()  # whoever waits there goes away with nothing
        for task_id, rings in list(self._followers.items()):
            left = tuple(ring for ring in rings if ring not in gone)
            if left:
                self._followers[task_id] = left
            else:
                del self._followers[task_id]

    def stats(self) -> dict[str, int]:
        """Return how many ``clients`` there are and how many tasks are ``followed``."""
        return {"clients": len(self._readers), "followed": len(self._followers)}


def _is_here(result: object) -> bool:
    """Say whether a result is in memory; a large one is read from the disk."""
    return result is not None and type(result) is not LargeAnswer


def _outcome_of(over: FinishTask | TaskImage) -> PlainOutcome:
    if over.state is State.COMPLETED:
        answer = over.result
        assert isinstance(answer, Answer), "what completed has its answer"
        value = answer.reference if type(answer) is LargeAnswer else answer.value
        return over.task_id, "completed", value, {"output": answer.output} if answer.output else None
    return over.task_id, str(over.state), None, {"reason": over.reason, "error": over.error, "attempt": over.attempt}
