"""Executors of a simulated cluster: a task's call is its run time, and running it takes that long on the clock.

It is an `Executor` as `balance.core.scheduler.ports` asks for, so both the simulation's loop and a whole
`TaskScheduler` with a `FakeClock` can drive it.  Chunks run as on real executors: one member after
another, and what has not begun can be handed back.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from balance.clock import FakeClock
from balance.core.scheduler.events import Event, TaskFinished, TaskReturned, TaskStopped
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.errors import InvalidValue
from balance.simulation.records import Outcome, Records
from balance.types import check_number


@dataclass(slots=True)
class _Running:
    attempt: int
    node_id: str
    record: int
    run_s: float
    rest: deque[tuple[str, int, float]] | None = None  # what of its chunk has yet to begin


class Workers:
    """Runs tasks on a simulated clock.

    Parameters
    ----------
    clock : FakeClock
        The simulated time.  `wait` moves it; the simulation's loop moves it itself.
    records : Records, optional
        Where attempts are written down; it has to know the tasks already.

    Examples
    --------
    >>> from balance.types import Resources
    >>> clock = FakeClock()
    >>> workers = Workers(clock)
    >>> workers.start(StartTask("t", 1, "n0", (), Resources.demand(cpu=1)), 2.5)
    >>> workers.wait(None), clock.now()
    ([TaskFinished(task_id='t', attempt=1, result=None, run_s=2.5, peak_memory_bytes=None)], 2.5)
    """

    eager = True

    def __init__(self, clock: FakeClock, records: Records | None = None) -> None:
        self._clock = clock
        self._records = records
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, deque[tuple[str, int, float]]] = {}
        self._nodes: dict[str, dict[str, None]] = {}
        self._ends: list[tuple[float, int, str, int]] = []
        self._said: list[Event] = []
        self._ticks = 0

    # ------------------------------------------------------------------ the port

    def start(self, instruction: StartTask, call: object) -> None:
        """Begin with an attempt that takes `call` seconds."""
        self._begin(instruction.task_id, instruction.attempt, instruction.node_id, _seconds(call), None)

    def start_chunk(self, instruction: StartChunk, calls: list[object]) -> None:
        """Begin with the first of a chunk whose members take `calls` seconds."""
        lengths = [_seconds(call) for call in calls]
        rest = deque(zip(instruction.task_ids, instruction.attempts, lengths, strict=True))
        for task_id, _, _ in rest:
            self._waiting[task_id] = rest
        self._next_of(rest, instruction.node_id)

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        """End an attempt at once, or hand it back if it has not begun."""
        rest = self._waiting.get(task_id)
        if rest is not None:
            member = next(each for each in rest if each[0] == task_id)
            if member[1] == attempt:
                rest.remove(member)
                del self._waiting[task_id]
                self._said.append(TaskReturned(task_id, attempt, reason=reason))
            return
        run = self._running.get(task_id)
        if run is not None and run.attempt == attempt:
            self._over(task_id, run, Outcome.STOPPED)
            self._said.append(TaskStopped(task_id, attempt))

    def wait(self, timeout_s: float | None) -> list[Event]:
        """Move the clock to the next end (by `timeout_s` seconds at most) and return what has happened."""
        now = self._clock.now()
        until = self.next_at()
        if timeout_s is not None and until > now + timeout_s:
            until = now + timeout_s
        if until != float("inf"):
            self._clock.advance_to(until)
        return self.ended()

    # ------------------------------------------------------------------ for the loop

    def next_at(self) -> float:
        """Return when something ends next, on the clock; infinity if nothing runs."""
        if self._said:
            return self._clock.now()
        ends = self._ends
        while ends and not self._holds(ends[0]):
            heapq.heappop(ends)
        return ends[0][0] if ends else float("inf")

    def ended(self) -> list[Event]:
        """Return what has ended up to now, in the order in which it did."""
        now, ends = self._clock.now(), self._ends
        out, self._said = self._said, []
        while ends and ends[0][0] <= now:
            entry = heapq.heappop(ends)
            if self._holds(entry):
                task_id = entry[2]
                run = self._running[task_id]
                self._over(task_id, run, Outcome.FINISHED)
                out.append(TaskFinished(task_id, run.attempt, None, run.run_s))
        return out

    def lose(self, node_id: str) -> int:
        """Lose a node with all that is there, without a word; return how many attempts were running."""
        running = self._nodes.pop(node_id, {})
        for task_id in running:
            run = self._running.pop(task_id)
            for name, _, _ in run.rest or ():
                del self._waiting[name]
            if self._records is not None:
                self._records.end(run.record, Outcome.LOST, self._clock.now())
        return len(running)

    # ------------------------------------------------------------------ inside

    def _begin(
        self, task_id: str, attempt: int, node_id: str, run_s: float, rest: deque[tuple[str, int, float]] | None
    ) -> None:
        now = self._clock.now()
        record = self._records.begin(task_id, node_id, now) if self._records is not None else -1
        self._running[task_id] = _Running(attempt, node_id, record, run_s, rest)
        self._nodes.setdefault(node_id, {})[task_id] = None
        self._ticks += 1
        heapq.heappush(self._ends, (now + run_s, self._ticks, task_id, attempt))

    def _over(self, task_id: str, run: _Running, outcome: Outcome) -> None:
        del self._running[task_id]
        del self._nodes[run.node_id][task_id]
        if self._records is not None:
            self._records.end(run.record, outcome, self._clock.now())
        if run.rest:
            self._next_of(run.rest, run.node_id)

    def _next_of(self, rest: deque[tuple[str, int, float]], node_id: str) -> None:
        task_id, attempt, run_s = rest.popleft()
        del self._waiting[task_id]
        self._begin(task_id, attempt, node_id, run_s, rest)

    def _holds(self, entry: tuple[float, int, str, int]) -> bool:
        run = self._running.get(entry[2])
        return run is not None and run.attempt == entry[3]


def _seconds(call: object) -> float:
    if not isinstance(call, (int, float)):
        raise InvalidValue("call", call, "a run time in seconds: what a simulated task does")
    return check_number("call", call, minimum=0, what="number of seconds")
