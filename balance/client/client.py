"""The client for ordinary programs; `AsyncClient` is the one for asyncio."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

from balance.client.futures import Book, TaskFuture
from balance.client.options import TaskOptions
from balance.client.session import Call, Session
from balance.client.submitter import Submitter
from balance.client.wire import Bulk, Function
from balance.core.scheduler.spec import DEFAULT_TENANT
from balance.errors import BalanceError, ClusterError, InvalidValue, NotReady, NotYet, UnknownId
from balance.types import check_id

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long the scheduler may not answer before futures give up: it restarts in a second or two."""

PAUSE_S = 0.2
"""Between two attempts to reach it."""

GOODBYE_S = 2.0
"""How long a client that closes waits for the scheduler to hear of it."""

ReturnWhen = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]


class Way(Protocol):
    """How a client reaches the scheduler; `balance.client.link.Link` is the one through Ray."""

    epoch: int

    def call(self, method: str, *arguments: Any, wanted: Callable[[], bool] | None = None) -> Any:
        """Call a method of the scheduler and return its answer; None once ``wanted()`` is false."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Client(Submitter):
    """Runs functions on the cluster: submit them, and ask for their results.

    Tasks are durable once they are submitted: they survive this program and a restart of the scheduler.
    Ctrl-C, an exception or `close` leave them running; `cancel` ends them.

    Parameters
    ----------
    address : str
        Of a Ray cluster on which Balance runs; ``auto`` for the one on this machine.  A connection that Ray has
        already in this process is used as it is.
    namespace : str
        The Ray namespace of Balance's actors.
    tenant : str
        Whose fair share tasks run on, unless their options say so.
    link : Way, optional
        Another way to the scheduler; then `address` and `namespace` are not used.

    Raises
    ------
    ClusterError
        No Ray answers there, or no Balance runs on it.

    Examples
    --------
    ::

        with Client() as client:
            futures = client.map(pow, range(1000), range(1000))
            print(sum(client.gather(futures)))
    """

    def __init__(
        self,
        address: str = "auto",
        *,
        namespace: str = "balance",
        tenant: str = DEFAULT_TENANT,
        link: Way | None = None,
    ) -> None:
        super().__init__(self, TaskOptions(tenant=check_id("tenant", tenant)))
        if link is None:
            from balance.client.link import Link  # noqa: PLC0415 (imports Ray)

            link = Link(address, namespace)
        self._link: Way = link
        self._book = Book()
        self._session = Session(self._book, link.epoch)
        self._closed = threading.Event()
        self._collector = threading.Thread(target=self._collect, name="balance-client", daemon=True)
        self._collector.start()

    # -- tasks and what becomes of them ------------------------------------------------------------

    def gather(
        self, futures: Iterable[TaskFuture[T]], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[T | BalanceError] | list[T]:
        """Return the results of these tasks, in their order.

        Parameters
        ----------
        futures : iterable of TaskFuture
            From `submit`, `map` ...
        timeout : float, optional
            Seconds; for ever when left out.
        return_exceptions : bool
            Whether a task that did not complete stands in the list as its error.  Else the first such error is
            raised, and the other tasks go on.

        Raises
        ------
        NotYet
            They are not all over in time.
        TaskFailed, TaskCancelled, TaskDenied, TaskTimedOut, UpstreamFailed
            See `TaskFuture.result`.
        """
        deadline = _deadline(timeout)
        results: list[T | BalanceError] = []
        for future in futures:
            error = future.exception(_left(deadline)) if return_exceptions else None
            results.append(error if error is not None else future.result(_left(deadline)))
        return results

    def wait(
        self,
        futures: Iterable[TaskFuture[Any]],
        timeout: float | None = None,
        return_when: ReturnWhen = "ALL_COMPLETED",
    ) -> tuple[list[TaskFuture[Any]], list[TaskFuture[Any]]]:
        """Wait for tasks, and return those that are over and those that are not, each in the given order.

        Parameters
        ----------
        futures : iterable of TaskFuture
            Which.
        timeout : float, optional
            Seconds; what is over by then is returned.
        return_when : str
            ``ALL_COMPLETED``, ``FIRST_COMPLETED``, or ``FIRST_EXCEPTION``: when all are over, or one did not
            complete.
        """
        if return_when not in ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"):
            raise InvalidValue("return_when", return_when, "ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION")
        given = list(futures)
        with contextlib.suppress(NotYet):
            for future in self.stream(given, timeout):
                if return_when == "FIRST_COMPLETED" or (return_when == "FIRST_EXCEPTION" and future.exception()):
                    break
        return [each for each in given if each.done()], [each for each in given if not each.done()]

    def stream(self, futures: Iterable[TaskFuture[T]], timeout: float | None = None) -> Iterator[TaskFuture[T]]:
        """Yield these tasks as they end; `NotYet` if they are not all over within `timeout` seconds."""
        deadline = _deadline(timeout)
        ended = self._book.stream()
        try:
            pending = {future.id: future for future in futures}
            for future in [each for each in pending.values() if each.done()]:
                del pending[future.id]
                yield future
            while pending:
                self._book.wait_for(ended, deadline)
                mine = pending.pop(ended.popleft().id, None)
                if mine is not None:
                    yield mine
        finally:
            self._book.end_stream(ended)

    def future(self, task_id: str) -> TaskFuture[Any]:
        """Return the future of a task that was submitted elsewhere, or by an earlier run of this program.

        Raises
        ------
        UnknownId
            There is no such task.
        """
        future: TaskFuture[Any] = self._book.open([check_id("task_id", task_id)])[0]
        method, arguments = "follow", (self._session.client_id, [task_id])
        self._session.took(method, arguments, self._ask(method, *arguments))
        if isinstance(error := future.exception(0) if future.done() else None, UnknownId):
            raise error
        return future

    def cancel(self, tasks: TaskFuture[Any] | str | Iterable[TaskFuture[Any] | str]) -> list[bool]:
        """Cancel tasks, queued or running; say of each whether it was not over already.

        Raises
        ------
        UnknownId
            There is no such task; none is cancelled then.
        """
        answer: list[bool] = self._ask("cancel_many", ids_of(tasks))
        return answer

    def status(self, task: TaskFuture[Any] | str) -> dict[str, Any]:
        """Return how a task stands: the keys of `balance.core.scheduler.status.TaskStatus`.

        Raises
        ------
        UnknownId
            There is no such task.
        """
        answer: dict[str, Any] = self._ask("status", ids_of(task)[0])
        return answer

    def explain(self, task: TaskFuture[Any] | str) -> dict[str, Any]:
        """Return why a task does not run yet and when it may: the keys of `balance.core.scheduler.explain.Explanation`.

        Raises
        ------
        UnknownId
            There is no such task.
        """
        answer: dict[str, Any] = self._ask("explain", ids_of(task)[0])
        return answer

    def tasks(
        self, *, state: str | None = None, tenant: str | None = None, name: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return tasks that the scheduler has in memory, of one state, tenant or name if told so.

        Returns
        -------
        list of dict
            The keys of `balance.core.scheduler.status.TaskStatus`: running tasks first, then queued ones in the
            order in which they would run, then those that are over, latest first.
        """
        answer: list[dict[str, Any]] = self._ask("tasks", state, tenant, name, limit)
        return answer

    # -- the connection ----------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the scheduler; tasks go on, and futures that are not done raise `NotReady`.  Twice is fine."""
        if self._closed.is_set():
            return
        self._closed.set()
        until = time.monotonic() + GOODBYE_S
        with contextlib.suppress(BalanceError):
            self._link.call("leave", self._session.client_id, wanted=lambda: time.monotonic() < until)
        self._book.wake()
        self._collector.join(5.0)
        self._session.gone(NotReady("the client is closed; Client.future(task_id) of another one goes on waiting"))
        self._link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self,
        calls: Sequence[Call],
        options: TaskOptions,
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> list[TaskFuture[Any]]:
        if not calls:
            return []
        bulk, functions = self._session.bulk(calls, options, ids, priorities)
        futures, new = self._session.opened(bulk)
        try:
            reply = self._submit(bulk, functions)
        except BaseException:
            self._session.refused(new)
            raise
        self._session.acknowledged(bulk, new, reply["epoch"])
        return futures

    def _submit(self, bulk: Bulk, functions: dict[str, Function]) -> dict[str, Any]:
        reply: dict[str, Any] = self._ask("submit_bulk", self._session.client_id, bulk)
        if reply["status"] == "lacks_functions":
            bulk.functions.update({digest: functions[digest].blob for digest in reply["functions"]})
            reply = self._ask("submit_bulk", self._session.client_id, bulk)
        return reply

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Call the scheduler; while it restarts, call it again: every call may be made twice."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if self._closed.is_set():
                raise NotReady("the client is closed")
            try:
                return self._link.call(method, *arguments)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                self._closed.wait(PAUSE_S)

    def _collect(self) -> None:
        """Fetch outcomes for as long as some are waited for; the one thread in which futures end."""
        heard = time.monotonic()
        open_still = lambda: not self._closed.is_set()  # noqa: E731
        while self._book.wait_until_open(open_still):
            method, arguments = self._session.next_call()
            try:
                reply = self._link.call(method, *arguments, wanted=open_still)
            except BalanceError as error:
                if time.monotonic() - heard > PATIENCE_S:
                    self._session.gone(unheard(error))
                self._closed.wait(PAUSE_S)
                continue
            heard = time.monotonic()
            if reply is not None:
                self._session.took(method, arguments, reply)


def unheard(error: BalanceError) -> ClusterError:
    """Return what futures raise when the scheduler has not answered for too long."""
    return ClusterError(
        f"the scheduler has not answered for {PATIENCE_S:g} s ({error}); what was submitted is kept: once Balance runs "
        "again, Client.future(task_id) goes on waiting"
    )


def ids_of(tasks: TaskFuture[Any] | str | Iterable[TaskFuture[Any] | str]) -> list[str]:
    """Return the ids of one task or many, given as futures or ids.

    Examples
    --------
    >>> ids_of("a"), ids_of(["a", TaskFuture("b", Book())])
    (['a'], ['a', 'b'])
    """
    if isinstance(tasks, str | TaskFuture):
        tasks = [tasks]
    return [task.id if isinstance(task, TaskFuture) else check_id("task_id", task) for task in tasks]


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
