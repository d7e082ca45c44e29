"""What a submitted task will come to: futures, and the book of those that a client still waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

from balance.client.packing import name_result, not_completed, unpack
from balance.client.wire import Outcome, PlainOutcome
from balance.errors import BalanceError, InvalidValue, NotYet, UnknownId

T = TypeVar("T")


class TaskFuture(Generic[T]):
    """A task of which this program waits for the end.

    Given to another task as an argument, it stands for this task's result.

    Attributes
    ----------
    id : str
        The task's id.
    """

    __slots__ = ("_book", "_end", "id")

    def __init__(self, task_id: str, book: Book) -> None:
        self.id = task_id
        self._book = book
        self._end: PlainOutcome | BalanceError | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return name_result(self.id)

    def done(self) -> bool:
        """Say whether the end is known here."""
        return self._end is not None

    @property
    def state(self) -> str:
        """How the task ended (see `balance.core.scheduler.states`); ``pending`` before, ``unknown`` if lost."""
        end = self._end
        return "pending" if end is None else end[1] if isinstance(end, tuple) else "unknown"

    @property
    def output(self) -> str:
        """What a completed task printed."""
        detail = self._end[3] if isinstance(self._end, tuple) else None
        return str((detail or {}).get("output", ""))

    def result(self, timeout: float | None = None) -> T:
        """Return what the task returned, waiting for at most `timeout` seconds.

        Raises
        ------
        NotYet
            The task is not over by then (a `TimeoutError`).
        TaskFailed, TaskCancelled, TaskDenied, TaskTimedOut, UpstreamFailed
            It is over, without a result.
        UnknownId
            There is no such task.
        ClusterError
            The scheduler is gone; what was submitted is kept, see `Client.future`.
        """
        self._wait(timeout)
        return self._value()

    def exception(self, timeout: float | None = None) -> BalanceError | None:
        """Return what `result` would raise, None for a task that completed; `NotYet` if it is not over in time."""
        self._wait(timeout)
        return self._error()

    def _wait(self, timeout: float | None) -> None:
        if self._end is None:
            self._book.wait(self, timeout)

    def _value(self) -> T:
        end = self._end
        if isinstance(end, tuple):
            value: T = unpack(Outcome(*end))
            return value
        raise end if end is not None else NotYet(f"task {self.id!r} is not over")

    def _error(self) -> BalanceError | None:
        end = self._end
        if isinstance(end, tuple):
            return None if end[1] == "completed" else not_completed(Outcome(*end))
        return end


class AsyncTaskFuture(TaskFuture[T]):
    """As `TaskFuture`, for asyncio: ``await`` it for the result; `result` and `exception` do not wait."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, T]:
        while self._end is None:
            yield from self._book.pulse().__await__()
        return self._value()

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None:
            raise InvalidValue("timeout", timeout, "None: await the future, or asyncio.wait_for(future, timeout)")
        if self._end is None:
            raise NotYet(f"task {self.id!r} is not over; await it")


class Book:
    """The futures that are not over, by id.  Threads wait in it; a subclass lets coroutines wait.

    Examples
    --------
    >>> book = Book()
    >>> (future,) = book.open(["a"])
    >>> book.settle([("a", "cancelled", None, {"reason": "nobody wants it"})])
    >>> future.exception()
    TaskCancelled("task 'a' is cancelled: nobody wants it")
    """

    future: type[TaskFuture[Any]] = TaskFuture

    def __init__(self) -> None:
        self._open: dict[str, TaskFuture[Any]] = {}
        self._streams: list[deque[TaskFuture[Any]]] = []
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, ids: Iterable[str]) -> list[Any]:
        """Return a future for each id; one that is waited for already is the same future."""
        known, make = self._open, self.future
        idle = not known
        futures = [known.get(task_id) or known.setdefault(task_id, make(task_id, self)) for task_id in ids]
        if idle:
            self.wake()
        return futures

    def drop(self, ids: Iterable[str]) -> None:
        """Wait for these no longer: they were not submitted."""
        for task_id in ids:
            self._open.pop(task_id, None)

    def outstanding(self) -> list[str]:
        """Return the ids that are waited for."""
        return list(self._open)

    def settle(self, outcomes: Iterable[PlainOutcome]) -> None:
        """Take in how tasks ended; what nobody waits for is left out."""
        settled = []
        take = self._open.pop
        for outcome in outcomes:
            future = take(outcome[0], None)
            if future is not None:
                future._end = outcome if outcome[1] != "unknown" else UnknownId("task", outcome[0])
                settled.append(future)
        self._tell(settled)

    def give_up(self, error: BalanceError, ids: Iterable[str] | None = None) -> None:
        """Let futures that are waited for, all unless told which, raise `error`."""
        settled = []
        for task_id in self.outstanding() if ids is None else ids:
            future = self._open.pop(task_id, None)
            if future is not None:
                future._end = error
                settled.append(future)
        self._tell(settled)

    def _tell(self, settled: Sequence[TaskFuture[Any]]) -> None:
        for stream in self._streams:
            stream.extend(settled)
        if settled:
            self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, future: TaskFuture[Any], timeout_s: float | None) -> None:
        """Return when the future is done; `NotYet` after `timeout_s` seconds."""
        with self._changed:
            if not self._changed.wait_for(future.done, timeout_s):
                raise NotYet(f"task {future.id!r} is not over after {timeout_s:g} s", task_id=future.id)

    def wait_until_open(self, wanted: Callable[[], bool]) -> bool:
        """Return when some future is open, or ``wanted()`` is false after a `wake`; say which."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._open) or not wanted())
        return wanted()

    def stream(self) -> deque[TaskFuture[Any]]:
        """Return a queue to which every future that becomes done is appended, until `end_stream`."""
        stream: deque[TaskFuture[Any]] = deque()
        self._streams.append(stream)
        return stream

    def end_stream(self, stream: deque[TaskFuture[Any]]) -> None:
        """Append to this queue no longer."""
        self._streams = [other for other in self._streams if other is not stream]

    def wait_for(self, stream: deque[TaskFuture[Any]], deadline: float | None) -> None:
        """Return when there is something in `stream`; `NotYet` at `deadline` (a monotonic reading)."""
        with self._changed:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._changed.wait_for(lambda: bool(stream), left):
                raise NotYet("not all of these tasks are over within the time given")

    async def pulse(self) -> None:
        """Return when some future has become done; only where coroutines wait."""
        raise NotImplementedError("threads wait for themselves")


class AsyncBook(Book):
    """As `Book`, for one asyncio loop."""

    future = AsyncTaskFuture

    def __init__(self) -> None:
        super().__init__()
        self._next: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the coroutines that wait look again."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def pulse(self) -> None:
        """Return when some future has become done."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)
