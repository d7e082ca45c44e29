"""Which members of consumer groups belong to whom, so that a reader that was restarted takes over at once.

A broker takes a member out of its group after seconds of silence, since it can't know better.  Here more is known:
a reader (an actor, by its role) has an epoch, and where a newer one polls, the members of the older are gone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from balance.errors import StaleEpoch
from balance.messaging import Broker, Polled


@dataclass(slots=True, eq=False)
class _Reader:
    epoch: int
    members: set[tuple[str, str, str]] = field(default_factory=set)
    polls: set[asyncio.Task[Polled]] = field(default_factory=set)


class Membership:
    """Polls a broker for readers that may die.

    Parameters
    ----------
    broker : Broker
        Whose groups these are.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._readers: dict[str, _Reader] = {}

    async def poll(self, role: str, epoch: int, topic: str, group: str, member: str, **how: Any) -> Polled:
        """Poll as `Broker.poll` does, after the members of the reader's former epochs have left their groups.

        Raises
        ------
        StaleEpoch
            A newer incarnation of the reader polls already.
        """
        reader = self._readers.get(role)
        if reader is None or reader.epoch < epoch:
            former, reader = reader, _Reader(epoch)
            self._readers[role] = reader
            if former is not None:
                await self._take_out(former)
        if reader.epoch > epoch:
            raise StaleEpoch(f"{role!r} was taken over: epoch {epoch} may not read any more, {reader.epoch} does")
        reader.members.add((topic, group, member))
        poll = asyncio.get_running_loop().create_task(self._broker.poll(topic, group, member, **how))
        reader.polls.add(poll)
        poll.add_done_callback(reader.polls.discard)
        try:
            return await poll
        except asyncio.CancelledError:
            if self._readers[role] is reader:
                poll.cancel()
                raise
            raise StaleEpoch(f"{role!r} was taken over while epoch {epoch} was polling") from None

    async def leave(self, role: str, topic: str, group: str, member: str) -> None:
        """Leave a group."""
        if role in self._readers:
            self._readers[role].members.discard((topic, group, member))
        await self._broker.leave(topic, group, member)

    async def _take_out(self, former: _Reader) -> None:
        # A poll that is under way would bring its member back.
        polls = list(former.polls)
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        for topic, group, member in sorted(former.members):
            await self._broker.leave(topic, group, member)
