"""Sending to Kafka from asyncio: one idempotent producer and the thread that hears its acknowledgements.

The client's own asyncio producer takes no headers and answers in a fifth of a second; the plain one answers at once,
through callbacks in whatever thread polls it.  A send queues its records and is woken, once, by the last of them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from balance.messaging.bell import Bell
from balance.messaging.broker import Outgoing

#: How long one look at what comes back takes at most, and how often the thread looks when nothing is sent.
POLL_S, IDLE_S = 0.05, 0.5
#: How long closing waits for what is on its way.
FLUSH_S = 10.0

logger = logging.getLogger(__name__)


class _Sending:
    """The records of one send: counts acknowledgements in the producer's thread, resolves the future at the last."""

    __slots__ = ("_left", "_loop", "error", "future", "places")

    def __init__(self, records: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = records
        self.future: asyncio.Future[None] = self._loop.create_future()
        self.error: KafkaError | None = None
        self.places: list[tuple[int, int]] = []

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Note one acknowledgement."""
        if error is None:
            self.places.append((message.partition(), message.offset()))  # type: ignore[arg-type]
        else:
            self.error = error
        self._left -= 1
        if not self._left:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.future.done():  # the sender may have been cancelled
            self.future.set_result(None)


class KafkaSender:
    """A producer; `send` may be called from any event loop.

    Records linger in the producer while a send queues them, so that they travel together; the thread is woken with the
    last one and flushes, which sends at once whatever lies there.

    Parameters
    ----------
    properties : mapping
        librdkafka properties, see `KafkaOptions.producer`.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._producer = Producer(dict(properties), logger=logger)
        self._room = Bell()
        self._queued = threading.Event()
        self._closing = False
        self.is_broken = False
        self._thread = threading.Thread(target=self._run, name="balance-kafka-sender", daemon=True)
        self._thread.start()

    async def send(self, topic: str, records: Sequence[Outgoing], partitions: Sequence[int]) -> list[tuple[int, int]]:
        """Append `records` to the given partitions; return the partition and offset of each, in order.

        Raises
        ------
        KafkaException
            At least one of them was not acknowledged.
        """
        sending = _Sending(len(records))
        produce, delivered = self._producer.produce, sending.delivered
        try:
            for (key, value, headers), partition in zip(records, partitions, strict=True):
                while True:
                    try:
                        if headers:
                            produce(topic, value, key, partition, delivered, headers={**headers})
                        else:
                            produce(topic, value, key, partition, delivered)
                        break
                    except BufferError:
                        await self._wait_for_room()
        except KafkaException as error:
            self._note(error.args[0])
            raise
        finally:
            self._queued.set()
        await sending.future
        if sending.error is not None:
            self._note(sending.error)
            raise KafkaException(sending.error)
        # An idempotent producer keeps the order within a partition, so offsets in order belong to records in order.
        offsets: dict[int, list[int]] = {}
        for number, offset in sorted(sending.places, reverse=True):
            offsets.setdefault(number, []).append(offset)
        return [(number, offsets[number].pop()) for number in partitions]

    def close(self) -> None:
        """Send what is on its way and end the thread; what can't be sent in time fails.  Safe to call twice."""
        self._closing = True
        self._queued.set()
        self._thread.join()

    def _note(self, error: KafkaError) -> None:
        # After a fatal error (its producer id is gone, say) a producer refuses everything: another has to take over.
        self.is_broken = self.is_broken or error.fatal()

    async def _wait_for_room(self) -> None:
        with self._room.listening() as rung, suppress(TimeoutError):
            self._queued.set()
            async with asyncio.timeout(POLL_S):
                await rung.wait()

    def _is_closing(self) -> bool:
        return self._closing

    def _run(self) -> None:
        while not self._is_closing():
            self._queued.wait(IDLE_S)
            self._queued.clear()
            self._producer.poll(0.0)  # logs and errors come this way too
            while self._producer.flush(POLL_S) and not self._is_closing():
                self._room.ring()
            self._room.ring()
        if self._producer.flush(FLUSH_S):
            self._producer.purge()
            self._producer.flush(FLUSH_S)
