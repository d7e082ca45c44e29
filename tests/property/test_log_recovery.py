"""Recovery of the embedded log: whatever a crash leaves of the tail, what was acknowledged before it survives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from balance.messaging import framing
from balance.messaging.broker import Outgoing
from balance.messaging.partition import Body, PartitionLog

_records = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=8),
        st.binary(max_size=400),
        st.dictionaries(st.text(max_size=4), st.text(max_size=8)),
    ).map(lambda t: Outgoing(*t)),
    min_size=1,
    max_size=6,
)


def _write(log: PartitionLog, batches: list[list[Outgoing]]) -> list[int]:
    """Append each batch on its own; return where the newest segment ends after each."""
    ends = []
    for batch in batches:
        log.write([Body(framing.encode_body(batch), len(batch))], timestamp_s=0.0)
        ends.append(log._segments[-1].size_bytes)
    return ends


def _everything(log: PartitionLog) -> list[Outgoing]:
    return [Outgoing(r.key, r.value, r.headers) for r in log.read(0, 10_000)]


@given(st.lists(_records, min_size=1, max_size=8), st.data())
def test_torn_tail(batches, data):
    """The file is cut at any byte, and garbage may follow: whole batches before the cut are there, nothing else is."""
    with tempfile.TemporaryDirectory() as folder:
        log = PartitionLog(Path(folder), 0)
        ends = _write(log, batches)
        path = log._segments[-1].path
        cut = data.draw(st.integers(0, ends[-1]))
        garbage = data.draw(st.binary(max_size=60))
        path.write_bytes(path.read_bytes()[:cut] + garbage)
        survivors = [r for batch, end in zip(batches, ends, strict=True) if end <= cut for r in batch]
        whole = [r for batch in batches for r in batch]

        again = PartitionLog(Path(folder), 0)
        read = _everything(again)
        assert read[: len(survivors)] == survivors
        assert read == whole[: len(read)]  # garbage that happens to complete a batch completes it rightly
        _write(again, [[Outgoing(None, b"next", {})]])
        assert _everything(PartitionLog(Path(folder), 0)) == [*read, Outgoing(None, b"next", {})]


@given(st.lists(_records, min_size=2, max_size=8), st.integers(1, 600), st.data())
def test_small_segments_and_a_flipped_bit(batches, segment_bytes, data):
    """Over any number of segments: reading again gives the same; a flipped bit is never delivered as a message."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / "0"
        log = PartitionLog(here, 0, segment_bytes=segment_bytes)
        _write(log, batches)
        whole = [r for batch in batches for r in batch]
        assert _everything(log) == whole
        assert _everything(PartitionLog(here, 0, segment_bytes=segment_bytes)) == whole

        path = data.draw(st.sampled_from(sorted(p for p in here.glob("*.log") if p.stat().st_size)))
        damaged = bytearray(path.read_bytes())
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(damaged)
        try:
            read = _everything(PartitionLog(here, 0, segment_bytes=segment_bytes))
        except Exception as error:  # noqa: BLE001
            assert type(error).__name__ == "StorageError"
        else:
            assert read == whole[: len(read)]
        shutil.rmtree(here)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.data())
def test_any_read_is_a_slice(sizes, data):
    """Reading from any offset with any limits gives consecutive records from there, at least one."""
    with tempfile.TemporaryDirectory() as folder:
        log = PartitionLog(Path(folder), 0, segment_bytes=data.draw(st.integers(1, 20_000)))
        for number, size in enumerate(sizes):
            body = framing.encode_body([Outgoing(None, str(number).encode() * size * 20, {})])
            log.write([Body(body, 1)], timestamp_s=0.0)
        for _ in range(5):
            start = data.draw(st.integers(0, len(sizes) - 1))
            limit, max_bytes = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 5_000))
            offsets = [r.offset for r in log.read(start, limit, max_bytes)]
            assert offsets == list(range(start, start + len(offsets)))
            assert 1 <= len(offsets) <= limit
