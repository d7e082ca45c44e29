"""Messages for programs without an event loop: a `KafkaService` on a loop of its own.

At least once: a message is committed when the next one of its topic is asked for, or by `close`.  One that was taken
and not followed by either comes again, to whoever asks next in the group.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict

from balance.adapters.loop_thread import LoopThread
from balance.errors import NotYet
from balance.interfaces.external import KafkaInterface
from balance.messaging import Broker, DeliveryPolicy, KafkaService, Message, TopicManager
from balance.messaging.topics import check_topic
from balance.types import check_id, check_number

if TYPE_CHECKING:
    from balance.clock import Clock
    from balance.config import Settings

GRACE_S = 0.2
"""How long the end of a subscription waits for what was just settled to be committed."""


class KafkaMessages(KafkaInterface):
    """Publishes and consumes through Kafka or the embedded log.

    Any thread may publish.  A topic is consumed by one thread at a time, as asking for a message settles the one
    before; for more consumers build more of these, with the same group.

    Parameters
    ----------
    group : str, default "balance.programs"
        On whose behalf messages are consumed: the members of a group share them.
    timeout_s : float, optional
        How long a message is waited for, and how long the broker may take to acknowledge one; for ever where left out.
    handling_s : float, default 3600
        A consumer that has not asked for the next message after so long is taken for lost, and its message comes again
        (five times, then it goes to the dead-letter topic).
    broker, settings, clock : optional
        As `balance.messaging.KafkaService` takes them.

    Examples
    --------
    >>> import tempfile
    >>> from balance.config import Settings
    >>> with tempfile.TemporaryDirectory() as folder, KafkaMessages(settings=Settings(state_dir=folder)) as messages:
    ...     messages.create_topic("greetings")
    ...     messages.publish_message("greetings", {"text": "hello"})
    ...     messages.consume_message("greetings")
    True
    {'text': 'hello'}
    """

    def __init__(
        self,
        *,
        group: str = "balance.programs",
        timeout_s: float | None = None,
        handling_s: float = 3600.0,
        broker: Broker | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._group = check_id("group", group)
        self._timeout_s = None if timeout_s is None else check_number("timeout_s", timeout_s, minimum=0)
        self._policy = DeliveryPolicy(
            handler_timeout_s=check_number("handling_s", handling_s, minimum=0.001),
            commit_every_s=0.01,
            grace_s=GRACE_S,
        )
        self._service = KafkaService(broker=broker, settings=settings, clock=clock)
        self._topics = TopicManager(kafka_service=self._service)
        self._loop = LoopThread(name="balance-messages")
        self._lock = threading.Lock()
        self._opening: asyncio.Lock | None = None
        self._readers: dict[str, _Reader] = {}
        self._closed = False

    def __enter__(self) -> KafkaMessages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_topic(self, topic: str) -> bool:
        """Create a topic, laid out as its name asks for, and say whether it was new."""
        check_topic(topic)

        async def made() -> bool:
            await self._service.connect()
            is_new = topic not in await self._service.topics()
            await self._topics.ensure_topic(topic)
            return is_new

        return self._loop.run(made(), self._timeout_s)

    def publish_message(self, topic: str, message: Dict[str, Any]) -> None:
        """Publish a message and wait until it is durable.

        Raises
        ------
        InvalidValue
            It is no dict of JSON values, or larger than 1 MiB.
        UnknownId
            There is no such topic.
        NotYet
            The broker did not acknowledge it in time; it may be there all the same.
        """
        check_topic(topic)

        async def sent() -> None:
            await self._service.connect()
            await self._service.send_message(topic, message)

        self._loop.run(sent(), self._timeout_s)

    def consume_message(self, topic: str) -> Dict[str, Any]:
        """Return the next message of the topic; the one before is committed now.

        Raises
        ------
        UnknownId
            There is no such topic.
        NotYet
            None came within ``timeout_s``; what was consumed before is committed all the same.
        """
        return self.consume(topic, timeout_s=self._timeout_s).value

    def consume(self, topic: str, *, timeout_s: float | None = None) -> Message:
        """Do as `consume_message` does, and return the message with its place, key and headers."""
        check_topic(topic)
        return self._loop.run(self._next(topic, timeout_s))

    def close(self) -> None:
        """Commit what was consumed, leave the group, let go of the broker; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._loop.run(self._end())
        finally:
            self._loop.close()

    async def _next(self, topic: str, timeout_s: float | None) -> Message:
        reader = await self._reader(topic)
        reader.settle()
        try:
            async with asyncio.timeout(timeout_s):
                return await reader.next()
        except TimeoutError:
            raise NotYet(f"no message came on {topic!r} within {timeout_s:g} s", topic=topic) from None

    async def _reader(self, topic: str) -> _Reader:
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:  # one subscription, however many threads ask at once
            reader = self._readers.get(topic)
            if reader is None:
                await self._service.connect()
                reader = _Reader()
                await self._service.subscribe(topic, self._group, reader.handle, policy=self._policy)
                self._readers[topic] = reader
            return reader

    async def _end(self) -> None:
        for reader in self._readers.values():
            reader.settle()
        await self._service.close()


@dataclass(slots=True, eq=False)
class _Delivery:
    """A message that waits to be consumed, or is being handled."""

    message: Message
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    is_lost: bool = False  # its partition went to another member, or it was kept for too long: it comes again


class _Reader:
    """Turns the handler of a subscription inside out: the consumer asks for messages one by one."""

    def __init__(self) -> None:
        self._waiting: deque[_Delivery] = deque()
        self._arrived = asyncio.Event()
        self._taken: _Delivery | None = None

    async def handle(self, message: Message) -> None:
        """Offer a message and return when it was settled."""
        delivery = _Delivery(message)
        self._waiting.append(delivery)
        self._arrived.set()
        try:
            await delivery.settled.wait()
        finally:
            delivery.is_lost = not delivery.settled.is_set()
            with contextlib.suppress(ValueError):
                self._waiting.remove(delivery)

    def settle(self) -> None:
        """Say that the message that was taken last is handled."""
        if self._taken is not None:
            self._taken.settled.set()
            self._taken = None

    async def next(self) -> Message:
        """Wait for a message and take it."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        self._taken = self._waiting.popleft()
        return self._taken.message
