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
    """All partitions are the new incarnation's with its first poll; no session has to run out first."""

    async def main() -> None:
        broker, membership = await _opened(tmp_path)
        assert set(await _read(membership, 1, "old")) == {0, 1}
        assert set(await _read(membership, 2, "new")) == {0, 1}
        assert await broker.commit("t", "g", "old", {0: 0}) == [0], "the old one's commits are refused"
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
