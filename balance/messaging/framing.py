r"""How batches of records lie in a segment file.

A batch is the unit of writing, checking and recovery: it is either there as a whole or not at all.

====== ===== ==========================================================
offset bytes field (big endian)
====== ===== ==========================================================
0      4     magic ``BLG1``
4      4     length of the body in bytes
8      4     CRC-32 (zlib) of everything after this field
12     8     offset of the first record
20     8     POSIX time in seconds, IEEE double
28     4     number of records
32     ...   body: for each record key length (-1: no key), value length,
             headers length, then key, value, headers (a JSON object)
====== ===== ==========================================================

Examples
--------
>>> body = encode_body([Outgoing(b"k", b"{}", {"a": "b"}), Outgoing(None, b"[]", {})])
>>> frame = seal(body, base_offset=7, timestamp_s=0.0, count=2)
>>> header = read_header(frame, 0)
>>> [(r.offset, r.key, r.value, r.headers) for r in decode(frame, 0, header, partition=0)]
[(7, b'k', b'{}', {'a': 'b'}), (8, None, b'[]', {})]
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from balance.messaging.broker import Outgoing, Record

MAGIC = b"BLG1"
_HEADER = struct.Struct(">4sIIQdI")
_CHECKED = struct.Struct(">QdI")  # the part of the header that the CRC covers
_RECORD = struct.Struct(">iII")
HEADER_BYTES = _HEADER.size
_CHECKED_FROM = HEADER_BYTES - _CHECKED.size


class BatchHeader(NamedTuple):
    """What the 32 bytes before a batch's body say."""

    body_bytes: int
    crc: int
    base_offset: int
    timestamp_s: float
    records: int

    @property
    def frame_bytes(self) -> int:
        """Header and body."""
        return HEADER_BYTES + self.body_bytes

    @property
    def next_offset(self) -> int:
        """The offset after the last record."""
        return self.base_offset + self.records


def encode_body(records: Sequence[Outgoing]) -> bytes:
    """Return the body of a batch that holds `records`."""
    parts: list[bytes] = []
    for key, value, headers in records:
        packed = json.dumps(headers, separators=(",", ":")).encode() if headers else b""
        if key is None:
            parts += (_RECORD.pack(-1, len(value), len(packed)), value, packed)
        else:
            parts += (_RECORD.pack(len(key), len(value), len(packed)), key, value, packed)
    return b"".join(parts)


def seal(body: bytes, *, base_offset: int, timestamp_s: float, count: int) -> bytes:
    """Return the frame: `body` behind its header."""
    crc = zlib.crc32(body, zlib.crc32(_CHECKED.pack(base_offset, timestamp_s, count)))
    return _HEADER.pack(MAGIC, len(body), crc, base_offset, timestamp_s, count) + body


def read_header(data: bytes | memoryview, at: int) -> BatchHeader | None:
    """Return the header at `at`, or None where there is no whole one."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, body_bytes, crc, base_offset, timestamp_s, count = _HEADER.unpack_from(data, at)
    return BatchHeader(body_bytes, crc, base_offset, timestamp_s, count) if magic == MAGIC else None


def is_intact(data: bytes | memoryview, at: int, header: BatchHeader) -> bool:
    """Say whether the whole batch lies at `at` and its checksum fits."""
    end = at + header.frame_bytes
    return end <= len(data) and zlib.crc32(memoryview(data)[at + _CHECKED_FROM : end]) == header.crc


def decode(data: bytes, at: int, header: BatchHeader, *, partition: int, start: int = 0) -> Iterator[Record]:
    """Yield the records of the intact batch at `at` whose offset is `start` or more."""
    cursor = at + HEADER_BYTES
    timestamp_s = header.timestamp_s
    unpack, prefix = _RECORD.unpack_from, _RECORD.size
    for offset in range(header.base_offset, header.next_offset):
        key_bytes, value_bytes, headers_bytes = unpack(data, cursor)
        key_at = cursor + prefix
        value_at = key_at + key_bytes if key_bytes > 0 else key_at
        headers_at = value_at + value_bytes
        cursor = headers_at + headers_bytes
        if offset < start:
            continue
        yield Record(
            partition,
            offset,
            data[key_at:value_at] if key_bytes >= 0 else None,
            data[value_at:headers_at],
            json.loads(data[headers_at:cursor]) if headers_bytes else {},
            timestamp_s,
        )
