"""The scheduler's executor port on Ray: runs are covered by leases, given to executors, and told about.

Instructions come in (`start`, `start_chunk`, `stop`), events go out (`deliver`, many at once).  What
is free is used at once; a run that has to wait for its lease or its executor does so as an asyncio task.
An executor that dies takes the task that ran by itself with it (`worker_lost`); a chunk's members
are handed back, to run by themselves, so that who killed it can be told from its neighbours.  A chunk that takes far
longer than it was made for is called back: who has not begun runs elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any

from ray.exceptions import OutOfMemoryError

from actors.chunk import Reply
from actors.crew import Crew
from actors.executors import RESULT_LIMIT_BYTES
from actors.leases import Leases
from actors.runs import Run
from actors.warmth import Warmth
from balance.client.wire import Call
from balance.core.scheduler.events import Event, StartRefused, TaskFailed, TaskStarted
from balance.core.scheduler.instructions import StartChunk, StartTask

STUCK_S = 0.25
"""After so many seconds a chunk, made to take a few milliseconds, is called back."""

SILENT_S = 5.0
"""An executor that does not answer a recall for so long (a task keeps its interpreter to itself) is ended."""

SLACK_BYTES = 32 * 2**20
SLACK_RATIO = 0.1
"""How far beyond its memory request a task may grow before it is ended: so many bytes and so much of the request."""

WARM_EVERY_S = 5.0
"""How often it is looked whether executors that are to be kept ready have died."""

SLICE = 64
"""How many ends are told at once: about a millisecond's work for the engine."""

log = logging.getLogger("balance.pool")


class Pool:
    """Runs on executors.

    Parameters
    ----------
    deliver : callable
        Takes the events of how runs went.
    functions : callable
        Returns the pickle of a function by its hash.
    leases : Leases
        What covers the runs.
    epoch : int
        Of the scheduler; see `Crew`.
    result_limit_bytes : int
        The most that a task may return.
    """

    #: Tasks start as soon as they can.
    eager = True

    def __init__(
        self,
        deliver: Callable[..., None],
        functions: Callable[[str], bytes],
        leases: Leases,
        *,
        epoch: int,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
    ) -> None:
        self._deliver = deliver
        self._functions = functions
        self._leases = leases
        self._numbers = itertools.count(1)
        self._under_way: set[Run] = set()
        self._runs: dict[str, Run] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self._crew = Crew(epoch=epoch, result_limit_bytes=result_limit_bytes)
        self.warmth = Warmth(self._crew)

    def join(self, node_id: str, cores: float, *, gpus: float = 0.0, warm: int = 0) -> None:
        """Learn of a node, and start `warm` executors there."""
        self._crew.join(node_id, cores, gpus=gpus, warm=warm)

    def start(self, instruction: StartTask, call: object) -> None:
        """Begin one attempt of a task; how it goes comes back as events."""
        self._begin(Run.of_task(next(self._numbers), instruction, call))

    def start_chunk(self, instruction: StartChunk, calls: list[object]) -> None:
        """Begin with a chunk; the end of each member comes back as an event, most of them together."""
        self._begin(Run.of_chunk(next(self._numbers), instruction, calls))

    def wait(self, timeout_s: float | None) -> list[Event]:
        """Return nothing: events come through `deliver`."""
        del timeout_s
        return []

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        """End one attempt: its executor is ended if it runs already, and another takes its place."""
        run = self._runs.get(task_id)
        if run is None or (index := run.task_ids.index(task_id)) not in range(run.told, run.upto):
            return
        if run.attempts[index] != attempt:
            return
        log.info("event=task_stopped task_id=%s attempt=%d reason=%s", task_id, attempt, reason)
        run.stopping.add(index)
        if run.executor is None:
            if run.task is not None and run.begun:
                run.task.cancel()  # one that has not begun would end without a word; it looks for itself
        elif run.alone:
            self._crew.discard(run.executor)
        else:
            self._beside_it(self._call_back(run, "a stop was asked for"))

    def lose(self, node_id: str) -> None:
        """Forget a node that is gone; its runs end as Ray reports their executors' death."""
        self._leases.lose(node_id)
        self._crew.lose(node_id)

    @staticmethod
    def end_leftovers() -> int:
        """End the executors of an earlier scheduler, which may still run attempts that nobody awaits."""
        return Crew.end_leftovers()

    async def keep_warm(self) -> None:
        """Make ready anew what has died of what is to be ready; to be called now and then."""
        self.warmth.look()

    async def tidy(self) -> None:
        """End executors that nobody has needed for long; to be called now and then."""
        self._crew.end_idle(asyncio.get_running_loop().time())

    def stats(self) -> dict[str, Any]:
        """Return `Crew.stats`, ``runs`` under way, and ``models``: `Warmth.stats`."""
        return {**self._crew.stats(), "runs": len(self._under_way), "models": self.warmth.stats()}

    # -- one run -----------------------------------------------------------------------------------

    def _begin(self, run: Run) -> None:
        """Send a run at once where lease and executor are there; let it wait otherwise."""
        self._under_way.add(run)
        self._runs.update(dict.fromkeys(run.task_ids, run))
        sent = None
        if run.sendable() and (
            run.reservation is not None or self._leases.cover_now(run.node_id, run.demand, run.devices)
        ):
            run.covered = run.reservation is None
            run.executor = self._crew.take_free(run.node_id, run.devices, run.functions)
            if run.executor is not None:
                sent = self._send(run)
        run.task = asyncio.get_running_loop().create_task(self._carry(run, sent))

    async def _carry(self, run: Run, sent: Any) -> None:
        """Carry a run through; its executor and its lease are free again before its end is told."""
        run.begun = True
        try:
            if sent is None:
                events = await self._wait_for_turn(run)
                sent = None if events else self._send(run)
            if sent is not None:
                events = await self._outcome(run, sent)
        except asyncio.CancelledError:
            events = run.hand_back(run.told, "it did not get its turn")
        except Exception as error:
            log.exception("event=run_failed task_id=%s", run.task_ids[0])
            events = run.lost("worker_lost", repr(error))
        self._end(run)
        # In slices, so that whoever asks for something urgent meanwhile is heard between two of them.
        for first in range(0, len(events), SLICE):
            if first:
                await asyncio.sleep(0)
            try:
                self._deliver(*events[first : first + SLICE])
            except Exception:
                log.exception("event=report_failed count=%d", len(events))  # the others are to be told all the same

    async def _wait_for_turn(self, run: Run) -> list[Event]:
        """Wait for lease and executor; return what is to be told if there is nothing to wait for."""
        if run.stopping:
            raise asyncio.CancelledError
        if not run.sendable():
            error = "the call was not kept; submit the task again"
            return [
                TaskFailed(task_id, attempt, error=error) if not isinstance(call, Call) else run.returned(index, error)
                for index, (task_id, attempt, call) in enumerate(
                    zip(run.task_ids, run.attempts, run.calls, strict=True)
                )
            ]
        refused = "" if run.node_id in self._crew else "its node is gone"
        if not refused and run.reservation is None and not run.covered:
            refused = await self._leases.cover(run.node_id, run.demand, run.devices)
            run.covered = not refused
        if refused:
            return [
                StartRefused(task_id, attempt, refused)
                for task_id, attempt in zip(run.task_ids, run.attempts, strict=True)
            ]
        run.executor = await self._crew.take(run.node_id, run.devices, run.functions)
        if run.alone:
            self._deliver(TaskStarted(run.task_ids[0], run.attempts[0]))
        return []

    def _send(self, run: Run, *, all_functions: bool = False) -> Any:
        """Send a run to its executor, with the functions that are new there; return the reference of the reply."""
        executor = run.executor
        assert executor is not None
        known = set() if all_functions else executor.knows
        blobs = {digest: self._functions(digest) for digest in run.functions if digest not in known}
        executor.knows.update(run.functions)
        if run.timer is None and not run.alone:
            run.timer = asyncio.get_running_loop().call_later(STUCK_S, self._stuck, run)
        sent = executor.handle.run.options(name=run.name).remote(run.packed(blobs))
        if run.demand.memory_bytes:
            self._beside_it(self._guard(run))
        return sent

    async def _outcome(self, run: Run, sent: Any) -> list[Event]:
        """Await the reply and return what it says, or what the end of the executor means."""
        executor = run.executor
        assert executor is not None
        try:
            reply = Reply.unpacked(await sent)
            if reply.missing:
                reply = Reply.unpacked(await self._send(run, all_functions=True))
            await self._fetch_large(run, reply)
        except Exception as error:
            self._crew.discard(executor)
            if run.grown is not None:
                grown = f"it took {run.grown} bytes of memory, and had asked for {run.demand.memory_bytes}"
                return run.lost("out_of_memory", grown, run.grown)
            kind = "out_of_memory" if isinstance(error, OutOfMemoryError) else "worker_lost"
            return run.lost(kind, f"the executor died: {error}")
        return run.take(reply)

    def _end(self, run: Run) -> None:
        run.over = True
        self._under_way.discard(run)
        for task_id in run.task_ids:
            if self._runs.get(task_id) is run:
                del self._runs[task_id]
        if run.timer is not None:
            run.timer.cancel()
        if run.covered:
            self._leases.uncover(run.node_id, run.demand, run.devices)
        if run.executor is not None:
            self._crew.give_back(run.executor)

    async def _fetch_large(self, run: Run, reply: Reply) -> None:
        """Call for the results that were too large for the reply.

        What an actor's method returns belongs to who called it: so these are in Ray's object store as the
        scheduler's, and stay there for clients when the executor is gone.
        """
        for index, note in reply.notes.items():
            if note.large and index >= run.told:
                assert run.executor is not None
                if index not in run.large:  # a recall and the reply may both want it, and it is given away once
                    run.large[index] = run.executor.handle.large.remote(run.number, index)
                reply.values[index] = await run.large[index]

    # -- beside a run ------------------------------------------------------------------------------

    def _beside_it(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _stuck(self, run: Run) -> None:
        """Call back a chunk that takes too long, as soon as its executor has begun to live."""
        if run.executor is not None and run.executor.lived:
            self._beside_it(self._call_back(run, "a task before it takes long"))
        else:
            run.timer = asyncio.get_running_loop().call_later(STUCK_S, self._stuck, run)

    async def _call_back(self, run: Run, reason: str) -> None:
        """Take back the members of a chunk that have not begun; end the one that runs if it is to be stopped."""
        executor = run.executor
        assert executor is not None
        events: list[Event] = []
        try:
            packed = await asyncio.wait_for(executor.handle.recall.remote(run.number), SILENT_S)
            if packed is None:
                return  # its reply is on its way
            reply = Reply.unpacked(packed)
            await self._fetch_large(run, reply)
            events = [] if run.over else run.take(reply, reason)
        except TimeoutError:
            log.warning("event=executor_silent name=%s", executor.name)
            self._crew.discard(executor)
        except Exception as error:
            log.info("event=recall_failed name=%s error=%r", executor.name, error)  # its death is told by the run
        if not run.over and any(index in run.stopping for index in range(run.told, run.upto)):
            self._crew.discard(executor)
        if events:
            self._deliver(*events)

    async def _guard(self, run: Run) -> None:
        """End an executor whose task grows beyond the memory that it asked for."""
        executor, request = run.executor, run.demand.memory_bytes
        assert executor is not None
        limit = request + max(SLACK_BYTES, int(request * SLACK_RATIO))
        with contextlib.suppress(Exception):
            run.grown = await executor.handle.guard.remote(run.number, limit)
        if run.grown is not None and not run.over:
            self._crew.discard(executor)
