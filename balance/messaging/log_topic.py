"""One topic of the embedded log: its partitions, and which records go where and how."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balance.messaging import framing
from balance.messaging.bell import Bell
from balance.messaging.broker import Outgoing, Record, check_record
from balance.messaging.partition import Body, PartitionLog

#: A batch is checked as a whole; this keeps what a small read has to skip small.
BATCH_RECORDS = 500
BATCH_BYTES = 2**20
#: About how much one poll brings at most, in bytes.
READ_MAX_BYTES = 4 * 2**20


class LogTopic:
    """A topic's partitions, its settings, and the bell that rings when there is something new."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], segment_bytes: int) -> None:
        self.partitions = [
            PartitionLog(
                directory / str(number),
                number,
                segment_bytes=segment_bytes,
                retention_bytes=settings["retention_bytes"],
                retention_s=settings["retention_s"],
            )
            for number in range(settings["partitions"])
        ]
        self.bell = Bell()
        self.turn = 0  # where the next batch without a key goes


def by_partition(topic: LogTopic, records: Sequence[Outgoing]) -> dict[int, list[int]]:
    """Return by partition which of the records go there; each is checked."""
    grouped: dict[int, list[int]] = {}
    count = len(topic.partitions)
    for index, record in enumerate(records):
        check_record(record)
        number = topic.turn % count if record.key is None else zlib.crc32(record.key) % count
        grouped.setdefault(number, []).append(index)
    topic.turn += 1
    return grouped


def batches(records: Sequence[Outgoing], indexes: Sequence[int]) -> list[Body]:
    """Encode the chosen records in batches that are small enough to be read as a whole."""
    out: list[Body] = []
    chosen: list[Outgoing] = []
    size = 0
    for index in indexes:
        chosen.append(records[index])
        size += len(records[index].value)
        if len(chosen) == BATCH_RECORDS or size >= BATCH_BYTES:
            out.append(Body(framing.encode_body(chosen), len(chosen)))
            chosen, size = [], 0
    if chosen:
        out.append(Body(framing.encode_body(chosen), len(chosen)))
    return out


def read(partitions: Sequence[PartitionLog], wanted: Sequence[tuple[int, int]], max_records: int) -> list[Record]:
    """Read from each partition in turn, an equal share first, so that a full one does not starve the others."""
    out: list[Record] = []
    for rank, (number, start) in enumerate(wanted):
        share = max((max_records - len(out)) // (len(wanted) - rank), 1)
        if partitions[number].end_offset > start:
            out += partitions[number].read(start, share, READ_MAX_BYTES // len(wanted))
    return out
