"""The embedded log: durable sends, consuming, restart.  Run: ``pytest tests/bench/bench_log.py --benchmark-only``.

The bars are: 20,000 durable messages a second in batches of 500, 50,000 a second consumed, and a restart with
1,000,000 messages in under 2 seconds.  A disk that syncs slowly moves the first; the rest is this code.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from balance.messaging import DeliveryPolicy, EmbeddedLog, KafkaService, Outgoing

MESSAGE = {"model_id": "whisper", "query": "x" * 900, "priority": 3}  # about 1 KB as JSON
VALUE = json.dumps(MESSAGE).encode()
BATCHES, BATCH = 40, 500


@pytest.fixture
def on_log(tmp_path):
    """Run a coroutine function on an open log, synchronously; give the log's directory as ``on_log.path``."""
    with asyncio.Runner() as runner:
        log = EmbeddedLog(tmp_path / "log")
        yield lambda scenario, *args: runner.run(scenario(log, *args))
        runner.run(log.close())


async def _fill(log: EmbeddedLog, topic: str, messages: int, partitions: int = 8) -> None:
    await log.create_topic(topic, partitions)
    for _ in range(messages // BATCH):
        await log.append(topic, [Outgoing(str(n).encode(), VALUE, {}) for n in range(BATCH)])


@pytest.mark.parametrize("partitions", [1, 8])
def test_durable_sends_in_batches_of_500(benchmark, on_log, partitions):
    """20,000 messages of 1 KB through `KafkaService.send_batch`: at most 1 s is the bar."""

    async def send(log):
        service = KafkaService(broker=log)
        await service.connect()
        await service.create_topic(f"t{partitions}", partitions)
        keys = [str(n) for n in range(BATCH)]
        for _ in range(BATCHES):
            await service.send_batch(f"t{partitions}", [MESSAGE] * BATCH, keys)

    benchmark.pedantic(lambda: on_log(send), rounds=3)


def test_awaited_single_sends(benchmark, on_log):
    """One durable message at a time: the sync of the disk, and what is around it."""

    async def send(log):
        service = KafkaService(broker=log)
        await service.connect()
        await service.create_topic("t")
        for _ in range(200):
            await service.send_message("t", MESSAGE)

    benchmark.pedantic(lambda: on_log(send), rounds=3)


def test_concurrent_single_sends(benchmark, on_log):
    """2,000 senders at once share syncs (group commit)."""

    async def send(log):
        service = KafkaService(broker=log)
        await service.connect()
        await service.create_topic("t")
        await asyncio.gather(*(service.send_message("t", MESSAGE) for _ in range(2_000)))

    benchmark.pedantic(lambda: on_log(send), rounds=3)


def test_polling(benchmark, on_log):
    """20,000 messages of 1 KB read through the port: at most 0.4 s is the bar."""
    on_log(_fill, "t", BATCH * BATCHES)
    groups = iter(range(100))

    async def consume(log):
        group, seen = str(next(groups)), 0
        joined = await log.poll("t", group, "m", generation=0, positions={})
        positions = dict(joined.assigned)
        while seen < BATCH * BATCHES:
            polled = await log.poll("t", group, "m", generation=joined.generation, positions=positions)
            seen += len(polled.records)
            for record in polled.records:
                positions[record.partition] = record.offset + 1
        await log.leave("t", group, "m")

    benchmark.pedantic(lambda: on_log(consume), rounds=3)


def test_consuming_with_a_handler(benchmark, on_log):
    """The same through `KafkaService.subscribe`: parsed, handled, committed; at most 0.4 s is the bar."""
    on_log(_fill, "t", BATCH * BATCHES)
    groups = iter(range(100))

    async def consume(log):
        service, seen, done = KafkaService(broker=log), 0, asyncio.Event()

        async def handler(message):
            nonlocal seen
            seen += 1
            if seen == BATCH * BATCHES:
                done.set()

        await service.connect()
        await service.subscribe("t", str(next(groups)), handler, policy=DeliveryPolicy())
        await done.wait()
        await service.close()

    benchmark.pedantic(lambda: on_log(consume), rounds=3)


@pytest.mark.parametrize("batch", [500, 20], ids=["batches of 500", "batches of 20"])
def test_restart_with_a_million_messages(benchmark, tmp_path, batch):
    """Opening a log of 1,000,000 messages of 100 bytes and reading its first and last: at most 2 s is the bar."""

    async def fill():
        log = EmbeddedLog(tmp_path / "log")
        await log.create_topic("t", 8)
        records = [Outgoing(None, b"x" * 100, {}) for _ in range(batch)]
        for _ in range(20):
            await asyncio.gather(*(log.append("t", records) for _ in range(50_000 // batch)))
        await log.close()

    async def restart():
        log = EmbeddedLog(tmp_path / "log")
        assert sum((await log.lag("t", "g")).values()) == 1_000_000
        joined = await log.poll("t", "g", "m", generation=0, positions={})
        last = {number: end - 1 for number, end in (await log.lag("t", "g")).items()}
        for positions in (joined.assigned, last):
            polled = await log.poll("t", "g", "m", generation=joined.generation, positions=positions)
            assert len(polled.records) >= 8
        await log.close()

    asyncio.run(fill())
    benchmark.pedantic(lambda: asyncio.run(restart()), rounds=3)
