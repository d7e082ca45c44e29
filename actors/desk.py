"""Where clients bring their tasks and fetch what became of them.

A bulk of tasks is checked as a whole, enters the engine in slices short enough that nobody else waits for
it, and is acknowledged once it is durable.  Outcomes are told to each client through a bounded `Ring`, many
in one answer; a client that comes from elsewhere, or to a scheduler that was restarted, says which tasks it
follows and is told at once of those that are over.

It runs in the scheduler's event loop, but knows no Ray: the engine, the journal and the functions are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

from actors.bulks import bulk_specs, needs_one_slice
from actors.function_store import FunctionStore
from actors.ring import Ring
from balance.client.wire import Answer, Bulk, Call, Outcome
from balance.clock import Clock
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import TaskCancelRequested
from balance.core.scheduler.instructions import FinishTask
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.status import TaskStatus
from balance.core.scheduler.task import Task, TaskImage
from balance.errors import Conflict, InvalidValue, NotReady, UnknownId
from balance.types import check_id, check_int

SLICE = 200
"""How many tasks enter the engine at once: a few milliseconds' work."""

LOOKED_AT = 4000
"""How many tasks a list is made of before others have their turn."""

_RANKS = {State.RUNNING: 0, State.QUEUED: 1, State.RETRYING: 2, State.DELAYED: 3, State.WAITING: 4}
_RANKS |= {state: 5 for state in State if state.terminal}

COLLECT_MAX_S = 60.0
"""The longest that a client may wait in one call."""

ABSENT_S = 900.0
"""After how many seconds without a call what waits for a client is given up; it can ask for it by id."""


class Archive(Protocol):
    """The journal, as far as the desk reads it."""

    def calls_of(self, ids: Sequence[str]) -> dict[str, tuple[str | None, bytes | None]]:
        """Return, for those of these tasks that are on disk, the hash of the function and the pickled arguments."""
        ...

    def find_all(self, ids: Sequence[str]) -> list[TaskImage]:
        """Return those of these tasks that are on disk; those that are completed with their results."""
        ...

    async def durable(self) -> None:
        """Return when everything recorded so far is on disk."""
        ...


@dataclass(slots=True)
class _Reader:
    ring: Ring
    seen_at: float


@dataclass(slots=True)
class _Sifted:
    """Which tasks of a submission are new, and those that were known before."""

    new: list[tuple[TaskSpec, Call]]
    known: list[str]


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
        self._readers: dict[str, _Reader] = {}
        self._followers: dict[str, tuple[Ring, ...]] = {}
        self._waiting: dict[str, asyncio.Event] = {}
        self._entering: set[str] = set()
        self._settled = asyncio.Condition()
        self._closed = False

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
        sifted = await self._admit(specs, bulk.calls(), ring, fresh=bulk.epoch == self._epoch)
        return {
            "status": "accepted",
            "accepted": len(sifted.new),
            "known": len(sifted.known),
            "epoch": self._epoch,
        }

    async def submit(self, spec: TaskSpec, call: Call) -> bool:
        """Queue one task, durably; say whether it is new.  Raises as `submit_bulk` does."""
        return bool((await self._admit([spec], [call], None)).new)

    async def _admit(
        self, specs: Sequence[TaskSpec], calls: Sequence[Call], ring: Ring | None, *, fresh: bool = False
    ) -> _Sifted:
        if self._closed:
            raise NotReady("the scheduler drains: it finishes what it has and takes no new tasks")
        ids = [spec.task_id for spec in specs]
        unique = set(ids)
        if len(unique) != len(ids):
            twice = next(task_id for task_id, number in Counter(ids).items() if number > 1)
            raise Conflict(f"task {twice!r} is submitted twice at once", task_id=twice)
        async with self._settled:
            await self._settled.wait_for(lambda: self._entering.isdisjoint(unique))
        self._entering |= unique
        try:
            sifted = await self._sift(specs, calls, fresh)
            await self._recall_prerequisites(sifted.new)
            await self._enter(sifted.new, ring)
            await self._archive.durable()
        finally:
            self._entering -= unique
            async with self._settled:
                self._settled.notify_all()
        if ring is not None and sifted.known:
            ring.add(await self._over(sifted.known, ring))
        return sifted

    async def _sift(self, specs: Sequence[TaskSpec], calls: Sequence[Call], fresh: bool) -> _Sifted:
        """Tell new tasks from known ones, without a word to the disk where ids are certainly new."""
        tasks = self._scheduler.engine.state.tasks
        live = {spec.task_id for spec in specs if spec.task_id in tasks and tasks[spec.task_id].call is not None}
        stored: dict[str, tuple[str | None, bytes | None]] = {}
        if not fresh:
            await self._archive.durable()  # what is on its way there counts
            absent = [spec.task_id for spec in specs if spec.task_id not in live]
            stored = await asyncio.to_thread(self._archive.calls_of, absent) if absent else {}
        if not live and not stored:
            return _Sifted(list(zip(specs, calls, strict=True)), [])
        sifted = _Sifted([], [])
        for spec, call in zip(specs, calls, strict=True):
            known = tasks[spec.task_id].call if spec.task_id in live else stored.get(spec.task_id)
            if known is None:
                sifted.new.append((spec, call))
            elif isinstance(known, tuple) and known[:2] == call[:2]:
                sifted.known.append(spec.task_id)
            else:
                raise Conflict(
                    f"task {spec.task_id!r} exists already and runs another call; an id stands for one function with "
                    "the same arguments",
                    task_id=spec.task_id,
                )
        return sifted

    async def _find(self, ids: Sequence[str]) -> list[TaskImage]:
        """Read tasks from the disk, beside the event loop; what is still on its way there is waited for."""
        await self._archive.durable()
        return await asyncio.to_thread(self._archive.find_all, ids)

    async def _recall_prerequisites(self, new: Sequence[tuple[TaskSpec, Call]]) -> None:
        """Let the engine know finished tasks again that it has forgotten and that new ones wait for."""
        engine = self._scheduler.engine
        asked = dict.fromkeys(name for spec, _ in new for name in spec.dependencies)
        coming = {spec.task_id for spec, _ in new} if asked else set()
        wanted = [name for name in asked if name not in coming and name not in engine.state.tasks]
        if not wanted:
            return
        found = await self._find(wanted)
        engine.adopt([image for image in found if image.task_id not in engine.state.tasks], now=self._scheduler.now())
        engine.take_changes()  # they are in the journal
        for name in wanted:
            if name not in engine.state.tasks:
                raise UnknownId("task", name, engine.state.some_ids())

    async def _enter(self, new: Sequence[tuple[TaskSpec, Call]], ring: Ring | None) -> None:
        """Submit slice by slice, each follower before its task: an outcome can't slip by."""
        size = max(1, len(new)) if needs_one_slice(new) else SLICE
        for start in range(0, len(new), size):
            if start:
                await asyncio.sleep(0)
            part = new[start : start + size]
            ids = [spec.task_id for spec, _ in part]
            if ring is not None:
                self._followers.update(dict.fromkeys(ids, (ring,)))
            try:
                self._scheduler.submit_many(part)
            except BaseException:
                for task_id in ids:
                    self._followers.pop(task_id, None)
                raise
            self._entered()

    async def close(self) -> None:
        """Take no tasks any more; return when those under way are in."""
        self._closed = True
        async with self._settled:
            await self._settled.wait_for(lambda: not self._entering)

    # -- outcomes out ------------------------------------------------------------------------------

    def tell(self, ended: Iterable[FinishTask]) -> None:
        """Take in what is over, and on disk, for those who follow it."""
        told: dict[Ring, list[Outcome]] = {}
        for finish in ended:
            task_id = finish.task_id
            if self._waiting and (event := self._waiting.pop(task_id, None)) is not None:
                event.set()
            for ring in self._followers.pop(task_id, ()):
                if ring not in told:
                    told[ring] = []
                told[ring].append(_outcome_of(finish))
        for ring, outcomes in told.items():
            ring.add(outcomes)

    async def collect(self, client_id: str, after: int, wait_s: float, limit: int) -> dict[str, Any]:
        """Return the outcomes after number `after`, waiting for the first for at most `wait_s` seconds.

        Returns
        -------
        dict
            ``status``: ``ok``, or ``lost`` where outcomes after `after` are not here (the scheduler was
            restarted, or the client did not fetch them in time): `follow` again what is outstanding;
            ``last``: what to ask for next; ``outcomes``: a list of `Outcome`; ``epoch`` of the scheduler.
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

    async def _over(self, ids: Sequence[str], ring: Ring) -> list[Outcome]:
        """Return the outcomes of those that are over, or no tasks at all; those of the others go to `ring` later."""
        tasks = self._scheduler.engine.state.tasks
        ask_for = [task_id for task_id in ids if task_id not in tasks or tasks[task_id].state.terminal]
        found = {image.task_id: image for image in await self._find(ask_for)} if ask_for else {}
        outcomes = []
        for task_id in ids:
            task, image = tasks.get(task_id), found.get(task_id)
            if image is not None and image.state.terminal:
                outcomes.append(_outcome_of(image))
            elif task is not None and not task.state.terminal:
                self._follow(task_id, ring)
            elif task is not None:
                outcomes += map(_outcome_of, await self._find([task_id]))  # it ended while the disk was read
            else:
                outcomes.append(Outcome(task_id, "unknown"))
        return outcomes

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
        if task is not None and (task.state is not State.COMPLETED or task.result is not None):
            return engine.image(task_id)
        found = await self._find([task_id])
        if not found:
            raise UnknownId("task", task_id, engine.state.some_ids())
        return found[0]

    async def results(self, ids: Sequence[str]) -> list[Outcome]:
        """Return how tasks that are over ended, in the order of `ids`; for a task whose arguments they are."""
        found = {image.task_id: image for image in await self._find(ids)}
        return [_outcome_of(found[name]) if name in found else Outcome(name, "unknown") for name in ids]

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
        return self._status_of(await self.find(task_id))

    def _status_of(self, task: Task | TaskImage) -> TaskStatus:
        return TaskStatus.of(task, self._scheduler.now(), self._scheduler.engine.state.policy.aging_step_s)

    async def tasks(self, state: str | None, tenant: str | None, name: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the tasks in memory that match, at most `limit`: what runs, what waits in order, what is over.

        Returns
        -------
        list of dict
            The keys of `TaskStatus`.

        Raises
        ------
        InvalidValue
            There is no such state, or `limit` is below 1.

        Notes
        -----
        O(tasks in memory), with a pause for others after every few thousand.
        """
        if state is not None and state not in set(State):
            raise InvalidValue("state", state, "one of " + ", ".join(State))
        check_int("limit", limit, minimum=1)
        step_s = self._scheduler.engine.state.policy.aging_step_s
        first: list[tuple[tuple[float, ...], Task]] = []
        everything = list(self._scheduler.engine.state.tasks.values())
        for start in range(0, len(everything), LOOKED_AT):
            found = (
                (_place(task, step_s), task)
                for task in everything[start : start + LOOKED_AT]
                if (state is None or task.state == state)
                and (tenant is None or task.spec.tenant == tenant)
                and (name is None or task.spec.name == name)
            )
            first = heapq.nsmallest(limit, [*first, *found], key=itemgetter(0))
            await asyncio.sleep(0)
        return [self._status_of(task).to_dict() for _, task in first]

    # -- inside ------------------------------------------------------------------------------------

    def _reader(self, client_id: str) -> _Reader:
        now = self._clock.now()
        reader = self._readers.get(client_id)
        if reader is None:
            reader = self._readers[check_id("client_id", client_id)] = _Reader(Ring(), now)
        reader.seen_at = now
        return reader

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


def _place(task: Task, step_s: float) -> tuple[float, ...]:
    """Return where a task stands in the list: by the rank of its state, then as people look for it."""
    rank = _RANKS[task.state]
    if task.state is State.QUEUED:
        return rank, (task.eligible_at or 0.0) + task.priority * step_s, task.seq
    return rank, -(task.finished_at or 0.0) or task.due_at or task.started_at or 0.0, task.seq


def _outcome_of(over: FinishTask | TaskImage) -> Outcome:
    if over.state is State.COMPLETED:
        answer = over.result
        assert isinstance(answer, Answer), "what completed has its answer"
        return Outcome(over.task_id, "completed", answer.value, {"output": answer.output} if answer.output else None)
    detail = {"reason": over.reason, "error": over.error, "attempt": over.attempt}
    return Outcome(over.task_id, str(over.state), None, detail)
