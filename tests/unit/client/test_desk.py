"""The desk itself: bulks that are all or nothing, and outcomes that reach whoever follows them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from actors import desk as desk_module
from actors.bulks import bulk_specs, needs_one_slice
from actors.ring import Ring
from balance.client.futures import Book
from balance.client.options import TaskOptions
from balance.client.session import Session
from balance.client.wire import Bulk, Call, Kind
from balance.core.scheduler.spec import TaskSpec
from balance.errors import Conflict, InvalidValue, NotReady, UnknownId


def bulk_of(*ids: str, **changes: Any) -> Bulk:
    """Return tasks that return 0, as a client packs them."""
    calls: Any = [(int, (), {})] * len(ids)
    bulk, _ = Session(Book(), 0).bulk(calls, TaskOptions().changed(**changes), ids=ids)
    return bulk


def ask(office: Any, method: str, *arguments: Any) -> Any:
    return office.call(method, *arguments)


def test_a_bulk_is_acknowledged_with_what_is_new_and_what_was_known(office: Any) -> None:
    """The second time, the same tasks are known, and their outcomes are told again."""
    first = ask(office, "submit_bulk", "c", bulk_of("a", "b"))
    assert (first["status"], first["accepted"], first["known"]) == ("accepted", 2, 0)
    told = [*ask(office, "collect", "c", 0, 5.0, 10)["outcomes"], *ask(office, "collect", "c", 1, 5.0, 10)["outcomes"]]
    assert {outcome[:2] for outcome in told} == {("a", "completed"), ("b", "completed")}
    again = ask(office, "submit_bulk", "d", bulk_of("a", "b", "c"))
    assert (again["accepted"], again["known"]) == (1, 2)
    seen: set[str] = set()
    after = 0
    while seen != {"a", "b", "c"}:
        reply = ask(office, "collect", "d", after, 5.0, 1)
        after = reply["last"]
        seen |= {outcome[0] for outcome in reply["outcomes"]}


def test_two_submissions_of_the_same_ids_at_once_are_one(office: Any) -> None:
    """Whoever comes second finds what the first has left: no task runs twice, and both are told."""

    async def both() -> list[dict[str, Any]]:
        return await asyncio.gather(*(office.desk.submit_bulk(name, bulk_of("a", "b", "c")) for name in "xyz"))

    replies = office._do(both())
    assert sorted((reply["accepted"], reply["known"]) for reply in replies) == [(0, 3), (0, 3), (3, 0)]
    for name in "xyz":
        assert ask(office, "collect", name, 0, 5.0, 10)["outcomes"]
    assert ask(office, "status", "a")["attempt"] == 1


def test_a_large_bulk_leaves_others_their_turn(office: Any) -> None:
    """While thousands of tasks enter, the loop goes round: whoever else has something to do is not kept waiting."""
    seen: list[int] = []

    async def race() -> None:
        office.idle = True
        large = asyncio.ensure_future(office.desk.submit_bulk("c", bulk_of(*(f"t{n}" for n in range(3000)))))
        while not large.done():
            seen.append(len(office.scheduler.engine.state.tasks))
            await asyncio.sleep(0)
        await large

    office._do(race())
    steps = [after - before for before, after in itertools.pairwise(sorted(set(seen)))]
    assert sum(steps) == 3000 and max(steps) <= 400
    office.work()


def test_outcomes_that_were_dropped_are_told_as_lost(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not fetch is not kept in memory for ever; it asks again by id and misses nothing."""
    monkeypatch.setattr(desk_module, "Ring", lambda: Ring(kept_max=2))
    ids = [f"t{n}" for n in range(5)]
    ask(office, "submit_bulk", "c", bulk_of(*ids))
    while office.desk.stats()["followed"]:
        pass
    reply = ask(office, "collect", "c", 0, 0.0, 10)
    assert (reply["status"], reply["outcomes"], reply["last"]) == ("lost", [], 5)
    followed = ask(office, "follow", "c", ids)["outcomes"]
    assert {outcome[:2] for outcome in followed} == {(task_id, "completed") for task_id in ids}
    assert ask(office, "follow", "c", ["nobody"])["outcomes"] == [("nobody", "unknown", None, None)]


def test_what_is_forgotten_on_disk_only_is_unknown(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is over in memory and not to be found on disk is told as unknown, not looked for again and again."""
    ask(office, "submit_bulk", "c", bulk_of("t"))
    while office.desk.stats()["followed"]:
        pass
    asked = []

    async def nothing(_archive: object, ids: Sequence[str]) -> dict[str, Any]:
        asked.append(list(ids))
        return {}

    monkeypatch.setattr(desk_module, "read", nothing)
    assert ask(office, "follow", "c", ["t"])["outcomes"] == [("t", "unknown", None, None)]
    assert asked == [["t"], ["t"]]


def test_clients_that_are_gone_are_forgotten(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves, or has not called for long, holds nothing; who comes back is told so."""
    office.idle = True
    for name in "cd":
        ask(office, "submit_bulk", name, bulk_of(name, "shared"))
    assert office.desk.stats() == {"clients": 2, "followed": 3}
    ask(office, "leave", "c")
    assert office.desk.stats() == {"clients": 1, "followed": 2}
    monkeypatch.setattr(desk_module, "ABSENT_S", -1.0)
    office._do(office.desk.forget_absent())
    assert office.desk.stats() == {"clients": 0, "followed": 0}
    assert ask(office, "collect", "c", 0, 5.0, 10)["status"] == "lost"
    office.work()


def test_a_desk_that_closes_lets_in_what_is_under_way(office: Any) -> None:
    """Draining refuses new tasks, not those that are half in."""

    async def close() -> dict[str, Any]:
        under_way = asyncio.ensure_future(office.desk.submit_bulk("c", bulk_of(*(f"t{n}" for n in range(1000)))))
        while not office.scheduler.engine.state.tasks:
            await asyncio.sleep(0)
        await office.desk.close()
        with pytest.raises(NotReady):
            await office.desk.submit_bulk("c", bulk_of("late"))
        return dict(await under_way)

    assert office._do(close())["accepted"] == 1000


def test_what_is_wrong_in_one_task_keeps_all_out(office: Any) -> None:
    """A conflict, an unknown prerequisite, a bad id: nothing of the bulk is there afterwards, and nobody follows it."""
    ask(office, "submit_bulk", "c", bulk_of("taken"))
    other = bulk_of(*(f"t{n}" for n in range(500)), "taken")
    other.arguments[-1] = b"other"
    for bulk, kind in ((other, Conflict), (bulk_of("e", after=["nowhere"]), UnknownId)):
        with pytest.raises(kind):
            ask(office, "submit_bulk", "d", bulk)
    assert [task["task_id"] for task in ask(office, "tasks", None, None, None, 10)] == ["taken"]
    assert office.desk.stats()["followed"] == 0


@pytest.mark.parametrize(
    "bulk",
    [
        Bulk(["a"], [], [Kind("f", "n", {})]),
        Bulk(["a"], [b""], []),
        Bulk(["a"], [b""], [Kind("f", "n", {})], [1]),
        Bulk(["a"], [b""], [Kind("f", "n", {})], [-1]),
        Bulk(["a"], [b""], [Kind("f", "n", {})], None, [1, 2]),
        Bulk(["a"], [b""], [Kind("f", "n", {})], None, [0]),
        Bulk(["a"], [b""], [Kind("f", "n", {})], None, 3, {1: ("b",)}),
        Bulk([""], [b""], [Kind("f", "n", {})]),
        Bulk(["a"], [b""], [Kind("f", "n", {"colour": "blue"})]),
        Bulk(["a"], [b""], [Kind("f", "n", {"retry": {"colour": "blue"}})]),
        Bulk(["a"], [b""], [Kind("f", "", {})]),
    ],
)
def test_a_bulk_that_makes_no_sense_is_refused(bulk: Bulk) -> None:
    """Lists of different lengths, kinds that there are not, options out of range: `InvalidValue`."""
    with pytest.raises(InvalidValue):
        bulk_specs(bulk, 0.0)


def test_delays_count_from_when_the_scheduler_heard_of_them() -> None:
    """No clock of a client has a say in when a task may run; the later of two moments counts."""
    kinds = [Kind("f", "n", {}, 5.0), Kind("f", "n", {"not_before": 200.0}, 5.0)]
    specs = bulk_specs(Bulk(["a", "b"], [b"", b""], kinds, [0, 1]), 100.0)
    assert [spec.not_before for spec in specs] == [105.0, 200.0]


def test_only_what_depends_on_what_comes_later_enters_in_one_piece() -> None:
    """Chains in order, and prerequisites from elsewhere, may enter slice by slice; circles and gangs may not."""
    call = Call("f", b"", "n")

    def whole(*specs: TaskSpec) -> bool:
        return needs_one_slice([(spec, call) for spec in specs])

    a, b = TaskSpec("a"), TaskSpec("b", dependencies=("a",))
    assert not whole(a, b) and whole(b, a) and not whole(b) and whole(TaskSpec("g", gang_id="g", gang_size=2))


def test_a_ring_is_bounded_by_count_and_by_weight() -> None:
    """The oldest outcomes give way; one that is too heavy by itself is kept all the same."""
    ring = Ring(kept_max=10, kept_bytes=100)
    ring.add([("a", "completed", b"x" * 60, None), ("b", "completed", b"x" * 60, None)])
    assert [outcome[0] for outcome in ring.after(1, 10)] == ["b"] and ring.lacks(0)
    ring.add([("c", "completed", b"x" * 1000, None)])
    assert [outcome[0] for outcome in ring.after(2, 10)] == ["c"] and not ring.lacks(2) and ring.lacks(1)
    assert ring.after(3, 10) == [] and not ring.changed.is_set()
    assert ring.lacks(4), "what was never told here was told by another incarnation"
