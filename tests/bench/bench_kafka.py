"""`KafkaService` on a real Kafka against confluent-kafka called directly, in one run.

Run: ``pytest tests/bench/bench_kafka.py --override-ini=addopts=--import-mode=importlib --benchmark-only -s`` (it needs
what ``tests/integration`` needs: an address in BALANCE_TEST_KAFKA, or Java and Maven).

The bars: messages of 1 KB in batches at 0.7 times the direct throughput at least, the median of an awaited single send
at most 3 times the direct one.  Both sides serialise the same dict, both producers are idempotent and wait for every
acknowledgement; they take turns, so that whatever else the machine does hits both alike.  Each is its own median.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import time
import uuid
from pathlib import Path

import pytest

from balance.messaging import DeliveryPolicy, KafkaService
from balance.messaging.kafka import KafkaBroker

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
import kafka_server

MESSAGE = {"model_id": "whisper", "query": "x" * 950, "priority": 3}  # 1 KB as JSON
PARTITIONS, BATCHES, BATCH, SINGLES, ROUNDS = 8, 20, 1_000, 100, 5
KEYS = [str(number) for number in range(BATCH)]


@pytest.fixture(scope="module")
def address():
    """``host:port`` of a Kafka."""
    if given := os.environ.get("BALANCE_TEST_KAFKA"):
        yield given
        return
    folder = kafka_server.short_folder()
    try:
        server = kafka_server.KafkaServer(folder)
        server.start()
        try:
            yield server.address
        finally:
            server.stop()
    except kafka_server.NoKafka as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sides(address):
    """Give a connected service, a plain producer, a topic, and what runs a coroutine."""
    from confluent_kafka import Producer

    topic = f"bench-{uuid.uuid4().hex[:8]}"
    with asyncio.Runner() as runner:

        async def opened():
            service = KafkaService(broker=KafkaBroker(f"kafka://{address}"))
            await service.connect()
            await service.create_topic(topic, PARTITIONS)
            return service

        service = runner.run(opened())
        yield service, Producer({"bootstrap.servers": address, "enable.idempotence": True}), topic, runner.run
        runner.run(service._broker.close())


def produce_directly(producer, topic, messages):
    """Send a batch as the client's own manual does, and wait for every acknowledgement."""
    delivered = []

    def acknowledged(error, message):
        assert error is None
        delivered.append((message.partition(), message.offset()))

    for key in KEYS[:messages]:
        producer.produce(topic, json.dumps(MESSAGE).encode(), key.encode(), on_delivery=acknowledged)
        producer.poll(0)
    producer.flush()
    assert len(delivered) == messages


def timed(call, *args):
    begun = time.perf_counter()
    call(*args)
    return time.perf_counter() - begun


def report(benchmark, name, ours, direct, bar):
    ratio = statistics.median(ours) / statistics.median(direct)
    benchmark.extra_info.update(ours=ours, direct=direct, ratio=ratio)
    print(
        f"\n{name}: ours {statistics.median(ours):.6g}, direct {statistics.median(direct):.6g}, {ratio:.2f} (bar {bar})"
    )
    return ratio


def test_batches(benchmark, sides):
    """20,000 messages of 1 KB in batches of 1,000; the figure is messages a second."""
    service, producer, topic, run = sides

    async def ours():
        for _ in range(BATCHES):
            await service.send_batch(topic, [MESSAGE] * BATCH, KEYS)

    def directly():
        for _ in range(BATCHES):
            produce_directly(producer, topic, BATCH)

    rates = {"ours": [], "direct": []}
    run(ours())
    directly()

    def turn():
        for name, call in (("ours", lambda: run(ours())), ("direct", directly)):
            rates[name].append(BATCHES * BATCH / timed(call))

    benchmark.pedantic(turn, rounds=ROUNDS)
    assert report(benchmark, "messages/s in batches", rates["ours"], rates["direct"], ">= 0.7") >= 0.7


def test_awaited_single_sends(benchmark, sides):
    """One message at a time, acknowledged before the next; the figure is the median in seconds."""
    service, producer, topic, run = sides

    async def ours():
        waits = []
        for _ in range(SINGLES):
            begun = time.perf_counter()
            await service.send_message(topic, MESSAGE, "k")
            waits.append(time.perf_counter() - begun)
        return waits

    waits = {"ours": [], "direct": []}
    run(ours())

    def turn():
        waits["ours"] += run(ours())
        waits["direct"] += [timed(produce_directly, producer, topic, 1) for _ in range(SINGLES)]

    benchmark.pedantic(turn, rounds=ROUNDS)
    assert report(benchmark, "seconds a single send", waits["ours"], waits["direct"], "<= 3") <= 3.0


def test_consuming(benchmark, sides, address):
    """20,000 messages read through a handler, parsed and committed, against the client's `consume` and `json.loads`."""
    from confluent_kafka import Consumer

    service, _, topic, run = sides
    total = BATCHES * BATCH

    async def fill():
        for _ in range(BATCHES):
            await service.send_batch(topic, [MESSAGE] * BATCH, KEYS)

    async def ours():
        seen, begun, done = 0, 0.0, asyncio.Event()

        async def handler(message):
            nonlocal seen, begun
            begun = begun or time.perf_counter()
            seen += 1
            if seen == total:
                done.set()

        group = uuid.uuid4().hex
        await service.subscribe(topic, group, handler, policy=DeliveryPolicy())
        await done.wait()
        took_s = time.perf_counter() - begun
        await service.unsubscribe(topic, group)
        return took_s

    def directly():
        consumer = Consumer(
            {"bootstrap.servers": address, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([topic])
        seen, begun = 0, 0.0
        while seen < total:
            messages = consumer.consume(500, 0.05)
            begun = begun or (time.perf_counter() if messages else 0.0)
            seen += sum(json.loads(message.value())["priority"] == 3 for message in messages)
        took_s = time.perf_counter() - begun
        consumer.close()
        return took_s

    run(fill())
    rates = {"ours": [], "direct": []}

    def turn():
        rates["ours"].append(total / run(ours()))
        rates["direct"].append(total / directly())

    benchmark.pedantic(turn, rounds=ROUNDS)
    report(benchmark, "messages/s consumed", rates["ours"], rates["direct"], "50,000 on the embedded log")
