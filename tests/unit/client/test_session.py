"""The client's side of the conversation, word by word; and how arguments travel."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from typing import Any

import pytest

from actors.announcer import Announcer
from balance.client.client import Client
from balance.client.futures import Book
from balance.client.options import TaskOptions
from balance.client.packing import pack
from balance.client.session import FOLLOW_LIMIT, Session
from balance.core.scheduler.instructions import FinishTask
from balance.core.scheduler.states import State
from balance.errors import InvalidValue


@pytest.fixture
def session() -> Session:
    return Session(Book(), epoch=1)


def submitted(session: Session, number: int, *, epoch: int | None = 1) -> list[Any]:
    """Have tasks submitted; acknowledged by the scheduler of an epoch, or not at all yet."""
    bulk, _ = session.bulk([(int, (), {})] * number, TaskOptions())
    futures, new = session.opened(bulk)
    if epoch is not None:
        session.acknowledged(bulk, new, epoch)
    return futures


def reply(epoch: int = 1, last: int = 0, status: str = "ok", outcomes: Any = ()) -> dict[str, Any]:
    return {"status": status, "last": last, "outcomes": list(outcomes), "epoch": epoch}


def followed(session: Session) -> list[str]:
    """Return what the session asks for by id, in as many calls as it takes."""
    asked: list[str] = []
    while (call := session.next_call())[0] == "follow":
        asked += call[1][1]
        session.took(*call, reply(session._epoch))
    return asked


def test_each_call_confirms_what_the_last_one_brought(session: Session) -> None:
    """A client asks for what comes after the last number that it was told."""
    first, second = submitted(session, 2)
    call = session.next_call()
    assert call[0] == "collect" and call[1][:2] == (session.client_id, 0)
    session.took(*call, reply(last=1, outcomes=[(first.id, "cancelled", None, {})]))
    assert first.state == "cancelled" and not second.done()
    assert session.next_call()[1][1] == 1


@pytest.mark.parametrize("said", [reply(epoch=2), reply(status="lost", last=9)])
def test_what_was_acknowledged_is_named_again_when_it_may_be_lost(session: Session, said: dict[str, Any]) -> None:
    """After a restart, and after outcomes were dropped, every acknowledged task is asked for, and no other."""
    known = submitted(session, FOLLOW_LIMIT + 1)
    submitted(session, 3, epoch=None)
    session.took(*session.next_call(), said)
    assert followed(session) == [future.id for future in known]
    assert session.next_call()[1][1] == said["last"]


def test_an_acknowledgement_of_another_incarnation_is_not_trusted(session: Session) -> None:
    """Who acknowledged the tasks is not who answers now: they are asked for."""
    futures = submitted(session, 2, epoch=2)
    assert followed(session) == [future.id for future in futures]


def test_what_was_refused_is_not_waited_for(session: Session) -> None:
    """After a refusal nothing is left of a submission; a future that was there before stays."""
    (earlier,) = submitted(session, 1)
    options = TaskOptions(task_id=earlier.id)
    bulk, _ = session.bulk([(int, (), {})], options)
    futures, new = session.opened(bulk)
    assert futures == [earlier] and new == []
    session.refused(new)
    other, _ = session.bulk([(int, (), {})], TaskOptions())
    session.refused(session.opened(other)[1])
    assert session.book.outstanding() == [earlier.id] and not session._unacknowledged


def test_what_is_told_twice_or_to_nobody_is_passed_over(session: Session) -> None:
    """The first word about a task counts."""
    (future,) = submitted(session, 1)
    ends = [(future.id, "cancelled", None, {}), (future.id, "failed", None, {}), ("nobody", "failed", None, {})]
    session.took(*session.next_call(), reply(last=3, outcomes=ends))
    assert future.state == "cancelled"


def test_a_client_whose_outcomes_were_dropped_misses_nothing(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More outcomes at once than are kept for a client: it is told so, asks by id, and has them all."""
    from actors import desk
    from actors.ring import Ring

    monkeypatch.setattr(desk, "Ring", lambda: Ring(kept_max=3))
    with Client(link=office) as client:
        office.idle = True
        futures = client.map(int, range(100))
        office.work()
        assert client.gather(futures, 20.0) == list(range(100))
        assert "follow" in office.calls


def test_nothing_is_told_before_it_is_on_disk() -> None:
    """Ends wait for the disk; those that come meanwhile are told together, in the next round."""
    told: list[list[str]] = []

    async def main() -> None:
        synced: list[asyncio.Future[None]] = []

        async def durable() -> None:
            synced.append(asyncio.get_running_loop().create_future())
            await synced[-1]

        running: list[asyncio.Task[None]] = []
        announcer = Announcer(
            durable,
            lambda ended: told.append([each.task_id for each in ended]),
            lambda work: running.append(asyncio.ensure_future(work)),  # type: ignore[arg-type]
        )
        for name in "abc":
            announcer.finished(FinishTask(name, State.COMPLETED, 1))
            await asyncio.sleep(0)
        assert told == [] and len(running) == 1
        synced[0].set_result(None)
        while len(synced) < 2:
            await asyncio.sleep(0)
        assert told == [["a"]]
        synced[1].set_result(None)
        await running[0]
        announcer.finished(FinishTask("d", State.FAILED, 1))
        await asyncio.sleep(0)
        synced[2].set_result(None)
        await running[1]

    asyncio.run(main())
    assert told == [["a"], ["b", "c"], ["d"]]


SENDER = """
import sys
sys.path.insert(0, sys.argv[1])
import mine
from balance.client.packing import pack
from balance.client.travel import travels_along

class Local:
    value = 1

travels_along(mine.work)
sys.stdout.buffer.write(pack((Local(), mine.Thing()), {"plain": [1, "a"]})[0])
"""

RECEIVER = """
import pickle, sys
(local, thing), kwargs = pickle.loads(sys.stdin.buffer.read())
print(local.value, thing.value, kwargs["plain"])
"""


def test_what_is_not_installed_travels_along(tmp_path: Any) -> None:
    """Objects of the script's own classes, and of modules beside it, can be unpickled where there are neither."""
    (tmp_path / "mine.py").write_text("class Thing:\n    value = 2\n\ndef work():\n    pass\n")
    line = [sys.executable, "-c", SENDER, str(tmp_path)]
    sent = subprocess.run(line, check=True, capture_output=True).stdout
    got = subprocess.run([sys.executable, "-c", RECEIVER], check=True, capture_output=True, input=sent).stdout
    assert got.decode().split() == ["1", "2", "[1,", "'a']"]


def test_plain_arguments_travel_as_they_are() -> None:
    """Ordinary values come back equal, and equal calls are equal bytes."""
    for args, kwargs in (((), {}), ((1, "ä", None, b"x", 2.5), {"deep": {"er": [1, (2, 3)]}})):
        data, named = pack(args, kwargs)
        assert pickle.loads(data) == (args, kwargs) and named == ()
        assert pack(args, kwargs)[0] == data
    with pytest.raises(InvalidValue, match="generator"):
        pack((number for number in range(3)), {"bad": (n for n in range(3))})


def test_futures_among_arguments_are_named_once(session: Session) -> None:
    """However deep they are, and however often, the tasks whose results are arguments are what this one waits for."""
    first, second = submitted(session, 2)
    _, named = pack(([first, {"again": first}],), {"other": (second,)})
    assert named == (first.id, second.id)
    bulk, _ = session.bulk([(len, (first,), {}), (len, ("a",), {})], TaskOptions(after=["x", second]))
    assert bulk.dependencies == {0: (first.id, "x", second.id), 1: ("x", second.id)}
