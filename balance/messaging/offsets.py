"""How far each consumer group has come, kept in a partition of the log's own.

A commit is one record there, so it is written, synced and recovered by the same code as every message.  Reading the
partition from its start gives the state; when it has grown, a snapshot opens a new segment and the older ones go.
A crash between the two is harmless: old records followed by the snapshot give the same state.

`load` runs before the writer thread takes jobs, everything else in that thread; `committed` may be called from any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from balance.messaging import framing
from balance.messaging.broker import Outgoing
from balance.messaging.partition import Body, PartitionLog

COMPACT_ABOVE_BYTES = 4 * 2**20


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
        self._committed: dict[tuple[str, str, int], int] = {}
        self._load()

    def committed(self, topic: str, group: str, partition: int) -> int:
        """Return the offset of the next record that `group` wants; 0 if it never committed."""
        return self._committed.get((topic, group, partition), 0)

    def entry(self, topic: str, group: str, offsets: Mapping[int, int]) -> Body:
        """Return the record that stands for a commit."""
        lines = [[topic, group, partition, offset] for partition, offset in sorted(offsets.items())]
        return _body(lines)

    def apply(self, topic: str, group: str, offsets: Mapping[int, int]) -> None:
        """Take over a commit that is durable."""
        for partition, offset in offsets.items():
            self._committed[topic, group, partition] = offset

    def compact(self, timestamp_s: float) -> None:
        """Replace a partition that has grown by a snapshot of its state."""
        if self.partition.size_bytes <= COMPACT_ABOVE_BYTES:
            return
        self.partition.roll()
        lines = [[*key, offset] for key, offset in sorted(self._committed.items())]
        self.partition.write([_body(lines)], timestamp_s=timestamp_s)
        self.partition.keep_only_newest()

    def _load(self) -> None:
        offset = self.partition.start_offset
        while records := self.partition.read(offset, 1_000):
            offset = records[-1].offset + 1
            for record in records:
                for topic, group, partition, committed in json.loads(record.value):
                    self._committed[topic, group, partition] = committed


def _body(lines: list[list[object]]) -> Body:
    value = json.dumps(lines, separators=(",", ":")).encode()
    return Body(framing.encode_body([Outgoing(None, value, {})]), 1)
