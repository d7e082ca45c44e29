"""What the client for asyncio promises, on a scheduler without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from balance.client import AsyncClient
from balance.errors import ClusterError, Conflict, InvalidValue, NotReady, NotYet, TaskCancelled, TaskFailed, UnknownId

SOON_S = 20.0


def run(office: Any, test: Callable[[AsyncClient], Awaitable[None]]) -> None:
    """Run a coroutine with a client."""

    async def main() -> None:
        async with AsyncClient(link=office) as client:
            await asyncio.wait_for(test(client), SOON_S)

    asyncio.run(main())


def test_results_come_in_the_order_of_the_arguments(office: Any) -> None:
    """`map` and `gather` are a list comprehension; a future can be awaited again and again."""

    async def test(client: AsyncClient) -> None:
        futures = await client.map(pow, range(300), range(300))
        assert await client.gather(futures) == [n**n for n in range(300)]
        assert await futures[3] == await futures[3] == 27 and futures[3].result() == 27
        many = await client.submit_many([(len, ["abc"]), (dict, (), {"a": 1})])
        assert await client.gather(many) == [3, {"a": 1}]
        assert await client.map(len, []) == []

    run(office, test)


def test_coroutines_wait_side_by_side(office: Any) -> None:
    """Hundreds of coroutines, each with its own task, take no longer than one."""

    async def test(client: AsyncClient) -> None:
        async def one(number: int) -> int:
            return await (await client.submit(abs, -number))

        assert await asyncio.gather(*map(one, range(200))) == list(range(200))

    run(office, test)


def test_failures_and_limits(office: Any) -> None:
    """Errors are raised where they are awaited; a limit raises `NotYet` and harms nothing."""

    async def test(client: AsyncClient) -> None:
        bad = await client.submit(int, "x")
        with pytest.raises(TaskFailed, match="invalid literal"):
            await bad
        (error,) = await client.gather([bad], return_exceptions=True)
        assert isinstance(error, TaskFailed)
        office.idle = True
        kept = await client.submit(int)
        for wait in (lambda: client.gather([kept], 0.02), lambda: anext(client.stream([kept], 0.02))):
            with pytest.raises(NotYet):
                await wait()
        with pytest.raises(NotYet):
            kept.result()
        with pytest.raises(InvalidValue):
            kept.result(1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(kept, 0.02)
        office.work()
        assert await kept == 0

    run(office, test)


def test_streaming_and_waiting(office: Any) -> None:
    """`stream` and `wait` are those of the other client."""

    async def test(client: AsyncClient) -> None:
        done = await client.submit(int)
        await done
        office.idle = True
        kept = await client.submit(int)
        assert await client.wait([done, kept], None, "FIRST_COMPLETED") == ([done], [kept])
        assert await client.wait([kept], 0.01) == ([], [kept])
        office.work()
        assert {future async for future in client.stream([kept, done])} == {kept, done}
        with pytest.raises(InvalidValue):
            await client.wait([], None, "SOMETIME")  # type: ignore[arg-type]

    run(office, test)


def test_asking_and_cancelling(office: Any) -> None:
    """Status, explanation, list, conflict, unknown ids, cancellation."""

    async def test(client: AsyncClient) -> None:
        office.idle = True
        mine = client.options(task_id="x", tenant="lab", priority=1)
        future = await mine.submit(int, 1)
        assert await mine.submit(int, 1) is future
        with pytest.raises(Conflict):
            await mine.submit(int, 2)
        assert (await client.status(future))["priority"] == 1
        assert (await client.explain("x"))["status"] == "running"
        assert [task["task_id"] for task in await client.tasks(tenant="lab")] == ["x"]
        for ask in (client.status, client.explain, client.future, client.cancel):
            with pytest.raises(UnknownId):
                await ask("y")
        assert await client.cancel(future) == [True]
        with pytest.raises(TaskCancelled):
            await future

    run(office, test)


def test_a_scheduler_that_dies_and_one_that_is_away(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every future ends: after a restart with its result, without a scheduler with an error that says what to do."""
    monkeypatch.setattr("balance.client.async_client.PAUSE_S", 0.01)

    async def test(client: AsyncClient) -> None:
        office.idle = True
        futures = await client.map(int, range(100))
        await asyncio.to_thread(office.crash)
        office.unreachable = 3
        office.work()
        assert await client.gather(futures) == list(range(100))
        office.idle = True
        kept = await client.submit(int, 5)
        monkeypatch.setattr("balance.client.async_client.PATIENCE_S", 0.05)
        office.unreachable = 10**6
        await asyncio.to_thread(office.crash)
        with pytest.raises(ClusterError, match="kept"):
            await kept
        office.unreachable = 0
        again = await client.future(kept.id)
        office.work()
        assert await again == 5

    run(office, test)


def test_a_closed_client_says_so(office: Any) -> None:
    """Whoever still waits when a client closes is told."""

    async def main() -> None:
        office.idle = True
        client = AsyncClient(link=office)
        future = await client.submit(int)
        await client.close()
        await client.close()
        with pytest.raises(NotReady, match="closed"):
            await future
        with pytest.raises(NotReady):
            await client.submit(int)

    asyncio.run(main())
