"""One partition of the embedded log: an ordered run of records over a few segment files.

Records get consecutive offsets.  What `write` returned is durable and readable; what it raised for is neither.  Old
segments go when the partition is larger than its retention or all their records are older; the newest one stays.

One thread writes; any thread may read.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from balance.messaging import framing
from balance.messaging.broker import Record
from balance.messaging.segment import Segment, sync_directory

SEGMENT_BYTES = 64 * 2**20

logger = logging.getLogger(__name__)


class Body(NamedTuple):
    """An encoded batch (`framing.encode_body`) and how many records it holds."""

    data: bytes
    records: int


class PartitionLog:
    """The records of one partition.

    Parameters
    ----------
    directory : Path
        Where its segments lie; created where it is missing, recovered where it is not.
    number : int
        The partition's number, which its records carry.
    segment_bytes : int
        From this size on a new segment is begun.
    retention_bytes, retention_s : int, float, or None
        How much, and for how long, records are kept: whole segments go when a new one is begun, so an idle partition
        keeps what it has.  None keeps everything.

    Examples
    --------
    >>> import tempfile
    >>> from balance.messaging.broker import Outgoing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = PartitionLog(Path(folder) / "0", 0)
    ...     body = framing.encode_body([Outgoing(None, b"{}", {}), Outgoing(None, b"[]", {})])
    ...     log.write([Body(body, 2)], timestamp_s=0.0)
    ...     [(r.offset, r.value) for r in log.read(1, 10)]
    [0]
    [(1, b'[]')]
    """

    def __init__(
        self,
        directory: Path,
        number: int,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        retention_bytes: int | None = None,
        retention_s: float | None = None,
    ) -> None:
        self.directory = directory
        self.number = number
        self._segment_bytes = segment_bytes
        self._retention_bytes = retention_bytes
        self._retention_s = retention_s
        if not directory.is_dir():
            directory.mkdir(parents=True, mode=0o700)
            sync_directory(directory.parent)
        bases = sorted(int(path.stem) for path in directory.glob("*.log") if path.stem.isdigit())
        # Replaced as a whole, never changed in place: a reader in another thread keeps the tuple that it took.
        self._segments: tuple[Segment, ...] = tuple(Segment(directory, base) for base in bases)
        if not self._segments:
            first = Segment(directory, 0)
            first.create()
            self._segments = (first,)
        self._end = self._segments[-1].recover()
        self._staged = (self._end, 0)

    @property
    def start_offset(self) -> int:
        """The offset of the oldest record that is kept."""
        return self._segments[0].base_offset

    @property
    def end_offset(self) -> int:
        """The offset that the next record will get."""
        return self._end

    @property
    def size_bytes(self) -> int:
        """What the segments take on disk."""
        return sum(segment.size_bytes for segment in self._segments)

    def write(self, bodies: list[Body], *, timestamp_s: float) -> list[int]:
        """Append batches durably with one sync; return the first offset of each.

        Raises
        ------
        StorageError
            None of them was kept.
        """
        bases = self.stage(bodies, timestamp_s=timestamp_s)
        self.show()
        return bases

    def stage(self, bodies: list[Body], *, timestamp_s: float) -> list[int]:
        """Do what `write` does, and keep it from readers until `show`; `unstage` takes it back."""
        if self._segments[-1].size_bytes >= self._segment_bytes:
            self.roll()
            self._retain(timestamp_s)
        frames: list[tuple[int, bytes]] = []
        offset = self._end
        for data, count in bodies:
            frames.append((offset, framing.seal(data, base_offset=offset, timestamp_s=timestamp_s, count=count)))
            offset += count
        before = self._segments[-1].size_bytes
        self._segments[-1].append(frames)
        self._staged = (offset, before)
        return [base for base, _ in frames]

    def show(self) -> None:
        """Let readers see what was staged."""
        self._end = self._staged[0]

    def unstage(self) -> None:
        """Take back what was staged last and not shown."""
        self._segments[-1].cut(self._staged[1])

    def read(self, start: int, max_records: int, max_bytes: int = 2**62) -> list[Record]:
        """Return records from `start` on; from the oldest one if `start` is gone already.

        At most `max_records`, and no more once their values have reached `max_bytes`; at least one if there is one.

        Raises
        ------
        StorageError
            A segment is damaged.
        """
        end = self._end
        segments = self._segments
        start = max(start, segments[0].base_offset)
        out: list[Record] = []
        for index, segment in enumerate(segments):
            upper = segments[index + 1].base_offset if index + 1 < len(segments) else end
            if start >= upper:
                continue
            if len(out) >= max_records or max_bytes <= 0:
                break
            try:
                found = segment.read(self.number, start, upper, max_records - len(out), max_bytes)
            except FileNotFoundError:  # retention took it while we were reading
                found = []
            out += found
            max_bytes -= sum(len(record.value) for record in found)
            start = upper
        return out

    def roll(self) -> None:
        """Begin a new segment, if the newest one holds anything."""
        if self._segments[-1].base_offset == self._end:
            return
        fresh = Segment(self.directory, self._end)
        fresh.create()
        self._segments = (*self._segments, fresh)

    def keep_only_newest(self) -> None:
        """Delete every segment but the newest (what it holds stands for all before it)."""
        self._drop([self._segments[-1]], list(self._segments[:-1]))

    def _retain(self, now_s: float) -> None:
        kept = list(self._segments)
        gone: list[Segment] = []
        while len(kept) > 1:
            too_much = self._retention_bytes is not None and sum(s.size_bytes for s in kept) > self._retention_bytes
            # All of a segment is at least as old as the first record of the one after it.
            newer = kept[1].first_timestamp_s()
            too_old = self._retention_s is not None and newer is not None and newer < now_s - self._retention_s
            if not (too_much or too_old):
                break
            gone.append(kept.pop(0))
        self._drop(kept, gone)

    def _drop(self, kept: list[Segment], gone: list[Segment]) -> None:
        if not gone:
            return
        self._segments = tuple(kept)
        for segment in gone:
            segment.delete()
        logger.info("log.retained partition=%s dropped_segments=%d", self.directory, len(gone))


def write_file_durably(path: Path, data: bytes) -> None:
    """Replace `path` with `data` so that a crash leaves the old or the new content, never a mixture."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    sync_directory(path.parent)
