"""Which members of consumer groups belong to whom, so that a reader that was restarted goes on in its own place.

A broker takes a member out of its group after seconds of silence, since it can't know better, and whoever joins makes
all others give way.  Here more is known: a reader (an actor, by its name) has an epoch.  A newer one takes the place of
the older as it is, with its partitions, and the group does not notice; the older can neither read nor commit any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from balance.errors import StaleEpoch
from balance.messaging import Broker, Polled

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Reader:
    epoch: int
    members: dict[tuple[str, str], str] = field(default_factory=dict)  # by topic and group: who reads there now
    polls: set[asyncio.Task[Polled]] = field(default_factory=set)
    commits: set[asyncio.Task[list[int]]] = field(default_factory=set)


class Membership:
    """Polls a broker, and commits there, for readers that may die.

    Parameters
    ----------
    broker : Broker
        Whose groups these are.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._readers: dict[str, _Reader] = {}

    async def poll(self, role: str, epoch: int, topic: str, group: str, member: str, **how: Any) -> Polled:
        """Poll as `Broker.poll` does, in the place that the reader has had in the group.

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
                await self._end(former)
        if reader.epoch > epoch:
            raise StaleEpoch(f"{role!r} was taken over: epoch {epoch} may not read any more, {reader.epoch} does")
        reader.members[topic, group] = member
        poll = _started(reader.polls, self._broker.poll(topic, group, role, **how))
        try:
            return await poll
        except asyncio.CancelledError:
            if self._readers[role] is reader:
                poll.cancel()
                raise
            raise StaleEpoch(f"{role!r} was taken over while epoch {epoch} was polling") from None

    async def commit(
        self,
        reader: tuple[str, int],
        topic: str,
        group: str,
        member: str,
        offsets: Mapping[int, int],
        **how: Any,
    ) -> list[int]:
        """Commit as `Broker.commit` does; whoever is not the reader in this place (any more) is refused."""
        role, epoch = reader
        known = self._readers.get(role)
        if known is None or known.epoch != epoch or known.members.get((topic, group)) != member:
            return sorted(offsets)
        return await asyncio.shield(_started(known.commits, self._broker.commit(topic, group, role, offsets, **how)))

    async def leave(self, role: str, topic: str, group: str, member: str) -> None:
        """Leave a group, if it is this member that reads there."""
        reader = self._readers.get(role)
        if reader is not None and reader.members.get((topic, group)) == member:
            del reader.members[topic, group]
            await self._broker.leave(topic, group, role)

    async def _end(self, former: _Reader) -> None:
        """Let nothing of a former incarnation happen from now on; what it may have committed is certain then."""
        polls = list(former.polls)
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, *former.commits, return_exceptions=True)


def _started(tasks: set[asyncio.Task[T]], work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
