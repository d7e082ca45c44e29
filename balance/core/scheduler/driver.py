"""Between the engine and the world: gives it the time, writes down what changed, carries out what it says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from balance.clock import Clock
from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import Event, StartRefused
from balance.core.scheduler.instructions import FinishTask, Instruction, StartChunk, StartTask, StopTask
from balance.core.scheduler.ports import Executor, Journal
from balance.core.scheduler.task import Task

Listener = Callable[[FinishTask], None]


class Driver:
    """Hands facts to an engine and carries out its instructions, after they are in the journal.

    Parameters
    ----------
    engine, clock, executor, journal
        As in `TaskScheduler`.
    """

    def __init__(self, engine: Engine, clock: Clock, executor: Executor, journal: Journal | None) -> None:
        self._engine = engine
        self._clock = clock
        # POSIX seconds that run as the monotonic clock does: comparable after a restart, and no step of
        # the wall clock makes a timeout fire early.
        self._epoch = clock.wall() - clock.now()
        self._executor = executor
        self._journal = journal
        self._unrecorded: dict[str, Task] = {}
        self._uncarried: deque[Instruction] = deque()
        self._listeners: list[Listener] = []

    def now(self) -> float:
        """Return POSIX seconds that never step."""
        return self._epoch + self._clock.now()

    def on_finish(self, listener: Listener) -> None:
        """Call ``listener(instruction)`` for every task that is over from now on."""
        self._listeners.append(listener)

    def decide(self, *events: Event, starts: int | None) -> int:
        """Let the engine decide, journal what changed, carry the rest out; return how many tasks started."""
        try:
            self._uncarried.extend(self._engine.handle(*events, now=self.now(), starts=starts))
        finally:
            if self._journal is not None:
                self._unrecorded |= self._engine.take_changes()
            else:
                self._engine.state.changed.clear()
        if self._journal is not None and self._unrecorded:
            # If this raises, nothing was started or acknowledged; the next call records it again.
            self._journal.record(list(self._unrecorded.values()))
            self._unrecorded = {}
        return self._carry_out()

    def _carry_out(self) -> int:
        started = 0
        refused: list[Event] = []
        # One by one from the left: a task or listener that calls the scheduler finds the rest in order.
        while self._uncarried:
            instruction = self._uncarried.popleft()
            if isinstance(instruction, StartTask):
                try:
                    self._executor.start(instruction, self._engine.task(instruction.task_id).call)
                    started += 1
                except Exception as error:  # noqa: BLE001 (whatever it is, this attempt did not start)
                    refused.append(StartRefused(instruction.task_id, instruction.attempt, f"{error!r}"))
            elif isinstance(instruction, StartChunk):
                try:
                    calls = [self._engine.task(task_id).call for task_id in instruction.task_ids]
                    self._executor.start_chunk(instruction, calls)
                    started += len(calls)
                except Exception as error:  # noqa: BLE001 (as above)
                    refused += [
                        StartRefused(task_id, attempt, f"{error!r}")
                        for task_id, attempt in zip(instruction.task_ids, instruction.attempts, strict=True)
                    ]
            elif isinstance(instruction, StopTask):
                self._executor.stop(instruction.task_id, instruction.attempt, instruction.reason)
            elif isinstance(instruction, FinishTask):
                for listener in self._listeners:
                    listener(instruction)
        if refused:
            self.decide(*refused, starts=0)
        return started
