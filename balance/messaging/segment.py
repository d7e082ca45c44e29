"""One segment file of a partition, with its sparse index.

``<base offset>.log`` holds batches (see `framing`); ``<base offset>.index`` holds, about every 16 KiB, the offset and
position of a batch.  An index entry is written after the batch that it names is on disk, so everything before the last
good entry needs no checking when the log is opened: recovery reads one stretch of at most a few batches, however long
the segment is.  The index is a hint that is checked against the log, never a second truth: losing it costs a scan.

No file stays open: each write and read opens, works and closes (about 10 microseconds).  So a thousand topics need no
file descriptors, and deleting a segment that someone reads is safe (POSIX keeps the file until the reader closes it).

One thread writes; any thread may read.
"""

from __future__ import annotations

import logging
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from balance.errors import StorageError
from balance.messaging import framing
from balance.messaging.broker import Record

INDEX_EVERY_BYTES = 16 * 1024
READ_BYTES = 512 * 1024
_ENTRY = struct.Struct(">QQ")

logger = logging.getLogger(__name__)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (a new file's name is not durable by syncing the file)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Segment:
    """A file of batches whose first record has the offset `base_offset`.

    Parameters
    ----------
    directory : Path
        The partition's directory.
    base_offset : int
        The offset of the first record.

    Attributes
    ----------
    size_bytes : int
        How much of the file is valid and durable.
    """

    def __init__(self, directory: Path, base_offset: int) -> None:
        self.base_offset = base_offset
        self.path = directory / f"{base_offset:020d}.log"
        self._index_path = self.path.with_suffix(".index")
        self.size_bytes = self.path.stat().st_size if self.path.exists() else 0
        # Two lists, positions first: a reader that bisects offsets always finds the position that belongs to it.
        self._positions: list[int] = []
        self._offsets: list[int] = []
        self._index_loaded = self.size_bytes == 0
        # Where the last read ended, as one tuple: most reads go on from there.  Only a hint.
        self._cursor = (base_offset, 0)

    def create(self) -> None:
        """Create the empty files and make their names durable."""
        for path in (self.path, self._index_path):
            os.close(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        sync_directory(self.path.parent)
        self.size_bytes, self._positions, self._offsets, self._index_loaded = 0, [], [], True

    def recover(self) -> int:
        """Cut off a torn tail and return the offset after the last whole batch.

        Cost: O(entries of the index) to load it, then the bytes after the last good entry.
        """
        self._load_index()
        while self._offsets:
            start, expected = self._positions[-1], self._offsets[-1]
            if (header := self._intact_header(start)) is not None and header.base_offset == expected:
                break
            self._positions.pop()
            self._offsets.pop()
        else:
            start, expected = 0, self.base_offset
        position, next_offset = self._scan(start, expected)
        self._write_index()
        if position < self.size_bytes:
            logger.warning(
                "log.torn_tail segment=%s kept_bytes=%d cut_bytes=%d",
                self.path,
                position,
                self.size_bytes - position,
            )
            self._truncate(position)
        return next_offset

    def append(self, frames: list[tuple[int, bytes]]) -> None:
        """Write ``(base offset, frame)`` pairs with one write and one sync.

        Raises
        ------
        StorageError
            Nothing of it counts: the file was cut back to what it was.
        """
        data = b"".join(frame for _, frame in frames)
        try:
            fd = os.open(self.path, os.O_WRONLY)
            try:
                # pwrite at the known end, not O_APPEND: leftovers of a failed write are overwritten.
                written = 0
                while written < len(data):
                    written += os.pwrite(fd, memoryview(data)[written:], self.size_bytes + written)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._truncate_quietly()
            raise StorageError(
                f"the log could not write to {self.path} ({error.strerror or error}); "
                "nothing of this append was kept: make room or check the disk, then try again",
                path=str(self.path),
            ) from error
        self._index(frames)
        self.size_bytes += len(data)

    def cut(self, size_bytes: int) -> None:
        """Take back what was appended after the file was this large; nobody may have been shown it."""
        self.size_bytes = size_bytes
        while self._positions and self._positions[-1] >= size_bytes:
            self._offsets.pop()
            self._positions.pop()
        self._truncate_quietly()

    def read(self, partition: int, start: int, end: int, max_records: int, max_bytes: int) -> list[Record]:
        """Return records with offsets from `start` and below `end`, until one of the limits is reached.

        Raises
        ------
        StorageError
            The file is damaged where it was sound when it was written: nothing corrupt is ever delivered.
        """
        out: list[Record] = []
        cursor_offset, position = self._cursor
        if cursor_offset != start:
            position = self.position_of(start)
        for data, at, header in self._batches(position):
            if header.base_offset >= end:
                break
            position += header.frame_bytes
            if header.next_offset <= start:
                continue
            for record in framing.decode(data, at, header, partition=partition, start=start):
                out.append(record)
                max_bytes -= len(record.value)
                if len(out) >= max_records or max_bytes <= 0:
                    break
            if len(out) >= max_records or max_bytes <= 0:
                break
        if out and out[-1].offset + 1 == header.next_offset:
            self._cursor = (header.next_offset, position)
        return out

    def first_timestamp_s(self) -> float | None:
        """Return the POSIX time of the first batch, or None in an empty segment."""
        header = self._intact_header(0)
        return None if header is None else header.timestamp_s

    def position_of(self, offset: int) -> int:
        """Return a position at or before the batch that holds `offset`."""
        self._load_index()
        at = bisect_right(self._offsets, offset) - 1
        return self._positions[at] if at >= 0 else 0

    def delete(self) -> None:
        """Remove the files; the log first, since an index without a log is ignored."""
        self.path.unlink(missing_ok=True)
        self._index_path.unlink(missing_ok=True)

    def _batches(self, position: int) -> Iterator[tuple[bytes, int, framing.BatchHeader]]:
        """Yield ``(data, place in data, header)`` of each batch from `position` to the durable end."""
        size = self.size_bytes
        fd = os.open(self.path, os.O_RDONLY)
        try:
            want = READ_BYTES
            while position < size:
                data = os.pread(fd, min(want, size - position), position)
                at = 0
                while (header := framing.read_header(data, at)) and at + header.frame_bytes <= len(data):
                    if not framing.is_intact(data, at, header):
                        raise self._damaged(position + at)
                    yield data, at, header
                    at += header.frame_bytes
                if at == 0:  # not one whole batch in what was read: read exactly that batch, or give up
                    if header is None or position + header.frame_bytes > size or want == header.frame_bytes:
                        raise self._damaged(position)
                    want = header.frame_bytes
                    continue
                position, want = position + at, READ_BYTES
        finally:
            os.close(fd)

    def _damaged(self, position: int) -> StorageError:
        return StorageError(
            f"the log is damaged at byte {position} of {self.path}; restore the file from a copy, "
            "or move it away to go on with the records after it",
            path=str(self.path),
            position=position,
        )

    def _intact_header(self, position: int) -> framing.BatchHeader | None:
        if position >= self.size_bytes:
            return None
        fd = os.open(self.path, os.O_RDONLY)
        try:
            header = framing.read_header(os.pread(fd, framing.HEADER_BYTES, position), 0)
            if header is None or position + header.frame_bytes > self.size_bytes:
                return None
            data = os.pread(fd, header.frame_bytes, position)
        finally:
            os.close(fd)
        return header if framing.is_intact(data, 0, header) else None

    def _scan(self, position: int, next_offset: int) -> tuple[int, int]:
        """Return the position and offset after the last whole batch in sequence."""
        try:
            for _, _, header in self._batches(position):
                if header.base_offset != next_offset:
                    break
                self._note(next_offset, position)
                position += header.frame_bytes
                next_offset = header.next_offset
        except StorageError:
            pass  # the tail is torn here: what comes after was never acknowledged
        return position, next_offset

    def _index(self, frames: list[tuple[int, bytes]]) -> None:
        position, entries = self.size_bytes, b""
        for offset, frame in frames:
            if self._note(offset, position):
                entries += _ENTRY.pack(offset, position)
            position += len(frame)
        if entries:
            with self._index_path.open("ab") as index:
                index.write(entries)

    def _note(self, offset: int, position: int) -> bool:
        """Add an index entry if the last one is far enough away; say whether one was added."""
        if position - (self._positions[-1] if self._positions else 0) < INDEX_EVERY_BYTES:
            return False
        self._positions.append(position)
        self._offsets.append(offset)
        return True

    def _load_index(self) -> None:
        if self._index_loaded:
            return
        raw = self._index_path.read_bytes() if self._index_path.exists() else b""
        whole = raw[: len(raw) - len(raw) % _ENTRY.size]
        offsets: list[int] = []
        positions: list[int] = []
        for offset, position in _ENTRY.iter_unpack(whole):
            in_order = not offsets or (offset > offsets[-1] and position > positions[-1])
            if not in_order or offset < self.base_offset or position >= self.size_bytes:
                break
            offsets.append(offset)
            positions.append(position)
        self._positions, self._offsets, self._index_loaded = positions, offsets, True

    def _write_index(self) -> None:
        entries = b"".join(map(_ENTRY.pack, self._offsets, self._positions))
        if not self._index_path.exists() or self._index_path.stat().st_size != len(entries):
            self._index_path.write_bytes(entries)

    def _truncate(self, size: int) -> None:
        fd = os.open(self.path, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.size_bytes = size

    def _truncate_quietly(self) -> None:
        try:
            self._truncate(self.size_bytes)
        except OSError:
            logger.warning("log.truncate_failed segment=%s", self.path)
