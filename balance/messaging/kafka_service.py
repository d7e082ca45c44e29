"""Messages in and out: the same calls on Kafka and on the embedded log.

Messages are JSON objects.  Delivery is at least once: an offset is committed after the handler returned.  A handler
that fails is called again with growing waits; what can't be handled goes to ``<topic>.dead-letter`` with the reason,
the error and the original.  Nothing from a topic is ever unpickled or evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from balance.clock import Clock
from balance.config import Settings
from balance.defaults import default
from balance.errors import BalanceError, Conflict, InvalidValue, NotReady, UnknownId
from balance.messaging.broker import Broker, Outgoing, Record, Send
from balance.messaging.brokers import open_broker, release_broker
from balance.messaging.delivery import (
    Counters,
    DeliveryPolicy,
    Handler,
    check_headers,
    dead_letter,
    encode_message,
)
from balance.messaging.subscription import Subscription
from balance.messaging.topics import DEAD_LETTER_SUFFIX, check_topic, dead_letter_topic
from balance.types import check_id

MAX_BATCH = 10_000


class KafkaService:
    """A connection to the message broker.

    Parameters
    ----------
    broker : Broker, optional
        Whoever passes one closes it.  Left out, the one that the settings name is opened by `connect`.
    clock : Clock, optional
        Dates dead letters.
    settings : Settings, optional
        Where the broker is; read from the environment by `connect` when left out.

    Attributes
    ----------
    counters : Counters
        What was sent, delivered, retried and dead-lettered.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> async def main(folder):
    ...     heard, done = [], asyncio.Event()
    ...     async def handler(message):
    ...         heard.append(message.value["text"])
    ...         done.set()
    ...     async with KafkaService(settings=Settings(state_dir=folder)) as service:
    ...         await service.create_topic("greetings")
    ...         await service.subscribe("greetings", "listeners", handler)
    ...         await service.send_message("greetings", {"text": "hello"})
    ...         await done.wait()
    ...     return heard
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    ['hello']
    """

    def __init__(
        self, *, broker: Broker | None = None, clock: Clock | None = None, settings: Settings | None = None
    ) -> None:
        self.counters = Counters()
        self._given = broker
        self._broker = broker
        self._clock: Clock = clock if clock is not None else default("clock")
        self._settings = settings
        self._subscriptions: dict[tuple[str, str], Subscription] = {}
        self._existing: set[str] = set()  # topics that need not be created any more; forgotten on close

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._broker is not None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Open the broker; a second call does nothing.

        Raises
        ------
        ConfigurationError
            The state directory can't be written, or the URL names no known broker.
        StorageError
            Another process has the embedded log open.
        """
        if self._broker is None:
            if self._given is not None:
                self._broker = self._given
                return
            settings = self._settings if self._settings is not None else Settings.from_env()
            if not settings.broker_url:
                settings.writable_state_dir()
            self._broker = open_broker(settings.log_url(), clock=self._clock)

    async def close(self) -> None:
        """Stop every subscription gracefully and let go of the broker; safe to call twice."""
        for topic, group in list(self._subscriptions):
            await self.unsubscribe(topic, group)
        broker, self._broker = self._broker, None
        self._existing.clear()
        if broker is not None and broker is not self._given:
            await release_broker(broker)

    async def create_topic(self, topic: str, partitions: int = 1, *, replication: int = 1) -> bool:
        """Create `topic` and say whether it was new; one that exists is left as it is.  Cheap when asked again.

        Parameters
        ----------
        topic : str
            Its name.
        partitions : int
            How many consumers of one group can share its work.
        replication : int
            How many copies are wished for, clamped to the brokers there are.
        """
        if replication < 1:
            raise InvalidValue("replication", replication, "1 or more copies")
        broker = self._connected()
        if topic in self._existing:
            return False
        is_new = await broker.create_topic(check_topic(topic), partitions, replication=replication)
        self._existing.add(topic)
        return is_new

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic, by name."""
        return await self._connected().topics()

    async def send_message(
        self,
        topic: str,
        message: dict[str, Any] | BaseModel,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send one message and wait until it is durable.

        Parameters
        ----------
        topic : str
            Where to; it must exist.
        message : dict or pydantic model
            JSON values, at most 1 MiB.
        key : str, optional
            Messages of equal keys stay in order.
        headers : dict of str to str, optional
            At most 8 KiB.

        Returns
        -------
        dict
            ``status`` (``sent``), ``topic``, ``partition``, ``offset``.

        Raises
        ------
        UnknownId
            There is no such topic.
        InvalidValue
            The message is not JSON or is too large.
        NotReady
            `connect` was not called.
        """
        outgoing = _outgoing(message, key, headers)
        [(partition, offset)] = await self._connected().append(check_topic(topic), [outgoing])
        self.counters.sent += 1
        return {"status": "sent", "topic": topic, "partition": partition, "offset": offset}

    @staticmethod
    def sending(topic: str, message: dict[str, Any] | BaseModel, key: str | None = None) -> Send:
        """Return a message for a handler to return: sent with the commit of what it handles; raises as `send_message`.

        Examples
        --------
        >>> KafkaService.sending("answers", {"n": 1}).record.value
        b'{"n":1}'
        """
        return Send(check_topic(topic), _outgoing(message, key, None))

    async def send_batch(
        self,
        topic: str,
        messages: Sequence[dict[str, Any] | BaseModel],
        keys: Sequence[str | None] | None = None,
    ) -> dict[str, Any]:
        """Send many messages with one acknowledgement; all of them are checked before the first is sent.

        Returns
        -------
        dict
            ``status`` (``sent``), ``topic``, ``count``, ``offsets`` (a list of ``[partition, offset]``, in order).
        """
        if len(messages) > MAX_BATCH:
            raise InvalidValue("messages", f"{len(messages)} messages", f"at most {MAX_BATCH}")
        if keys is not None and len(keys) != len(messages):
            raise InvalidValue("keys", f"{len(keys)} keys", f"one for each of the {len(messages)} messages")
        chosen: Sequence[str | None] = keys if keys is not None else [None] * len(messages)
        outgoing = [_outgoing(message, key, None) for message, key in zip(messages, chosen, strict=True)]
        placed = await self._connected().append(check_topic(topic), outgoing)
        self.counters.sent += len(placed)
        return {"status": "sent", "topic": topic, "count": len(placed), "offsets": [list(place) for place in placed]}

    async def subscribe(
        self, topic: str, group: str, handler: Handler, *, policy: DeliveryPolicy | None = None
    ) -> None:
        """Hand every message of `topic` to `handler`, as a member of `group`; returns at once.

        Parameters
        ----------
        topic : str
            What to read; it must exist.
        group : str
            Members of one group share the messages; each group gets all of them.
        handler : async callable
            Gets a `Message`.  Returning means handled; what it returns (a list of `sending`) is sent together with the
            commit, as one: whoever answers that way has answered once, wherever it dies.  Raising `MessageRejected`
            sends it to the dead-letter topic at once, anything else is tried again as the policy says.
        policy : DeliveryPolicy, optional
            Attempts, waits, time limit, concurrency.

        Raises
        ------
        UnknownId
            There is no such topic.
        Conflict
            This service has subscribed to it for this group already.
        """
        broker = self._connected()
        check_id("group", group)
        if not callable(handler):
            raise InvalidValue("handler", handler, "an async callable that takes a Message")
        known = await broker.topics()
        if check_topic(topic) not in known:
            raise UnknownId("topic", topic, known)
        if (topic, group) in self._subscriptions:
            raise Conflict(f"group {group!r} has subscribed to {topic!r} here already; unsubscribe first", topic=topic)

        async def give_up(record: Record, failure: BaseException, attempts: int) -> list[Send]:
            if topic.endswith(DEAD_LETTER_SUFFIX):
                return []  # it lies in a dead-letter topic and stays there: a letter about a letter helps nobody
            now_s = self._clock.wall()
            letter = dead_letter(record, topic=topic, group=group, failure=failure, attempts=attempts, now_s=now_s)
            target = dead_letter_topic(topic)
            await self.create_topic(target)
            # Not through send_message: the whole original has to fit, whatever its size.
            key = record.key if letter["original"]["key"] is not None else None
            return [Send(target, Outgoing(key, encode_message(letter, max_bytes=None), {}))]

        self._subscriptions[topic, group] = Subscription(
            broker,
            topic,
            group,
            handler,
            policy=policy if policy is not None else DeliveryPolicy(),
            counters=self.counters,
            dead_letter=give_up,
        )

    async def unsubscribe(self, topic: str, group: str) -> bool:
        """Stop gracefully: running handlers finish, what they handled is committed.  False if there was none."""
        subscription = self._subscriptions.pop((topic, group), None)
        if subscription is None:
            return False
        await subscription.stop()
        return True

    async def lag(self, topic: str, group: str) -> dict[str, Any]:
        """Return how far `group` is behind.

        Returns
        -------
        dict
            ``topic``, ``group``, ``lag`` (messages that are not committed), ``partitions`` (the same by partition).
        """
        by_partition = await self._connected().lag(check_topic(topic), group)
        return {
            "topic": topic,
            "group": group,
            "lag": sum(by_partition.values()),
            "partitions": {str(number): count for number, count in by_partition.items()},
        }

    async def health(self) -> dict[str, Any]:
        """Return how it is.

        Returns
        -------
        dict
            ``status`` (``ok``, ``degraded``: the broker or a subscription has a problem, or ``closed``), ``problem``
            (of the broker; None if it answers), ``broker``, ``topics`` (how many; None if it does not answer),
            ``counters`` (see `Counters`), ``subscriptions`` (see `Subscription.to_dict`).
        """
        broker, problem, topics = self._broker, None, None
        if broker is not None:
            try:
                topics = len(await broker.topics())
            except BalanceError as error:
                problem = str(error)
        subscriptions = [s.to_dict() for _, s in sorted(self._subscriptions.items())]
        is_degraded = problem is not None or any(s["problem"] for s in subscriptions)
        return {
            "status": "closed" if broker is None else "degraded" if is_degraded else "ok",
            "problem": problem,
            "broker": None if broker is None else repr(broker),
            "topics": topics,
            "counters": self.counters.to_dict(),
            "subscriptions": subscriptions,
        }

    def _connected(self) -> Broker:
        if self._broker is None:
            raise NotReady("the message service is not connected; await connect() first")
        return self._broker


def _outgoing(message: dict[str, Any] | BaseModel, key: str | None, headers: dict[str, str] | None) -> Outgoing:
    try:
        value = message.model_dump(mode="json") if isinstance(message, BaseModel) else message
    except PydanticSerializationError as error:
        raise InvalidValue("message", message, f"JSON values only ({error})") from None
    if key is not None and not isinstance(key, str):
        raise InvalidValue("key", key, "text or None")
    return Outgoing(None if key is None else key.encode(), encode_message(value), check_headers(headers))
