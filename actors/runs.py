"""One run on an executor, as the pool keeps it: its members, and which of their ends have been told.

From left to right the members of a run are *told* (their end was reported), *over* or running, and *pending*.
A reply of the executor moves the borders; what lies between the old and the new ones becomes events.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from actors.chunk import Chunk, Note, Reply
from actors.crew import Executor
from balance.client.grant import Share
from balance.client.wire import Answer, Call, LargeAnswer
from balance.core.scheduler.events import Event, TaskFailed, TaskFinished, TaskReturned, TaskStopped
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.types import MILLI, Resources

OVERRUN_S = 0.05
"""How long a chunk, made to take a few milliseconds, may take before it hands back what has not begun."""


@dataclass(slots=True, eq=False)
class Run:
    """What an executor was asked to run.

    Attributes
    ----------
    number : int
        Of the run among the pool's.
    task_ids, attempts, calls
        The members, first to run first.
    alone : bool
        Whether this is a task by itself, of which the death of its executor is the fault; not a chunk.
    stopping : set of int
        The indices of the members that are to be stopped.
    told : int
        How many members' ends have been told.
    upto : int
        The members from here on have been handed back.
    begun : bool
        Whether its asyncio task has.
    over : bool
        Whether all has been told.
    grown : int or None
        The bytes of memory for which it is ended.
    large : dict
        The references of the results that did not fit into the reply, by index.
    functions : tuple of str
        The hashes of the functions that are called, each once.
    """

    number: int
    task_ids: tuple[str, ...]
    attempts: tuple[int, ...]
    calls: list[object]
    node_id: str
    devices: tuple[int, ...]
    demand: Resources
    reservation: str | None
    alone: bool
    executor: Executor | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    covered: bool = False
    stopping: set[int] = field(default_factory=set)
    told: int = 0
    upto: int = 0
    begun: bool = False
    over: bool = False
    grown: int | None = None
    large: dict[int, Any] = field(default_factory=dict)
    functions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.functions = tuple(dict.fromkeys(call.function for call in self.calls if isinstance(call, Call)))

    @classmethod
    def of_task(cls, number: int, start: StartTask, call: object) -> Run:
        """Return the run of a task by itself."""
        return cls(
            number,
            (start.task_id,),
            (start.attempt,),
            [call],
            start.node_id,
            start.devices,
            start.demand,
            start.reservation,
            alone=True,
            upto=1,
        )

    @classmethod
    def of_chunk(cls, number: int, start: StartChunk, calls: list[object]) -> Run:
        """Return the run of a chunk."""
        return cls(
            number,
            start.task_ids,
            start.attempts,
            calls,
            start.node_id,
            start.devices,
            start.demand,
            start.reservation,
            alone=False,
            upto=len(calls),
        )

    @property
    def name(self) -> str:
        """What Ray's dashboard shows."""
        call = self.calls[0]
        name = call.name if isinstance(call, Call) else "task"
        return f"task:{name}" if self.alone else f"tasks:{name} and {len(self.calls) - 1} more"

    def sendable(self) -> bool:
        """Say whether all that is to be called is there: what was submitted long ago may have been forgotten."""
        return all(isinstance(call, Call) for call in self.calls)

    def packed(self, blobs: dict[str, bytes]) -> bytes:
        """Return what is sent to the executor; `blobs` are the functions that it may not know."""
        calls: list[Call] = self.calls  # type: ignore[assignment]  # the pool has looked
        which: tuple[int, ...] = ()
        if len(self.functions) > 1:
            index = {digest: number for number, digest in enumerate(self.functions)}
            which = tuple(index[call.function] for call in calls)
        demand = self.demand
        share = Share(
            self.node_id, demand.cpu_milli / MILLI, demand.memory_bytes, demand.gpu_milli / MILLI, self.devices
        )
        return Chunk(
            self.number,
            self.task_ids,
            self.attempts,
            self.functions,
            which,
            [call.arguments for call in calls],
            blobs,
            share,
            None if self.alone else OVERRUN_S,
        ).packed()

    # -- what became of it -------------------------------------------------------------------------

    def take(self, reply: Reply, reason: str = "those before it took too long") -> list[Event]:
        """Return what a reply says that was not told yet; `reason` is why some did not begin."""
        events: list[Event] = []
        notes, first, over = reply.notes, self.told, len(reply.run_s)
        for index in range(first, over):
            task_id, attempt, run_s = self.task_ids[index], self.attempts[index], reply.run_s[index]
            note = notes.get(index)
            if note is None:
                answer = Answer(reply.values[index], run_s=run_s)
                events.append(TaskFinished(task_id, attempt, answer, run_s))
            else:
                reference = self.large.pop(index, None)
                events.append(_noted(task_id, attempt, reply.values[index], run_s, note, reference))
        self.told = max(first, over)
        events += self.hand_back(reply.begun, reason)
        return events

    def hand_back(self, begun: int, reason: str) -> list[Event]:
        """Return the events of the members that will not begin, of which `begun` is the first."""
        events = [self._stopped(index) or self.returned(index, reason) for index in range(begun, self.upto)]
        self.upto = min(self.upto, max(begun, self.told))
        return events

    def lost(self, kind: str, error: str, peak_memory_bytes: int | None = None) -> list[Event]:
        """Return the events of an executor's death: of one task it is the loss, a chunk's members are innocent."""
        left = range(self.told, self.upto)
        self.told = self.upto
        if len(left) > 1:
            reason = f"its executor died with {len(left)} tasks: {error}"
            return [self._stopped(index) or self.returned(index, reason, solo=True) for index in left]
        return [
            self._stopped(index)
            or TaskFailed(
                self.task_ids[index],
                self.attempts[index],
                kind="out_of_memory" if kind == "out_of_memory" else "worker_lost",
                error=error,
                peak_memory_bytes=peak_memory_bytes,
            )
            for index in left
        ]

    def _stopped(self, index: int) -> Event | None:
        return TaskStopped(self.task_ids[index], self.attempts[index]) if index in self.stopping else None

    def returned(self, index: int, reason: str, *, solo: bool = False) -> Event:
        """Return the event of a member that did not begin."""
        return TaskReturned(self.task_ids[index], self.attempts[index], solo, reason)


def _noted(  # noqa: PLR0917 (what a member is and what became of it)
    task_id: str, attempt: int, value: bytes | None, run_s: float, note: Note, reference: Any
) -> Event:
    """Return the end of a member about which there is more to say than its value."""
    if not note.failure:
        answer = Answer(value, output=note.output, run_s=run_s)
        if note.large:
            answer = LargeAnswer(value, output=note.output, run_s=run_s, reference=reference)
        return TaskFinished(task_id, attempt, answer, run_s, note.peak_memory_bytes)
    return TaskFailed(
        task_id,
        attempt,
        kind="out_of_memory" if note.failure == "out_of_memory" else "error",
        error=note.error,
        error_type=note.error_type,
        traceback=note.traceback + (f"\nIt had printed:\n{note.output}" if note.output else ""),
        run_s=run_s,
        peak_memory_bytes=note.peak_memory_bytes,
    )
