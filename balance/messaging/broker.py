"""The port behind `KafkaService`: what a message broker has to do for Balance.

Two brokers stand behind it, the embedded log of this package and Kafka; one test suite
(``tests/integration/test_brokers.py``) holds for both.  The port is shaped after Kafka's own protocol:

* **A poll changes nothing.**  The consumer says from which offsets it wants to read; the broker answers with
  records, and with the partitions that the member owns.  A lost or cancelled poll is simply made again, so the port
  can be proxied over actor calls without losing a record.
* **Only `commit` moves a group forward.**  What was not committed is delivered again: at least once.
* **Acknowledged means durable.**  `append` returns when the records are on disk; a poll shows only such.

Every value is bytes, text, a number, or a list, dict or `Record` of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from balance.errors import InvalidValue
from balance.messaging.progress import Ranges

#: The largest record that a broker takes: a message at its limit, wrapped as a dead letter, still fits.
MAX_RECORD_BYTES = 4 * 2**20


class Record(NamedTuple):
    """One message as it lies in a partition.

    Attributes
    ----------
    partition : int
        The partition that it lies in.
    offset : int
        Its place in the partition, counted from 0.
    key : bytes or None
        Equal keys lie in the same partition, in order.
    value : bytes
        The message.
    headers : dict of str to str
        What travels beside it.
    timestamp_s : float
        POSIX time at which the broker took it.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, str]
    timestamp_s: float


class Outgoing(NamedTuple):
    """One message to append: key (None: any partition), value and headers."""

    key: bytes | None
    value: bytes
    headers: dict[str, str]


class Send(NamedTuple):
    """One message to append to a topic, together with a commit."""

    topic: str
    record: Outgoing


def check_record(record: Outgoing) -> None:
    """Raise `InvalidValue` if a record is larger than a broker takes."""
    key, value, headers = record
    size = len(value) + len(key or b"")
    if headers:
        size += sum(len(name) + len(text) for name, text in headers.items())
    if size > MAX_RECORD_BYTES:
        raise InvalidValue("record", f"{size} bytes", f"at most {MAX_RECORD_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll brought.

    Attributes
    ----------
    generation : int
        Changes whenever partitions move between the members of the group; 0 is never used.
    assigned : dict of int to int
        The partitions that the member owns, each with the offset that the group has committed.
    records : list of Record
        In order within each partition.
    beyond : dict of int to ranges
        Of these partitions, the offsets beyond the committed one that are handled as well; none where it is left out.
    """

    generation: int
    assigned: dict[int, int]
    records: list[Record] = field(default_factory=list)
    beyond: dict[int, Ranges] = field(default_factory=dict)


@runtime_checkable
class Broker(Protocol):
    """What Balance asks of a message broker."""

    async def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        *,
        replication: int = 1,
        retention_bytes: int | None = None,
        retention_s: float | None = None,
    ) -> bool:
        """Create `topic` and say whether it was new; one that exists is left as it is.

        `replication` copies are wished for; a broker that has fewer places makes fewer.
        """
        ...

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic."""
        ...

    async def append(self, topic: str, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Append `records` durably; return the partition and offset of each, in order.

        Raises
        ------
        UnknownId
            There is no such topic.
        InvalidValue
            A record is larger than the broker takes.
        StorageError
            Nothing was acknowledged; the same may be tried again.
        """
        ...

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
        """Join `group` or stay in it, and read from `positions` (partition to offset) on.

        A first poll may have to wait until the others in the group have made room; who comes may get no partition yet.
        Returns at once when `generation` is not the group's (0 on the first call), or when there are records;
        otherwise waits up to `wait_s` seconds for either.  Partitions that are left out are not read: that is how a
        consumer pauses one.  A member that does not poll within the broker's session time is taken out of the group.
        """
        ...

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
        """Record that `group` has handled everything before these offsets, and append `sends` with it.

        All of it or nothing: a consumer that takes what it makes of a message to other topics, and commits in the same
        call, has done both once, wherever it dies.  Readers see such messages when they are certain.

        Parameters
        ----------
        beyond : mapping of int to ranges, optional
            What is handled beyond the offsets; it replaces what was said before of these partitions.
        sends : sequence of Send
            What to append.
        generation : int, optional
            The last that the member has heard of: if partitions have moved since, nothing is taken.

        Returns
        -------
        list of int
            The partitions that were refused because `member` does not own them (any more); empty when all is well.
            With `sends` nothing is taken where any is refused.

        Raises
        ------
        StorageError
            Whether it was taken is not known; a poll with generation 0 tells.
        """
        ...

    async def leave(self, topic: str, group: str, member: str) -> None:
        """Give the member's partitions to the others; a member that is not there is no error."""
        ...

    async def lag(self, topic: str, group: str) -> dict[int, int]:
        """Return for each partition how many records `group` has not committed yet."""
        ...

    async def close(self) -> None:
        """Let go of everything; what was acknowledged stays."""
        ...
