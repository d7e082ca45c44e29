"""The client for asyncio: as `Client`, with every wait awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar, Unpack

from balance.client.client import PATIENCE_S, PAUSE_S, ReturnWhen, ids_of, unheard
from balance.client.futures import AsyncBook, AsyncTaskFuture, TaskFuture
from balance.client.options import OptionChanges, TaskOptions
from balance.client.session import Call, Session
from balance.client.submitter import whole_call
from balance.client.wire import Bulk, Function
from balance.core.scheduler.spec import DEFAULT_TENANT
from balance.errors import BalanceError, ClusterError, InvalidValue, NotReady, NotYet, UnknownId
from balance.types import check_id

T = TypeVar("T")


class AsyncWay(Protocol):
    """How a client reaches the scheduler; `balance.client.link.Link` is the one through Ray."""

    epoch: int

    async def acall(self, method: str, *arguments: Any) -> Any:
        """Call a method of the scheduler and await its answer."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class AsyncSubmitter:
    """As `balance.client.submitter.Submitter`; the submissions are awaited, and so are the futures.

    Parameters
    ----------
    client : AsyncClient
        Who sends them.
    options : TaskOptions
        How they are to be run.
    """

    def __init__(self, client: AsyncClient, options: TaskOptions) -> None:
        self._client = client
        self._options = options

    def options(self, **changes: Unpack[OptionChanges]) -> AsyncSubmitter:
        """As `Submitter.options`."""
        return AsyncSubmitter(self._client, self._options.changed(**changes))

    async def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> AsyncTaskFuture[T]:
        """As `Submitter.submit`."""
        future: AsyncTaskFuture[T] = (await self._client._send([(function, args, kwargs)], self._options))[0]
        return future

    async def submit_many(
        self,
        calls: Iterable[Sequence[Any]],
        *,
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> list[AsyncTaskFuture[Any]]:
        """As `Submitter.submit_many`."""
        return await self._client._send([whole_call(call) for call in calls], self._options, ids, priorities)

    async def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> list[AsyncTaskFuture[T]]:
        """As `Submitter.map`."""
        calls: list[Call] = [(function, args, {}) for args in zip(*iterables, strict=False)]
        return await self._client._send(calls, self._options, ids, priorities)


class AsyncClient(AsyncSubmitter):
    """Runs functions on the cluster, for programs on asyncio.

    Parameters
    ----------
    address, namespace, tenant
        As in `Client`.
    link : AsyncWay, optional
        Another way to the scheduler; then `address` and `namespace` are not used.

    Raises
    ------
    ClusterError
        No Ray answers there, or no Balance runs on it.

    Notes
    -----
    One client belongs to one event loop.  Building it connects, which takes up to a second; the rest awaits.

    Examples
    --------
    ::

        async with AsyncClient() as client:
            future = await client.submit(pow, 2, 10)
            print(await future)
    """

    def __init__(
        self,
        address: str = "auto",
        *,
        namespace: str = "balance",
        tenant: str = DEFAULT_TENANT,
        link: AsyncWay | None = None,
    ) -> None:
        super().__init__(self, TaskOptions(tenant=check_id("tenant", tenant)))
        if link is None:
            from balance.client.link import Link  # noqa: PLC0415 (imports Ray)

            link = Link(address, namespace)
        self._link: AsyncWay = link
        self._book = AsyncBook()
        self._session = Session(self._book, link.epoch)
        self._closed = False
        self._collector: asyncio.Task[None] | None = None

    # -- tasks and what becomes of them ------------------------------------------------------------

    async def gather(
        self, futures: Iterable[AsyncTaskFuture[T]], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[T | BalanceError] | list[T]:
        """As `Client.gather`."""
        results: list[T | BalanceError] = []
        async with _limit(timeout):
            for future in futures:
                await self._done(future)
                error = future.exception() if return_exceptions else None
                results.append(error if error is not None else future.result())
        return results

    async def wait(
        self,
        futures: Iterable[AsyncTaskFuture[Any]],
        timeout: float | None = None,
        return_when: ReturnWhen = "ALL_COMPLETED",
    ) -> tuple[list[AsyncTaskFuture[Any]], list[AsyncTaskFuture[Any]]]:
        """As `Client.wait`."""
        if return_when not in ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"):
            raise InvalidValue("return_when", return_when, "ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION")
        given = list(futures)
        with contextlib.suppress(NotYet):
            async with contextlib.aclosing(self.stream(given, timeout)) as ended:
                async for future in ended:
                    if return_when == "FIRST_COMPLETED" or (return_when == "FIRST_EXCEPTION" and future.exception()):
                        break
        return [each for each in given if each.done()], [each for each in given if not each.done()]

    async def stream(
        self, futures: Iterable[AsyncTaskFuture[T]], timeout: float | None = None
    ) -> AsyncGenerator[AsyncTaskFuture[T], None]:
        """As `Client.stream`."""
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        ended = self._book.stream()
        try:
            pending = {future.id: future for future in futures}
            for future in [each for each in pending.values() if each.done()]:
                del pending[future.id]
                yield future
            while pending:
                while not ended:
                    left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
                    async with _limit(left):
                        await self._book.pulse()
                mine = pending.pop(ended.popleft().id, None)
                if mine is not None:
                    yield mine
        finally:
            self._book.end_stream(ended)

    async def future(self, task_id: str) -> AsyncTaskFuture[Any]:
        """As `Client.future`."""
        future: AsyncTaskFuture[Any] = self._book.open([check_id("task_id", task_id)])[0]
        method, arguments = "follow", (self._session.client_id, [task_id])
        self._session.took(method, arguments, await self._ask(method, *arguments))
        if isinstance(error := future.exception() if future.done() else None, UnknownId):
            raise error
        self._go_on()
        return future

    async def cancel(self, tasks: TaskFuture[Any] | str | Iterable[TaskFuture[Any] | str]) -> list[bool]:
        """As `Client.cancel`."""
        answer: list[bool] = await self._ask("cancel_many", ids_of(tasks))
        return answer

    async def status(self, task: TaskFuture[Any] | str) -> dict[str, Any]:
        """As `Client.status`."""
        answer: dict[str, Any] = await self._ask("status", ids_of(task)[0])
        return answer

    async def explain(self, task: TaskFuture[Any] | str) -> dict[str, Any]:
        """As `Client.explain`."""
        answer: dict[str, Any] = await self._ask("explain", ids_of(task)[0])
        return answer

    async def tasks(
        self, *, state: str | None = None, tenant: str | None = None, name: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """As `Client.tasks`."""
        answer: list[dict[str, Any]] = await self._ask("tasks", state, tenant, name, limit)
        return answer

    # -- the connection ----------------------------------------------------------------------------

    async def close(self) -> None:
        """As `Client.close`."""
        if self._closed:
            return
        self._closed = True
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
        with contextlib.suppress(BalanceError, TimeoutError):
            await asyncio.wait_for(self._link.acall("leave", self._session.client_id), 2.0)
        self._session.gone(NotReady("the client is closed; AsyncClient.future(task_id) of another one goes on waiting"))
        self._link.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(
        self,
        calls: Sequence[Call],
        options: TaskOptions,
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> list[Any]:
        if not calls:
            return []
        bulk, functions = self._session.bulk(calls, options, ids, priorities)
        futures, new = self._session.opened(bulk)
        try:
            self._go_on()
            reply = await self._submit(bulk, functions)
        except BaseException:
            self._session.refused(new)
            raise
        self._session.acknowledged(bulk, new, reply["epoch"])
        return futures

    async def _submit(self, bulk: Bulk, functions: dict[str, Function]) -> dict[str, Any]:
        reply: dict[str, Any] = await self._ask("submit_bulk", self._session.client_id, bulk)
        if reply["status"] == "lacks_functions":
            bulk.functions.update({digest: functions[digest].blob for digest in reply["functions"]})
            reply = await self._ask("submit_bulk", self._session.client_id, bulk)
        return reply

    async def _ask(self, method: str, *arguments: Any) -> Any:
        """Call the scheduler; while it restarts, call it again: every call may be made twice."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            if self._closed:
                raise NotReady("the client is closed")
            try:
                return await self._link.acall(method, *arguments)
            except ClusterError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def _done(self, future: AsyncTaskFuture[Any]) -> None:
        while not future.done():
            await self._book.pulse()

    def _go_on(self) -> None:
        """Have outcomes fetched, if nobody does it now."""
        if self._closed:
            raise NotReady("the client is closed")
        if self._collector is None or self._collector.done():
            self._collector = asyncio.get_running_loop().create_task(self._collect())

    async def _collect(self) -> None:
        """Fetch outcomes until none are waited for."""
        clock = asyncio.get_running_loop().time
        heard = clock()
        while len(self._book):
            method, arguments = self._session.next_call()
            try:
                reply = await self._link.acall(method, *arguments)
            except BalanceError as error:
                if clock() - heard > PATIENCE_S:
                    self._session.gone(unheard(error))
                await asyncio.sleep(PAUSE_S)
                continue
            heard = clock()
            self._session.took(method, arguments, reply)


@contextlib.asynccontextmanager
async def _limit(timeout_s: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        if isinstance(error, BalanceError):
            raise
        raise NotYet("not all of these tasks are over within the time given") from None
