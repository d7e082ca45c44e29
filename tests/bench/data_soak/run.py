"""The run: messages are sent, collectors are killed, and what came of it is read from the topics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from data_soak.account import Account
from data_soak.killer import Killer
from data_soak.mail import MODELS, Item, items
from data_soak.source import Source

OUTCOMES_S = 900.0
"""How long everything may take to be answered."""

SLICE = 250
"""How many messages are sent at a time."""


async def send(mail: list[Item], url: str, kafka: Any, settings: Any) -> None:
    """Send everything: requests as the data service does, the rest as it is."""
    from balance.messaging import DATA_REQUESTS_TOPIC, Outgoing
    from balance.services import DataService

    service = DataService(kafka_service=kafka, settings=settings)
    await service.initialize()
    sent: dict[str, Outgoing] = {}
    plain = kafka._broker.append

    async def append(topic: str, records: Any) -> Any:
        for record in records:
            sent[json.loads(record.value)["metadata"]["request_id"]] = record
        return await plain(topic, records)

    async def ask(item: Item) -> None:
        address = f"{url}{item.path}"
        how = {"data_type": "structured", "source_type": "api", "request_id": item.request_id}
        await service.request_data(item.model, address, **how)

    kafka._broker.append = append
    for start in range(0, len(mail), SLICE):
        part = mail[start : start + SLICE]
        await asyncio.gather(*(ask(item) for item in part if item.kind == "ask"))
        rest = [sent[item.request_id] for item in part if item.kind == "again"]
        rest += [Outgoing(item.raw[-4:], item.raw, {}) for item in part if item.kind == "bad"]
        await plain(DATA_REQUESTS_TOPIC, rest)
    kafka._broker.append = plain


async def everything(broker_: Any, topic: str, since: Mapping[int, int] | None = None) -> list[Any]:
    """Return every record of a topic, from these offsets on."""
    group, member = f"soak-{time.monotonic_ns()}", "m"
    joined = await broker_.poll(topic, group, member, generation=0, positions={}, wait_s=10.0)
    while not joined.assigned:
        joined = await broker_.poll(topic, group, member, generation=joined.generation, positions={}, wait_s=1.0)
    positions, found, quiet = dict(joined.assigned), [], 0
    while quiet < 2:  # nothing within two seconds: that was all
        polled = await broker_.poll(
            topic, group, member, generation=joined.generation, positions=positions, max_records=2_000, wait_s=1.0
        )
        quiet = 0 if polled.records else quiet + 1
        found += polled.records
        positions.update({record.partition: record.offset + 1 for record in polled.records})
    await broker_.leave(topic, group, member)
    return [record for record in found if record.offset >= (since or {}).get(record.partition, 0)]


async def soak(given: dict[str, Any], settings: Any, source: Source, restart: Any) -> dict[str, Any]:
    """Send, kill, wait until everything is answered, and return the account."""
    import ray

    from balance.adapters.actor_broker import ActorBroker
    from balance.messaging import DATA_REQUESTS_TOPIC, KafkaService, TopicManager, dead_letter_topic, results_topic

    mail = items(given["requests"], given["seed"])
    expected = {item.request_id for item in mail if item.request_id}
    kafka = KafkaService(broker=ActorBroker(ray.get_actor("messaging", namespace="balance"), ("soak", 1)))
    await kafka.connect()
    letters_topic = dead_letter_topic(DATA_REQUESTS_TOPIC)
    manager = TopicManager(kafka_service=kafka)
    for topic in (DATA_REQUESTS_TOPIC, letters_topic):
        await manager.ensure_topic(topic)
    before = {topic: await kafka._broker.lag(topic, "nobody") for topic in (DATA_REQUESTS_TOPIC, letters_topic)}
    answered: set[str] = set()
    news = asyncio.Event()

    async def heard(message: Any) -> None:
        answered.add(message.value["metadata"]["request_id"])
        news.set()

    topics = [results_topic(f"soak-{number}") for number in range(MODELS)]
    for topic in topics:
        await kafka.create_topic(topic)
        await kafka.subscribe(topic, "soak", heard)
    began = time.monotonic()
    with Killer(
        [f"collector-{n + 1}" for n in range(settings.collectors)], given["kill_every_s"], given["seed"]
    ) as killer:
        sending = asyncio.create_task(send(mail, source.url, kafka, settings))
        restarted_s, told_s = None, 0.0
        while not expected <= answered:
            if time.monotonic() - began > OUTCOMES_S:
                break
            if restarted_s is None and len(answered) > len(expected) / 3:
                restarted_s = time.monotonic() - began
                await asyncio.to_thread(restart)
            if time.monotonic() - began > told_s + 5.0:
                told_s = time.monotonic() - began
                print(f"{told_s:.0f} s: {len(answered)} answered, {killer.kills} kills", file=sys.stderr, flush=True)
            news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), 1.0)
        await sending
        while sum((await kafka._broker.lag(DATA_REQUESTS_TOPIC, "balance-collectors")).values()):
            if time.monotonic() - began > OUTCOMES_S:
                break
            await asyncio.sleep(0.2)
        took_s = time.monotonic() - began
    reader = kafka._broker
    requests = [each.value for each in await everything(reader, DATA_REQUESTS_TOPIC, before[DATA_REQUESTS_TOPIC])]
    answers = [json.loads(record.value) for topic in topics for record in await everything(reader, topic)]
    letters = [json.loads(each.value) for each in await everything(reader, letters_topic, before[letters_topic])]
    account = Account.of(requests, answers, letters, source.asked)
    await kafka.close()
    return {"account": account.to_dict(), "kills": killer.kills, "restarted_s": restarted_s, "took_s": took_s}
