"""The actor that owns the embedded log, and runs the models' and the data service on it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from actors.base import Shell
from actors.membership import Membership
from balance.messaging import (
    DATA_REQUESTS_TOPIC,
    MODELS_REQUESTS_TOPIC,
    DeadLetters,
    KafkaService,
    Outgoing,
    Polled,
)
from balance.messaging.brokers import open_broker, release_broker
from balance.services import DataService, MessagingService, ModelService

COLLECTION = "messaging"


class MessagingActor(Shell):
    """The broker for every process of the cluster, and the messaging service for clients.

    The ``broker_…`` methods are the port `balance.messaging.Broker`; `balance.adapters.actor_broker` is
    its other end.
    """

    role: ClassVar[str] = "messaging"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.broker = open_broker(self.settings.log_url(), clock=self.clock, name=self._own_name())
        self.membership = Membership(self.broker)
        self.letters = DeadLetters(self.broker)
        self.kafka = KafkaService(broker=self.broker, clock=self.clock)
        data = DataService(kafka_service=self.kafka, clock=self.clock)
        self.service = MessagingService(
            data_service=data, model_service=ModelService(data_service=data, clock=self.clock), clock=self.clock
        )
        self.spawn(self._serve())

    def _own_name(self) -> str:
        """Return what no other Balance on the same brokers is called: whose transactions these are."""
        known = self.store.get(COLLECTION, "name")
        if known is None:
            known = {"name": f"messaging-{uuid.uuid4().hex}"}
            with self.store.transaction(self.fence) as tx:
                tx.put(COLLECTION, "name", known)
        return str(known["name"])

    async def _serve(self) -> None:
        await self.insist(self.service.initialize)  # Kafka may come up after us
        await self.service.run()

    async def closed(self) -> None:
        """Let go of the log; what was acknowledged stays."""
        await self.service.shutdown()
        await release_broker(self.broker)

    # -- for clients -------------------------------------------------------------------------------

    async def request_data(
        self, model_id: str, query: str, data_type: str, source_type: str, priority: int = 3, **params: Any
    ) -> dict[str, Any]:
        """As `MessagingService.request_data`."""
        return await self.service.request_data(
            model_id=model_id, query=query, data_type=data_type, source_type=source_type, priority=priority, **params
        )

    async def learn_latencies(self, measured: Sequence[tuple[str, dict[str, Any], float]]) -> None:
        """Learn from answers, for `estimated_time`: source, parameters and seconds of each."""
        for source, parameters, seconds in measured:
            self.service.data_service.record_latency(source, parameters, seconds)

    async def register_model(self, model_id: str) -> dict[str, Any]:
        """Make sure that the model has its results topic; its own consumer group reads it."""
        return await self.service.model_service.register_model(model_id)

    async def publish_event(self, event_type: str, event_data: dict[str, Any]) -> bool:
        """As `MessagingService.publish_event`."""
        return await self.service.publish_event(event_type, event_data)

    async def stats(self) -> dict[str, Any]:
        """Return ``topics`` (partitions), ``counters``, ``dead_letters`` (open) and ``lag`` (of requests) by topic."""
        topics = await self.broker.topics()
        lags: dict[str, Any] = {}
        for topic, group in (
            (MODELS_REQUESTS_TOPIC, "balance-model-service"),
            (DATA_REQUESTS_TOPIC, "balance-collectors"),
        ):
            if topic in topics:
                lags[topic] = sum((await self.broker.lag(topic, group)).values())
        dead = (await self.letters.count())["topics"]
        return {"topics": topics, "counters": self.kafka.counters.to_dict(), "dead_letters": dead, "lag": lags}

    async def list_dead_letters(self) -> dict[str, Any]:
        """As `DeadLetters.count`."""
        return await self.letters.count()

    async def show_dead_letters(self, topic: str, limit: int = 10) -> dict[str, Any]:
        """As `DeadLetters.show`."""
        return await self.letters.show(topic, limit)

    async def replay_dead_letters(self, topic: str, limit: int | None = None) -> dict[str, Any]:
        """As `DeadLetters.replay`."""
        return await self.letters.replay(topic, limit)

    # -- the broker --------------------------------------------------------------------------------

    async def broker_create_topic(self, topic: str, partitions: int = 1, **how: Any) -> bool:
        """As `Broker.create_topic`."""
        return await self.broker.create_topic(topic, partitions, **how)

    async def broker_topics(self) -> dict[str, int]:
        """As `Broker.topics`."""
        return await self.broker.topics()

    async def broker_append(self, topic: str, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """As `Broker.append`."""
        return await self.broker.append(topic, records)

    async def broker_poll(self, reader: tuple[str, int], topic: str, group: str, member: str, **how: Any) -> Polled:
        """As `Broker.poll`; `reader` is who polls, and its epoch (see `Membership`)."""
        return await self.membership.poll(*reader, topic, group, member, **how)

    async def broker_commit(
        self, reader: tuple[str, int], topic: str, group: str, member: str, offsets: dict[int, int], **how: Any
    ) -> list[int]:
        """As `Broker.commit`; made again by Ray after this actor died, it is refused: its member has to poll first."""
        return await self.membership.commit(reader, topic, group, member, offsets, **how)

    async def broker_leave(self, reader: tuple[str, int], topic: str, group: str, member: str) -> None:
        """As `Broker.leave`."""
        await self.membership.leave(reader[0], topic, group, member)

    async def broker_lag(self, topic: str, group: str) -> dict[int, int]:
        """As `Broker.lag`."""
        return await self.broker.lag(topic, group)
