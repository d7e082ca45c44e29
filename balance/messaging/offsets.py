"""How far each consumer group has come, kept in a partition of the log's own.

A commit is one record there, so it is written, synced and recovered by the same code as every message.  Reading the
partition from its start gives the state; when it has grown, a snapshot opens a new segment and the older ones go.
A crash between the two is harmless: old records followed by the snapshot give the same state.

Messages that go with a commit lie in the same batch as it, with the places that they get: once that batch is on disk
they are sent, and what did not come to its partition before a crash is written there when the log is opened (`redo`).

`load` runs before the writer thread takes jobs, everything else in that thread; `committed` may be called from any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from balance.errors import StorageError
from balance.messaging import framing
from balance.messaging.broker import Outgoing, Record
from balance.messaging.partition import Body, PartitionLog
from balance.messaging.progress import Ranges, merged

COMPACT_ABOVE_BYTES = 4 * 2**20
#: The header of a record that is a message: where it goes, and its own headers.
_SENT = "sent"

#: A message that goes with a commit: its topic, partition and offset.
Place = tuple[str, int, int]


class OffsetBook:
    """The committed offsets of all groups.

    Parameters
    ----------
    directory : Path
        Where the partition lies.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     book = OffsetBook(Path(folder) / "offsets")
    ...     _ = book.partition.write([book.entry("topic", "group", {0: 7})], timestamp_s=0.0)
    ...     OffsetBook(Path(folder) / "offsets").committed("topic", "group", 0)
    7
    """

    def __init__(self, directory: Path) -> None:
        self.partition = PartitionLog(directory, 0)
        self._committed: dict[tuple[str, str, int], tuple[int, Ranges]] = {}
        self._sent: list[Record] = []
        self._load()

    def committed(self, topic: str, group: str, partition: int) -> int:
        """Return the offset of the next record that `group` wants; 0 if it never committed."""
        return self._committed.get((topic, group, partition), (0, ()))[0]

    def beyond(self, topic: str, group: str, partition: int) -> Ranges:
        """Return what the group has handled beyond that."""
        return self._committed.get((topic, group, partition), (0, ()))[1]

    def entry(
        self,
        topic: str,
        group: str,
        offsets: Mapping[int, int],
        beyond: Mapping[int, Ranges] | None = None,
        sends: Sequence[tuple[Place, Outgoing]] = (),
    ) -> Body:
        """Return the batch that stands for a commit, and for what goes with it."""
        lines = [_line(topic, group, number, at, (beyond or {}).get(number, ())) for number, at in offsets.items()]
        return _body(lines, [_sent(place, record) for place, record in sends])

    def apply(
        self, topic: str, group: str, offsets: Mapping[int, int], beyond: Mapping[int, Ranges] | None = None
    ) -> None:
        """Take over a commit that is durable."""
        for partition, offset in offsets.items():
            self._committed[topic, group, partition] = (offset, (beyond or {}).get(partition, ()))

    def compact(self, timestamp_s: float) -> None:
        """Replace a partition that has grown by a snapshot of its state."""
        if self.partition.size_bytes <= COMPACT_ABOVE_BYTES:
            return
        self.partition.roll()
        lines = [_line(*key, *state) for key, state in sorted(self._committed.items())]
        self.partition.write([_body(lines)], timestamp_s=timestamp_s)
        self.partition.keep_only_newest()

    def redo(self, partition_of: Callable[[str, int], PartitionLog | None]) -> int:
        """Write what was sent with a commit to where it belongs, if it is not there; return how many messages.

        Raises
        ------
        StorageError
            A partition has lost what lay before.
        """
        redone = 0
        for record in self._sent:
            (topic, number, offset), headers = json.loads(record.headers[_SENT])
            partition = partition_of(topic, number)
            if partition is None or partition.end_offset > offset:
                continue
            if partition.end_offset < offset:
                raise StorageError(f"partition {number} of {topic!r} ends at {partition.end_offset}, before {offset}")
            body = framing.encode_body([Outgoing(record.key, record.value, headers)])
            partition.write([Body(body, 1)], timestamp_s=record.timestamp_s)
            redone += 1
        self._sent.clear()
        return redone

    def _load(self) -> None:
        offset = self.partition.start_offset
        while records := self.partition.read(offset, 1_000):
            offset = records[-1].offset + 1
            for record in records:
                if _SENT in record.headers:
                    self._sent.append(record)
                    continue
                for topic, group, partition, committed, *beyond in json.loads(record.value):
                    ranges = merged((start, end) for start, end in (beyond[0] if beyond else ()))
                    self._committed[topic, group, partition] = (committed, ranges)


def _line(topic: str, group: str, partition: int, offset: int, beyond: Ranges) -> list[object]:
    return [topic, group, partition, offset, *([beyond] if beyond else [])]


def _sent(place: Place, record: Outgoing) -> Outgoing:
    return Outgoing(record.key, record.value, {_SENT: json.dumps([place, record.headers], separators=(",", ":"))})


def _body(lines: list[list[object]], sends: Sequence[Outgoing] = ()) -> Body:
    value = json.dumps(lines, separators=(",", ":")).encode()
    return Body(framing.encode_body([Outgoing(None, value, {}), *sends]), 1 + len(sends))
