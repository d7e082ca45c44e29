"""The embedded message log: a durable broker inside one process, nothing to install.

Topics are split into partitions, partitions into segment files (`partition`, `segment`, `framing`).  One thread does
all writing, many appends to a sync (`writer`); reads go straight to the files.  Consumer groups (`groups`) live in
memory, what they committed is durable (`offsets`): after a crash every acknowledged record is there, and what was not
committed is delivered again.  What is sent with a commit is there if the commit is.

What it does *not* do: replicate, or be opened by two processes.  Other processes reach it through the messaging actor;
a second opener gets an error that names the first.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from balance.clock import Clock, SystemClock
from balance.errors import InvalidValue, StorageError, UnknownId
from balance.messaging.broker import Outgoing, Polled, Send
from balance.messaging.groups import ConsumerGroup
from balance.messaging.log_topic import LogTopic, batches, by_partition, read
from balance.messaging.offsets import OffsetBook
from balance.messaging.partition import SEGMENT_BYTES, Body, PartitionLog, write_file_durably
from balance.messaging.progress import Ranges
from balance.messaging.topics import check_topic
from balance.messaging.writer import Append, Call, LogWriter, Together
from balance.types import check_id, check_int, check_number

MAX_PARTITIONS = 1_000
MAX_TOPICS = 20_000
DEFAULT_RETENTION_BYTES = 2**30
DEFAULT_RETENTION_S = 7 * 86_400.0
SESSION_S = 10.0


class EmbeddedLog:
    """A `Broker` on the files of one directory.

    Parameters
    ----------
    directory : str or Path
        Where everything lies; created with mode 0700.
    clock : Clock, optional
        Dates records (`wall`) and notices silent members (`now`).
    segment_bytes : int, default 64 MiB
        Size at which a segment is closed; retention deletes whole segments.
    session_s : float, default 10
        A member that has not polled for so long is taken out of its group.

    Raises
    ------
    StorageError
        Another process (named in the message) has it open, or the directory can't be written.

    Examples
    --------
    >>> import tempfile
    >>> async def main(folder):
    ...     log = EmbeddedLog(folder)
    ...     await log.create_topic("greetings", partitions=2)
    ...     await log.append("greetings", [Outgoing(b"k", b'"hello"', {})])
    ...     joined = await log.poll("greetings", "g", "m", generation=0, positions={})
    ...     polled = await log.poll("greetings", "g", "m", generation=joined.generation, positions=joined.assigned)
    ...     await log.close()
    ...     return [record.value for record in polled.records]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    [b'"hello"']
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        clock: Clock | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        session_s: float = SESSION_S,
    ) -> None:
        self.directory = Path(directory)
        self._clock = clock if clock is not None else SystemClock()
        self._segment_bytes = check_int("segment_bytes", segment_bytes, minimum=1)
        self._session_s = check_number("session_s", session_s, minimum=0.0, what="number of seconds")
        self._lock_fd = _lock(self.directory)
        try:
            self._offsets = OffsetBook(self.directory / "offsets")
            self._topics = self._recover_topics()
            self._offsets.redo(self._partition_of)
        except BaseException as error:
            os.close(self._lock_fd)
            if isinstance(error, OSError):
                raise StorageError(f"the embedded log in {str(self.directory)!r} can't be read: {error}") from error
            raise
        self._groups: dict[tuple[str, str], ConsumerGroup] = {}
        self._pending: dict[tuple[str, str], set[Future[None]]] = {}  # commits of a group that are being written
        self._writer = LogWriter(self._clock.wall)
        self._closed = False

    def __repr__(self) -> str:
        return f"EmbeddedLog({str(self.directory)!r})"

    async def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        *,
        replication: int = 1,
        retention_bytes: int | None = None,
        retention_s: float | None = None,
    ) -> bool:
        """Create `topic` (see `Broker`), one copy of it; retention defaults to 1 GiB and 7 days a partition."""
        check_topic(topic)
        check_int("replication", replication, minimum=1)
        count = check_int("partitions", partitions, minimum=1)
        if count > MAX_PARTITIONS:
            raise InvalidValue("partitions", partitions, f"at most {MAX_PARTITIONS}")
        if topic in self._topics:
            return False
        if len(self._topics) >= MAX_TOPICS:
            raise InvalidValue("topic", topic, f"one of at most {MAX_TOPICS} topics")
        settings = {
            "partitions": count,
            "retention_bytes": DEFAULT_RETENTION_BYTES if retention_bytes is None else retention_bytes,
            "retention_s": DEFAULT_RETENTION_S if retention_s is None else retention_s,
        }
        job = Call(lambda: self._create(topic, settings))
        self._writer.submit(job)
        return bool(await asyncio.wrap_future(job.future))

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic, by name."""
        return {name: len(self._topics[name].partitions) for name in sorted(self._topics)}

    async def append(self, topic: str, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Append `records` durably (see `Broker`).

        Where a key goes is its CRC-32 modulo the partitions, as librdkafka's *consistent* partitioner has it; the
        records of one call without a key go together, call by call to the next partition.
        """
        if not records:
            return []
        there = self._topic(topic)
        grouped = by_partition(there, records)
        await self._room()
        job = Append(
            [(there.partitions[number], batches(records, indexes)) for number, indexes in grouped.items()],
            there.bell.ring,
        )
        self._writer.submit(job)
        bases = await asyncio.wrap_future(job.future)
        placed: list[tuple[int, int]] = [(-1, -1)] * len(records)
        for (number, indexes), base in zip(grouped.items(), bases, strict=True):
            for rank, index in enumerate(indexes):
                placed[index] = (number, base + rank)
        return placed

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
        """Join or stay in `group` and read from `positions` on (see `Broker`)."""
        there, members = self._topic(topic), self._group(topic, group)
        check_id("member", member)
        deadline = asyncio.get_running_loop().time() + wait_s
        with there.bell.listening() as rung:
            while True:
                rung.clear()
                before, now = members.generation, self._clock.now()
                members.beat(member, now)
                members.expire(now)
                if members.generation != before:
                    there.bell.ring()  # the other members have to hear of it
                assigned = {
                    number: max(self._offsets.committed(topic, group, number), there.partitions[number].start_offset)
                    for number in members.assignment(member)
                }
                if members.generation != generation:
                    if pending := self._pending.get((topic, group)):
                        # What former owners were allowed to commit counts before anyone is told where to begin.
                        await asyncio.wait([asyncio.wrap_future(future) for future in pending])
                        continue
                    beyond = {number: self._offsets.beyond(topic, group, number) for number in assigned}
                    return Polled(
                        members.generation, assigned, beyond={n: found for n, found in beyond.items() if found}
                    )
                wanted = [(number, positions[number]) for number in assigned if number in positions]
                if any(there.partitions[number].end_offset > start for number, start in wanted):
                    records = await asyncio.to_thread(read, there.partitions, wanted, max_records)
                    return Polled(generation, assigned, records)
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0:
                    return Polled(generation, assigned)
                with suppress(TimeoutError):  # wake in time to beat again, and to notice silent members
                    async with asyncio.timeout(min(left_s, self._session_s / 3)):
                        await rung.wait()

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
        """Record how far `group` has come (see `Broker`).

        Raises
        ------
        InvalidValue
            An offset is not between the partition's start and end, or a record is too large.
        """
        targets = [
            (self._topic(name), name, [send.record for send in sends if send.topic == name])
            for name in sorted({send.topic for send in sends})
        ]
        if sends:
            await self._room()
        there, members = self._topic(topic), self._group(topic, group)
        if generation is not None and generation != members.generation:
            return sorted(offsets)
        refused = sorted(number for number in offsets if not members.owns(member, number))
        if refused and sends:
            return sorted(offsets)
        taken = {number: offset for number, offset in offsets.items() if number not in refused}
        for number, offset in taken.items():
            if not 0 <= offset <= there.partitions[number].end_offset:
                raise InvalidValue(
                    "offset", offset, f"0 to {there.partitions[number].end_offset}, the end of partition {number}"
                )
        if taken:
            await self._commit((topic, group), taken, {n: r for n, r in (beyond or {}).items() if n in taken}, targets)
        return refused

    async def _commit(
        self,
        who: tuple[str, str],
        taken: Mapping[int, int],
        beyond: Mapping[int, Ranges],
        targets: Sequence[tuple[LogTopic, str, list[Outgoing]]],
    ) -> None:
        placed = [
            (target, name, number, [records[index] for index in indexes])
            for target, name, records in targets
            for number, indexes in by_partition(target, records).items()
        ]

        def entry(bases: Sequence[int]) -> Body:
            sends = [
                ((name, number, base + rank), record)
                for (_, name, number, records), base in zip(placed, bases, strict=True)
                for rank, record in enumerate(records)
            ]
            return self._offsets.entry(*who, taken, beyond, sends)

        def durable() -> None:
            self._offsets.apply(*who, taken, beyond)
            for target, _, _ in targets:
                target.bell.ring()

        parts = [
            (target.partitions[number], batches(records, range(len(records)))) for target, _, number, records in placed
        ]
        job = Together(self._offsets.partition, entry, parts, durable)
        pending = self._pending.setdefault(who, set())
        pending.add(job.future)
        job.future.add_done_callback(pending.discard)
        self._writer.submit(Call(lambda: self._offsets.compact(self._clock.wall())), job)
        await asyncio.wrap_future(job.future)

    async def leave(self, topic: str, group: str, member: str) -> None:
        """Take `member` out of `group` and wake the others, so that they take over at once."""
        if (members := self._groups.get((topic, group))) is not None:
            members.leave(member)
            self._topics[topic].bell.ring()

    async def lag(self, topic: str, group: str) -> dict[int, int]:
        """Return for each partition how many records `group` has not committed yet."""
        out: dict[int, int] = {}
        for number, partition in enumerate(self._topic(topic).partitions):
            committed = self._offsets.committed(topic, group, number)
            out[number] = partition.end_offset - max(committed, partition.start_offset)
        return out

    async def close(self) -> None:
        """Write out what was handed in and unlock the directory; safe to call twice."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """Do what `close` does from a thread without an event loop."""
        if not self._closed:
            self._closed = True
            self._writer.close()
            os.close(self._lock_fd)

    async def _room(self) -> None:
        """Wait until the writer has room."""
        while (full_until := self._writer.full_until()) is not None:
            await asyncio.shield(asyncio.wrap_future(full_until))  # shared by all who wait

    def _topic(self, topic: str) -> LogTopic:
        there = self._topics.get(topic)
        if there is None:
            raise UnknownId("topic", topic, self._topics)
        return there

    def _group(self, topic: str, group: str) -> ConsumerGroup:
        key = (topic, check_id("group", group))
        if key not in self._groups:
            # Never the number of a generation of a former process: who knows that one has to hear of this one.
            first = int(self._clock.wall() * 1_000)
            self._groups[key] = ConsumerGroup(len(self._topic(topic).partitions), self._session_s, generation=first)
        return self._groups[key]

    def _create(self, topic: str, settings: dict[str, Any]) -> bool:
        if topic in self._topics:
            return False
        directory = self.directory / "topics" / topic
        made = LogTopic(directory, settings, self._segment_bytes)
        write_file_durably(directory / "topic.json", json.dumps(settings).encode())  # last: it makes the topic exist
        self._topics = {**self._topics, topic: made}  # as a whole: other threads may be looping over it
        return True

    def _partition_of(self, topic: str, number: int) -> PartitionLog | None:
        there = self._topics.get(topic)
        return there.partitions[number] if there is not None and number < len(there.partitions) else None

    def _recover_topics(self) -> dict[str, LogTopic]:
        root = self.directory / "topics"
        root.mkdir(mode=0o700, exist_ok=True)
        found: dict[str, LogTopic] = {}
        for path in sorted(root.iterdir()):
            described = path / "topic.json"
            if described.is_file():  # without it the topic was never acknowledged
                found[path.name] = LogTopic(path, json.loads(described.read_bytes()), self._segment_bytes)
        return found


def _lock(directory: Path) -> int:
    """Take the directory for this process; return the descriptor that holds it until the process ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(
            f"the embedded log can't be written in {str(directory)!r} ({error.strerror or error}); "
            "name another state directory with BALANCE_STATE_DIR",
            path=str(directory),
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StorageError(
            f"the embedded log in {str(directory)!r} is open already (process {holder}); use that one through the "
            "messaging actor, end it, or name another state directory with BALANCE_STATE_DIR",
            path=str(directory),
            process=holder,
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
