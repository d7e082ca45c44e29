"""Running tasks in the caller's own thread: what a scheduler does in a plain process."""

from __future__ import annotations

import time
import traceback
from collections import deque

from balance.core.scheduler.events import Event, TaskFailed, TaskFinished, TaskReturned
from balance.core.scheduler.instructions import StartChunk, StartTask


class InlineExecutor:
    """Runs each task to its end while it is being started.

    Whatever the task raises, `SystemExit` too, becomes its outcome; `KeyboardInterrupt` is the user's and
    goes through, after the attempt was recorded as lost.  A task can't be stopped from outside: timeouts
    and cancellation take effect before and after it, not while it runs.

    Examples
    --------
    >>> from balance.core.scheduler.ports import Call
    >>> from balance.types import Resources
    >>> executor = InlineExecutor()
    >>> start = StartTask("t", 1, "n", (), Resources.demand(cpu=1))
    >>> executor.start(start, Call(divmod, (7, 2)))
    >>> [type(event).__name__ for event in executor.wait(0)]
    ['TaskFinished']
    >>> executor.start(start, Call(exit, (3,)))
    >>> executor.wait(0)[-1].error_type
    'SystemExit'
    """

    eager = False

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def start(self, instruction: StartTask, call: object) -> None:
        """Run `call` and keep what became of it for `wait`."""
        self._run(instruction.task_id, instruction.attempt, call)

    def _run(self, task_id: str, attempt: int, call: object) -> None:
        began = time.perf_counter()
        try:
            if not callable(call):
                raise TypeError(f"a task must be callable, not {type(call).__name__}")
            result = call()
        except KeyboardInterrupt:
            self._events.append(TaskFailed(task_id, attempt, "worker_lost", error="interrupted from the keyboard"))
            raise
        except MemoryError as error:
            self._events.append(_failure(task_id, attempt, "out_of_memory", error, began))
        except BaseException as error:  # noqa: BLE001 (a task that exits must not take the scheduler along)
            self._events.append(_failure(task_id, attempt, "error", error, began))
        else:
            self._events.append(TaskFinished(task_id, attempt, result, time.perf_counter() - began))

    def start_chunk(self, instruction: StartChunk, calls: list[object]) -> None:
        """Run `calls` one after another; those behind one that is interrupted are handed back."""
        members = list(zip(instruction.task_ids, instruction.attempts, strict=True))
        begun = 0
        try:
            for (task_id, attempt), call in zip(members, calls, strict=True):
                begun += 1
                self._run(task_id, attempt, call)
        finally:
            self._events.extend(TaskReturned(task_id, attempt) for task_id, attempt in members[begun:])

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        """Do nothing: when this is called, no task is running in this thread but perhaps the caller itself."""

    def wait(self, timeout_s: float | None) -> list[Event]:  # noqa: ARG002 (nothing can happen while it waits)
        """Return what has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events


def _failure(task_id: str, attempt: int, kind: str, error: BaseException, began: float) -> TaskFailed:
    return TaskFailed(
        task_id,
        attempt,
        "out_of_memory" if kind == "out_of_memory" else "error",
        error=str(error),
        error_type=type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
        run_s=time.perf_counter() - began,
    )
