"""Readers of topics that are restarted: the new one reads at once, the old one not any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.membership import Membership
from balance.errors import StaleEpoch
from balance.messaging import Outgoing
from balance.messaging.brokers import open_broker, release_broker


async def _opened(folder: Path) -> tuple[Any, Membership]:
    broker = open_broker(f"embedded://{folder}")
    await broker.create_topic("t", 2)
    await broker.append("t", [Outgoing(b"k", b"1", {}), Outgoing(b"k", b"2", {})])
    return broker, Membership(broker)


async def _read(membership: Membership, epoch: int, member: str, **how: Any) -> Any:
    joined = await membership.poll("reader", epoch, "t", "g", member, generation=0, positions={})
    return (
        joined.assigned
        if not how
        else await membership.poll(
            "reader", epoch, "t", "g", member, generation=joined.generation, positions=joined.assigned, **how
        )
    )


def test_a_new_epoch_takes_over_at_once(tmp_path: Path) -> None:
    """All partitions are the new incarnation's with its first poll; the group does not even notice."""

    async def main() -> None:
        broker, membership = await _opened(tmp_path)
        joined = await membership.poll("reader", 1, "t", "g", "old", generation=0, positions={})
        taken_over = await membership.poll("reader", 2, "t", "g", "new", generation=0, positions={})
        assert taken_over == joined
        for late in (("reader", 1), ("reader", 2)):
            assert await membership.commit(late, "t", "g", "old", {0: 0}) == [0], "the old one's commits are refused"
        assert await membership.commit(("stranger", 1), "t", "g", "new", {0: 0}) == [0]
        assert await membership.commit(("reader", 2), "t", "g", "new", {0: 0}) == []
        await release_broker(broker)

    asyncio.run(main())


def test_what_the_old_one_has_committed_is_certain_before_the_new_one_begins(tmp_path: Path) -> None:
    """A commit that is on its way when its reader dies counts: the new one is told of it with its first poll."""

    async def main() -> None:
        broker, membership = await _opened(tmp_path)
        joined = await membership.poll("reader", 1, "t", "g", "old", generation=0, positions={})
        [number] = [n for n in joined.assigned if (await broker.lag("t", "g"))[n] == 2]
        plain, held, going = broker.commit, asyncio.Event(), asyncio.Event()

        async def slow(*who: Any, **how: Any) -> list[int]:
            going.set()
            await held.wait()
            done: list[int] = await plain(*who, **how)
            return done

        broker.commit = slow
        committing = asyncio.create_task(membership.commit(("reader", 1), "t", "g", "old", {number: 2}))
        await going.wait()
        committing.cancel()  # the reader is gone
        taking_over = asyncio.create_task(_read(membership, 2, "new"))
        await asyncio.sleep(0)
        assert not taking_over.done()
        held.set()
        assert (await taking_over)[number] == 2
        await release_broker(broker)

    asyncio.run(main())


def test_a_poll_under_way_ends_with_its_reader(tmp_path: Path) -> None:
    """The dead reader's long poll does not bring its member back; were it alive, it would hear why."""

    async def main() -> None:
        broker, membership = await _opened(tmp_path)
        joined = await membership.poll("reader", 1, "t", "g", "old", generation=0, positions={})
        ends = dict.fromkeys(joined.assigned, 2)
        waiting = asyncio.create_task(
            membership.poll("reader", 1, "t", "g", "old", generation=joined.generation, positions=ends, wait_s=30.0)
        )
        await asyncio.sleep(0)
        assert set(await _read(membership, 2, "new")) == {0, 1}
        with pytest.raises(StaleEpoch, match="taken over"):
            await waiting
        with pytest.raises(StaleEpoch, match="may not read"):
            await _read(membership, 1, "old")
        assert set(await _read(membership, 2, "new")) == {0, 1}
        await release_broker(broker)

    asyncio.run(main())


def test_other_readers_keep_their_places(tmp_path: Path) -> None:
    """A restart of one reader takes nothing from another, and a poll that its own caller gives up is cancelled."""

    async def main() -> None:
        broker, membership = await _opened(tmp_path)
        await membership.poll("other", 1, "t", "g", "other", generation=0, positions={})
        await _read(membership, 1, "old")
        assert len(await _read(membership, 2, "new")) == 1
        joined = await membership.poll("other", 1, "t", "g", "other", generation=0, positions={})
        assert len(joined.assigned) == 1
        poll = asyncio.create_task(
            membership.poll("other", 1, "t", "g", "other", generation=joined.generation, positions={}, wait_s=30.0)
        )
        await asyncio.sleep(0)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        await membership.leave("other", "t", "g", "other")
        assert set(await _read(membership, 2, "new")) == {0, 1}
        await release_broker(broker)

    asyncio.run(main())
