"""The embedded log: the promises of every broker, and those of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from balance.clock import FakeClock
from balance.errors import NotReady, StorageError
from balance.messaging import KafkaService
from balance.messaging.broker import Outgoing, Send
from balance.messaging.log import EmbeddedLog
from balance.messaging.partition import PartitionLog
from balance.messaging.segment import Segment

_spec = importlib.util.spec_from_file_location("broker_suite", Path(__file__).with_name("broker_suite.py"))
broker_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(broker_suite)
outgoing, read = broker_suite.outgoing, broker_suite.read


class TestEmbeddedLog(broker_suite.BrokerSuite):
    """The suite on files."""

    @pytest.fixture
    def run(self, tmp_path):
        def run(scenario):
            async def main():
                log = EmbeddedLog(tmp_path / "log")
                try:
                    return await scenario(log)
                finally:
                    await log.close()

            return asyncio.run(main())

        return run


def with_log(path, scenario, **options):
    async def main():
        log = EmbeddedLog(path, **options)
        try:
            return await scenario(log)
        finally:
            await log.close()

    return asyncio.run(main())


def test_second_opener_is_told_who_has_it(tmp_path):
    """Two owners would corrupt it: the second one gets an error that names the process and the way out."""

    async def scenario(log):
        with pytest.raises(StorageError, match=rf"process {os.getpid()}.*BALANCE_STATE_DIR"):
            EmbeddedLog(tmp_path)

    with_log(tmp_path, scenario)
    with_log(tmp_path, lambda log: asyncio.sleep(0))  # after closing it can be opened again


def test_unwritable_directory_is_a_clear_error(tmp_path):
    """The error names the directory and the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="BALANCE_STATE_DIR"):
        EmbeddedLog(tmp_path / "file" / "log")


def test_closed_log_says_so(tmp_path):
    """Appending after close is an error, and closing twice is none."""

    async def main():
        log = EmbeddedLog(tmp_path)
        await log.create_topic("t")
        await log.close()
        await log.close()
        with pytest.raises(NotReady):
            await log.append("t", outgoing("x"))

    asyncio.run(main())


def test_segments_roll_and_retention_takes_whole_ones(tmp_path):
    """Old segments go by size; what is left is read from its oldest record on, and survives reopening."""

    async def fill(log):
        await log.create_topic("t", retention_bytes=4_000)
        for number in range(100):
            await log.append("t", outgoing(f"{number:0>100}"))
        _, records = await read(log, "t", 1)
        assert records[-1].offset == 99
        assert records[0].offset > 50
        return records[0].offset

    first = with_log(tmp_path, fill, segment_bytes=1_000)
    segments = list((tmp_path / "topics" / "t" / "0").glob("*.log"))
    assert 2 <= len(segments) <= 6

    async def again(log):
        _, records = await read(log, "t", 1)
        assert [r.offset for r in records] == list(range(first, 100))
        assert [int(r.value) for r in records] == list(range(first, 100))

    with_log(tmp_path, again, segment_bytes=1_000)


def test_retention_by_age(tmp_path):
    """A segment goes when everything in it is older than the retention."""
    clock = FakeClock()

    async def scenario(log):
        await log.create_topic("t", retention_s=60.0)
        for number in range(4):
            await log.append("t", outgoing(str(number)))
            clock.advance(50)
        _, records = await read(log, "t", 1)
        assert [r.value for r in records] == [b"1", b"2", b"3"]

    with_log(tmp_path, scenario, clock=clock, segment_bytes=1)


def test_silent_member_is_taken_out(tmp_path):
    """Who does not poll for the session time loses its partitions to the others."""
    clock = FakeClock()

    async def scenario(log):
        await log.create_topic("t", 2)
        await log.poll("t", "g", "silent", generation=0, positions={})
        joined = await log.poll("t", "g", "alive", generation=0, positions={})
        assert len(joined.assigned) == 1
        clock.advance(11)
        polled = await log.poll("t", "g", "alive", generation=joined.generation, positions={})
        assert sorted(polled.assigned) == [0, 1]

    with_log(tmp_path, scenario, clock=clock)


def test_damage_in_the_middle_is_never_delivered(tmp_path):
    """A flipped bit in what was sound is an error that names the file, not a wrong message."""
    with_log(tmp_path, _write_three)
    path = next((tmp_path / "topics" / "t" / "0").glob("*.log"))
    data = bytearray(path.read_bytes())

    async def scenario(log):
        data[40] ^= 1  # after recovery, as a failing disk would
        path.write_bytes(data)
        with pytest.raises(StorageError, match="damaged at byte 0"):
            await read(log, "t", 1)

    with_log(tmp_path, scenario)


async def _write_three(log):
    await log.create_topic("t")
    for value in "abc":
        await log.append("t", outgoing(value))


def test_index_is_only_a_hint(tmp_path, monkeypatch):
    """A lost or wrong index costs a scan and nothing else."""

    async def fill(log):
        await log.create_topic("t")
        for number in range(300):
            await log.append("t", outgoing(f"{number:0>1000}"))

    async def check(log):
        for start in (0, 1, 150, 299):
            joined = await log.poll("t", f"g{start}", "m", generation=0, positions={})
            polled = await log.poll("t", f"g{start}", "m", generation=joined.generation, positions={0: start})
            assert int(polled.records[0].value) == start

    with_log(tmp_path, fill)
    index = next((tmp_path / "topics" / "t" / "0").glob("*.index"))
    whole = index.read_bytes()
    assert len(whole) > 10 * 16
    for damaged in (whole, b"", whole[:-5], bytes(len(whole)), whole[:16] + os.urandom(64) + whole[16:]):
        index.write_bytes(damaged)
        with_log(tmp_path, check)
        assert index.stat().st_size % 16 == 0


def test_failed_write_acknowledges_nothing(tmp_path, monkeypatch):
    """A full disk fails the append; later ones go on from where it was."""

    async def scenario(log):
        await log.create_topic("t")
        await log.append("t", outgoing("before"))

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("balance.messaging.segment.os.fdatasync", full)
            with pytest.raises(StorageError, match="No space left"):
                await log.append("t", outgoing("lost"))
        await log.append("t", outgoing("after"))
        _, records = await read(log, "t", 1)
        assert [(r.offset, r.value) for r in records] == [(0, b"before"), (1, b"after")]

    with_log(tmp_path, scenario)


def test_one_failing_partition_does_not_shift_the_others(tmp_path, monkeypatch):
    """Group commit: of two appends in one round, the failure of one leaves the other's offsets right."""

    async def scenario(log):
        await log.create_topic("t", 2)
        keys = {0: None, 1: None}
        for number in range(20):
            [(partition, _)] = await log.append("t", outgoing("x", key=str(number)))
            keys[partition] = str(number)
        ends = [p.end_offset for p in log._topics["t"].partitions]
        broken = log._topics["t"].partitions[1]

        def fail(*_, **__):
            raise StorageError("broken")

        monkeypatch.setattr(broken, "write", fail)
        both = log.append("t", outgoing("a", key=keys[0]) + outgoing("b", key=keys[1]))
        one = log.append("t", outgoing("c", key=keys[0]))
        outcomes = await asyncio.gather(both, one, return_exceptions=True)
        assert isinstance(outcomes[0], StorageError)
        assert outcomes[1] == [(0, ends[0] + 1)]

    with_log(tmp_path, scenario)


def test_leftover_of_an_older_write_is_cut_off(tmp_path):
    """A whole batch that lies where another one belongs (left by a write that failed) is never delivered."""
    with_log(tmp_path, _write_three)
    path = next((tmp_path / "topics" / "t" / "0").glob("*.log"))
    data = path.read_bytes()
    path.write_bytes(data + data[: len(data) // 3])

    async def check(log):
        _, records = await read(log, "t", 1)
        assert [r.value for r in records] == [b"a", b"b", b"c"]

    with_log(tmp_path, check)
    assert path.read_bytes() == data


def test_committed_offsets_are_compacted(tmp_path, monkeypatch):
    """However often a group commits, what is kept stays small and right."""
    monkeypatch.setattr("balance.messaging.offsets.COMPACT_ABOVE_BYTES", 2_000)

    async def fill(log):
        await log.create_topic("t")
        await log.append("t", outgoing(*map(str, range(200))))
        await log.poll("t", "g", "m", generation=0, positions={})
        for offset in range(1, 201):
            await log.commit("t", "g", "m", {0: offset})

    async def check(log):
        assert await log.lag("t", "g") == {0: 0}

    with_log(tmp_path, fill)
    assert sum(path.stat().st_size for path in (tmp_path / "offsets").iterdir()) < 4_000
    with_log(tmp_path, check)


_WRITER = """
import asyncio, sys
from balance.messaging import KafkaService
from balance.messaging.broker import Outgoing, Send
from balance.messaging.log import EmbeddedLog
from balance.messaging.partition import PartitionLog
from balance.messaging.segment import Segment

async def main():
    log = EmbeddedLog(sys.argv[1])
    await log.create_topic("t", 3)
    number = 0
    while True:
        batch = [Outgoing(str(n).encode(), str(n).encode() * 50, {}) for n in range(number, number + 20)]
        await log.append("t", batch)
        number += 20
        print(number, flush=True)

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    """A writer is killed in full swing: everything that it had acknowledged is there, once, in order."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged >= 400:
                break
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    acknowledged = max([acknowledged, *map(int, rest)])

    async def check(log):
        joined = await log.poll("t", "g", "m", generation=0, positions={})
        positions, seen = dict(joined.assigned), []
        while True:
            polled = await log.poll("t", "g", "m", generation=joined.generation, positions=positions)
            if not polled.records:
                return seen
            seen += polled.records
            positions.update({r.partition: r.offset + 1 for r in polled.records})

    seen = with_log(tmp_path, check)
    numbers = [int(r.key) for r in seen]
    assert set(range(acknowledged)) <= set(numbers)
    assert len(numbers) == len(set(numbers))
    assert all(r.value == r.key * 50 for r in seen)


def test_cancelled_append_is_whole_or_absent(tmp_path):
    """Cancelling a sender leaves no half batch behind."""

    async def scenario(log):
        await log.create_topic("t", 4)
        for number in range(30):
            sender = asyncio.create_task(
                log.append("t", [Outgoing(str(k).encode(), str(number).encode(), {}) for k in range(12)])
            )
            for _ in range(number % 3):
                await asyncio.sleep(0)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        await log.append("t", outgoing("end"))
        _, records = await read(log, "t", 1)
        counts = {}
        for record in records:
            counts[record.value] = counts.get(record.value, 0) + 1
        assert set(counts.values()) <= {1, 12}

    with_log(tmp_path, scenario)


def test_a_commit_is_whole_after_a_crash_between_its_parts(tmp_path, monkeypatch):
    """The book says that it happened, its messages had not come to their partitions: they are there when it opens."""

    async def crash(log):
        await log.create_topic("t")
        await log.create_topic("answers", 2)
        await log.append("t", outgoing("x"))
        await log.append("answers", outgoing("before"))
        await log.poll("t", "g", "m", generation=0, positions={})
        shown = PartitionLog.stage

        def die(partition, *args, **how):
            if partition.directory.parent.name == "answers":
                raise SystemExit  # past every handler of failures, as a power cut
            return shown(partition, *args, **how)

        monkeypatch.setattr(PartitionLog, "stage", die)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        sends = [Send("answers", Outgoing(str(n).encode(), str(n).encode(), {"h": "1"})) for n in range(6)]
        committing = asyncio.create_task(log.commit("t", "g", "m", {0: 1}, sends=sends))
        while log._writer._thread.is_alive():
            await asyncio.sleep(0.001)
        committing.cancel()
        monkeypatch.undo()

    async def after(log):
        assert await log.lag("t", "g") == {0: 0}
        _, records = await read(log, "answers", 7, "reader")
        assert sorted(r.value for r in records) == [b"0", b"1", b"2", b"3", b"4", b"5", b"before"]
        assert {r.value: r.headers for r in records}[b"5"] == {"h": "1"}
        assert (await log.append("t", outgoing("y"))) == [(0, 1)]

    with_log(tmp_path, crash)
    with_log(tmp_path, after)
    with_log(tmp_path, lambda log: _count(log, "answers", 7))  # opened again, nothing is written a second time


async def _count(log, topic, expected):
    assert sum(partition.end_offset for partition in log._topics[topic].partitions) == expected


def test_a_commit_that_fails_half_way_is_taken_back(tmp_path, monkeypatch):
    """The disk is full for the messages: no offset, no message, and the next try is the only one that counts."""

    async def scenario(log):
        await log.create_topic("t")
        await log.create_topic("answers")
        await log.append("t", outgoing("x", "y"))
        await log.poll("t", "g", "m", generation=0, positions={})
        plain = Segment.append

        def full(segment, frames):
            if "answers" in str(segment.path):
                raise StorageError("no room")
            plain(segment, frames)

        monkeypatch.setattr(Segment, "append", full)
        with pytest.raises(StorageError, match="no room"):
            await log.commit("t", "g", "m", {0: 1}, sends=[Send("answers", outgoing("never")[0])])
        assert await log.lag("t", "g") == {0: 2}
        monkeypatch.undo()
        assert await log.commit("t", "g", "m", {0: 2}, sends=[Send("answers", outgoing("once")[0])]) == []

    with_log(tmp_path, scenario)

    async def after(log):
        assert await log.lag("t", "g") == {0: 0}
        _, records = await read(log, "answers", 1, "reader")
        assert [r.value for r in records] == [b"once"]
        await _count(log, "answers", 1)

    with_log(tmp_path, after)


_ANSWERER = """
import asyncio, sys
from balance.messaging import DeliveryPolicy, EmbeddedLog, KafkaService

async def main():
    service = KafkaService(broker=EmbeddedLog(sys.argv[1]))
    await service.connect()
    await service.create_topic("answers", 3)

    async def handler(message):
        print(message.offset, flush=True)
        return [service.sending("answers", {"to": message.value["n"]}, key=str(message.offset))]

    await service.subscribe("t", "g", handler, policy=DeliveryPolicy(concurrency=3, commit_every_s=0.0))
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_kill_9_answers_nothing_twice(tmp_path):
    """A consumer that answers with its commits is killed in full swing, again and again: each message has one."""
    total = 600

    async def fill(log):
        await log.create_topic("t", 2)
        await log.append("t", [Outgoing(str(n).encode(), b'{"n":%d}' % n, {}) for n in range(total)])

    with_log(tmp_path, fill)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", _ANSWERER, str(tmp_path)], stdout=subprocess.PIPE) as answerer:
            for _, _line in zip(range(120), answerer.stdout, strict=False):
                pass
            answerer.send_signal(signal.SIGKILL)

    async def finish(log):
        service = KafkaService(broker=log)
        await service.connect()

        async def handler(message):
            return [service.sending("answers", {"to": message.value["n"]})]

        await service.subscribe("t", "g", handler)
        while (await service.lag("t", "g"))["lag"]:
            await asyncio.sleep(0.005)
        await service.close()
        _, records = await read(log, "answers", total, "reader")
        assert sorted(json.loads(r.value)["to"] for r in records) == list(range(total))
        await _count(log, "answers", total)

    with_log(tmp_path, finish)
