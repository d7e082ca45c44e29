"""The broker port over actor calls: every process of the cluster reaches the log that one actor owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from balance.messaging import Outgoing, Polled, Send
from balance.messaging.progress import Ranges


class ActorBroker:
    """A `balance.messaging.Broker` that forwards each call to the messaging actor.

    Parameters
    ----------
    handle : ray.actor.ActorHandle
        Of the messaging actor, whose methods ``broker_<call>`` are the port's calls.
    reader : tuple of (str, int)
        Who reads, and its epoch: a newer epoch takes the places of the older one in its groups.

    Notes
    -----
    A poll changes nothing at the broker, so one that is lost with the actor is simply made again.
    """

    def __init__(self, handle: Any, reader: tuple[str, int]) -> None:
        self._handle = handle
        self._reader = reader

    async def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        *,
        replication: int = 1,
        retention_bytes: int | None = None,
        retention_s: float | None = None,
    ) -> bool:
        """Create a topic; True if it was new."""
        return cast(
            bool,
            await self._handle.broker_create_topic.remote(
                topic, partitions, replication=replication, retention_bytes=retention_bytes, retention_s=retention_s
            ),
        )

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic."""
        return cast(dict[str, int], await self._handle.broker_topics.remote())

    async def append(self, topic: str, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Append durably; return partition and offset of each record."""
        return cast(list[tuple[int, int]], await self._handle.broker_append.remote(topic, list(records)))

    async def poll(
        self,
        topic: str,
        group: str,
        member: str,
        *,
        generation: int,
        positions: Mapping[int, int],
        max_records: int = 500,
        wait_s: float = 0.0,
    ) -> Polled:
        """Read on; see `balance.messaging.Broker.poll`."""
        return cast(
            Polled,
            await self._handle.broker_poll.remote(
                self._reader,
                topic,
                group,
                member,
                generation=generation,
                positions=dict(positions),
                max_records=max_records,
                wait_s=wait_s,
            ),
        )

    async def commit(
        self,
        topic: str,
        group: str,
        member: str,
        offsets: Mapping[int, int],
        *,
        beyond: Mapping[int, Ranges] | None = None,
        sends: Sequence[Send] = (),
        generation: int | None = None,
    ) -> list[int]:
        """Commit a group's offsets, and what goes with them; return the partitions that were refused."""
        return cast(
            list[int],
            await self._handle.broker_commit.remote(
                self._reader,
                topic,
                group,
                member,
                dict(offsets),
                beyond=beyond,
                sends=list(sends),
                generation=generation,
            ),
        )

    async def leave(self, topic: str, group: str, member: str) -> None:
        """Leave a group."""
        await self._handle.broker_leave.remote(self._reader, topic, group, member)

    async def lag(self, topic: str, group: str) -> dict[int, int]:
        """Return how many records the group has not committed, by partition."""
        return cast(dict[int, int], await self._handle.broker_lag.remote(topic, group))

    async def close(self) -> None:
        """Do nothing: the log belongs to the actor."""
