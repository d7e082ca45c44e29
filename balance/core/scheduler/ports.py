"""What the scheduler needs from outside: something that runs tasks, and something that remembers them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from balance.core.scheduler.events import Event
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.core.scheduler.task import Task, TaskImage


@dataclass(frozen=True, slots=True)
class Call:
    """A callable with its arguments: what a task does, in a process that can hold it.

    Examples
    --------
    >>> call = Call(max, (1, 2))
    >>> call.name, call()
    ('max', 2)
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The callable's own name, for tasks that are given none."""
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        return str(getattr(function, "__name__", type(function).__name__))[:200]

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)


class Executor(Protocol):
    """Runs what it is told to and reports what became of it, as events of the attempt.

    Attributes
    ----------
    eager : bool
        Whether tasks are to be started as soon as they can.  False for an executor that runs them in
        the caller's thread: then only `execute_next_task` and `run_scheduler` start any.
    """

    eager: bool

    def start(self, instruction: StartTask, call: object) -> None:
        """Begin with an attempt.  In a cluster this must not block; raising means that it was refused."""
        ...

    def start_chunk(self, instruction: StartChunk, calls: list[object]) -> None:
        """Begin with a chunk: `calls` one after another, each reported as `start` would report it.

        A member that did not get its turn is handed back with `TaskReturned`.
        """
        ...

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        """End an attempt; `TaskStopped` follows, or whatever became of it instead.  Must not block."""
        ...

    def wait(self, timeout_s: float | None) -> list[Event]:
        """Return what has happened, waiting up to `timeout_s` seconds for something to (None: no limit).

        An executor that reports through callbacks returns nothing, at once.
        """
        ...


class Journal(Protocol):
    """Remembers tasks for after a crash.

    The tasks of one call belong together: all of them are durable, or none.
    """

    def record(self, changes: Sequence[Task]) -> None:
        """Keep these tasks as they are now, each in place of what was kept of it before.

        They are the engine's own: what is needed of them is read before this returns, and nothing is
        changed.  Called before anything is acknowledged or started.  That a task runs is told only where
        it may not run twice; one that may is queued again after a crash, and the tasks of a call that
        are over are told once, as they ended.
        """
        ...

    def load(self) -> Iterable[TaskImage]:
        """Return the latest image of every task that was recorded."""
        ...
