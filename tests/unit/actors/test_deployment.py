"""A deployed model's own bookkeeping: what it takes, whom its throttle lets in, what can be written down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from actors.answers import Answers
from actors.deployment import Deployment, Request, Runner, end_of, shown
from balance.client.wire import Function
from balance.errors import BalanceError, InvalidValue, SourceUnavailable, UnknownId
from balance.storage import Fence, Store


class Model:
    def needs(self, request: dict[str, Any]) -> list[str]:
        if request["kind"] == "exit":
            raise SystemExit(1)
        if request["kind"] == "own":
            raise SourceUnavailable("not now")
        return [request["kind"]]


def deployment(**fields: Any) -> Deployment:
    demand = {"cpu": 1.0, "memory": 0, "gpu": 0.0}
    model = Deployment("m", Model(), Function.of(len), demand, 3, 10.0, 4, {})
    for name, value in fields.items():
        setattr(model, name, value)
    return model


def test_a_request_is_checked_by_the_model_itself() -> None:
    """What `needs` raises names the request; what is no JSON never reaches the store; the rest is as JSON has it."""
    model = deployment()
    assert model.checked({"kind": "a", "pair": (1, 2)}) == {"kind": "a", "pair": [1, 2]}
    for bad in ({}, {"kind": "exit"}, {"kind": "a", "x": float("nan")}, {"kind": "a", "x": {1}}, {"kind": "\udce9"}):
        with pytest.raises(InvalidValue):
            model.checked(bad)
    with pytest.raises(SourceUnavailable):
        model.checked({"kind": "own"})


def _queue(model: Deployment, count: int) -> None:
    for number in range(count):
        model.waiting.add(number, 3, 0.0, Request(str(number), {}, 0.0, 3))


def test_without_a_throttle_a_batch_may_go() -> None:
    """Unlimited means a batch at a time."""
    model = deployment()
    _queue(model, 9)
    assert model.admit(0.0) == 4


def test_a_throttle_lets_in_what_time_has_earned() -> None:
    """Over any while no more go than the rate allows, beside one batch that may have been saved up."""
    model = deployment(admission_per_s=2.0, let_in=0.0)
    _queue(model, 100)
    granted = sum(model.admit(tick / 10) or 0 for tick in range(101))
    assert granted == 20
    assert model.admit(10.1) is None and 0.01 <= model.admission_wait_s() <= 1.0
    assert model.admit(1000.0) == 4, "at most one batch is saved up"


def test_a_throttle_of_nothing_lets_nobody_in_and_is_looked_at_again() -> None:
    """A rate of 0 holds everyone back, and a later rate is noticed within a second."""
    model = deployment(admission_per_s=0.0, let_in=0.0)
    _queue(model, 1)
    assert model.admit(100.0) is None and model.admission_wait_s() <= 1.0


def test_an_outcome_that_cannot_be_written_down_is_a_failure() -> None:
    """A result or an error that is no JSON ends the request as failed, with the reason."""
    good = end_of("r", "completed", {"result": [1], "error": None}, 1.0)
    assert good == {
        "request_id": "r",
        "state": "completed",
        "finished_at": 1.0,
        "outcome": {"result": [1], "error": None},
    }
    bad = end_of("r", "completed", {"result": object(), "error": None}, 1.0)
    assert bad["state"] == "failed" and "JSON" in bad["outcome"]["error"]["message"]
    worse = end_of("r", "failed", {"result": None, "error": {"message": "\udce9"}}, 1.0)
    assert worse["state"] == "failed" and "can't be written down" in worse["outcome"]["error"]["message"]


def test_any_error_can_be_shown() -> None:
    """Errors of Balance stay what they are, others say their type and message."""
    assert isinstance(shown(SourceUnavailable("x")), SourceUnavailable)
    assert str(shown(KeyError("x"))) == "KeyError: 'x'"
    assert type(shown(KeyError("x"))) is BalanceError


@pytest.fixture
def stored() -> Iterator[tuple[Store, Fence]]:
    store = Store()
    fence = store.acquire("batches")
    with store.transaction(fence) as tx:
        tx.requests.accept([{"request_id": name, "model_id": "m"} for name in ("a", "b")])
    yield store, fence
    store.close()


def test_who_waits_hears_of_the_end(stored: tuple[Store, Fence]) -> None:
    """Several may wait for one answer; who asks later finds it in the store; too early is ``pending``."""

    async def main() -> None:
        store, fence = stored
        answers = Answers(store)
        waiting = [asyncio.create_task(answers.of("a", 5.0)) for _ in range(2)]
        assert await answers.of("a", 0.01) == {"status": "pending", "request_id": "a"}
        end = end_of("a", "completed", {"result": 1, "error": None}, 1.0)
        with store.transaction(fence) as tx:
            tx.requests.finish([end])
        answers.tell(end)
        told = {"status": "completed", "request_id": "a", "result": 1, "error": None}
        assert await asyncio.gather(*waiting) == [told, told]
        assert await answers.of("a", 5.0) == told
        with pytest.raises(UnknownId):
            await answers.of("nobody", 5.0)

    asyncio.run(main())


def test_the_end_that_is_in_the_store_counts(stored: tuple[Store, Fence]) -> None:
    """Where a request had ended before, its waiter hears that end and not the later one."""

    async def main() -> None:
        store, fence = stored
        answers = Answers(store)
        waiting = asyncio.create_task(answers.of("b", 5.0))
        await asyncio.sleep(0)
        answers.look("b")
        assert not waiting.done(), "it is not over"
        with store.transaction(fence) as tx:
            tx.requests.finish([end_of("b", "failed", {"result": None, "error": {"message": "first"}}, 1.0)])
        answers.look("b")
        assert (await waiting)["error"] == {"message": "first"}

    asyncio.run(main())


def test_loading_is_told_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that had to load the model says how long that took; one that finds it loaded took none."""
    now = iter([10.0, 14.0])
    monkeypatch.setattr("actors.deployment.time.perf_counter", lambda: next(now))

    class Slow:
        def load(self) -> None:
            """Take as long as the clock says."""

        def run(self, requests: list[Any], data: dict[str, Any]) -> list[Any]:
            return requests

    runner = Runner(Slow())
    assert runner([{"a": 1}], {}) == ([{"a": 1}], 4.0)
    assert runner([{"a": 2}], {}) == ([{"a": 2}], 0.0)
