"""Kafka as a `Broker`: topics, lag, sending (`sender`) and reading (`member`).

Nothing is opened before it is used.  Where a key goes is its CRC-32 modulo the partitions, as on the embedded log and
as librdkafka's *consistent* partitioner has it.

What is sent with a commit goes in a transaction (`transactions`), whose end is a mark in each partition that takes an
offset.  Lag counts such marks, as Kafka's own tools do, until a reader has come to them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from balance.clock import Clock, SystemClock
from balance.errors import InvalidValue, NotReady, StorageError, UnknownId
from balance.messaging.broker import Outgoing, Polled, Send, check_record
from balance.messaging.kafka import commits, onlooker
from balance.messaging.kafka.member import KafkaMember
from balance.messaging.kafka.options import MAX_BATCH_BYTES, KafkaOptions
from balance.messaging.kafka.problems import is_refusal, translate
from balance.messaging.kafka.sender import KafkaSender
from balance.messaging.kafka.transactions import KafkaTransactions
from balance.messaging.progress import Ranges
from balance.messaging.topics import DEAD_LETTER_SUFFIX, check_topic
from balance.types import check_id, check_int, check_number

ANSWER_S = 10.0
SESSION_S = 10.0
MAX_PARTITIONS = 1_000
#: How many questions are asked at a time.
QUESTIONS = 4
LOOK_EVERY_S = 0.02
#: How long one turn of waiting for the brokers takes, before it is looked whether they refuse.
TURN_S = 0.5

T = TypeVar("T")

logger = logging.getLogger(__name__)


class KafkaBroker:
    """A `Broker` on a Kafka cluster.

    Parameters
    ----------
    url : str
        ``kafka://host:9092[,host2][?option=value]``, see `KafkaOptions`.
    clock : Clock, optional
        Notices members that do not poll any more.
    name : str, optional
        Whose transactions these are; who opens a connection of the same name takes over from the one that had it.
        Left out, it is one of its own.
    session_s : float, default 10
        After so many seconds without a poll a member leaves its group; at least 6 where a whole process dies, which
        only Kafka itself can notice.
    answer_s : float, default 10
        How long the brokers may take to answer a question before that is an error.

    Raises
    ------
    ConfigurationError
        The URL can't be used.  Whether anyone answers there shows with the first call.

    Examples
    --------
    >>> KafkaBroker("kafka://one,two:9093?sasl.password=secret")
    KafkaBroker('kafka://one:9092,two:9093')
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        name: str = "",
        session_s: float = SESSION_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._options = KafkaOptions.parse(url)
        self._clock = clock if clock is not None else SystemClock()
        self._name = name or uuid.uuid4().hex
        self._session_s = check_number("session_s", session_s, minimum=0.0, what="number of seconds")
        self._answer_s = check_number("answer_s", answer_s, minimum=0.0, what="number of seconds")
        self._lock = threading.Lock()  # guards what is opened when it is first needed
        self._client: AdminClient | None = None
        self._sending: KafkaSender | None = None
        self._transacting: KafkaTransactions | None = None
        self._members: dict[tuple[str, str, str], KafkaMember] = {}
        self._partitions: dict[str, int] = {}
        self._turn = 0  # where the next batch without a key goes
        self._questions = ThreadPoolExecutor(QUESTIONS, thread_name_prefix="balance-kafka-question")
        self._refusal: KafkaError | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"KafkaBroker('kafka://{self._options.servers}')"

    async def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        *,
        replication: int = 1,
        retention_bytes: int | None = None,
        retention_s: float | None = None,
    ) -> bool:
        """Create `topic` (see `Broker`); retention defaults to what the cluster has set."""
        check_topic(topic)
        count = check_int("partitions", partitions, minimum=1)
        check_int("replication", replication, minimum=1)
        if count > MAX_PARTITIONS:
            raise InvalidValue("partitions", partitions, f"at most {MAX_PARTITIONS}")
        found = await self._look_up()
        if topic in found:
            return False
        copies = min(replication, len((await self._metadata()).brokers))
        settings = {"max.message.bytes": str(MAX_BATCH_BYTES)}
        if copies >= 3:  # acknowledged is then on two brokers at least
            settings["min.insync.replicas"] = "2"
        if retention_bytes is not None:
            settings["retention.bytes"] = str(retention_bytes)
        if retention_s is not None:
            settings["retention.ms"] = str(int(retention_s * 1_000))
        new = NewTopic(topic, count, copies, config=settings)
        doing = f"create the topic {topic!r}"
        is_new = await self._ask(doing, lambda: _create(self._admin(), new, self._answer_s))
        await self._until_visible(topic, count)
        return is_new

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic, by name; Kafka's own are left out."""
        found = await self._look_up()
        return {topic: found[topic] for topic in sorted(found) if not topic.startswith("__")}

    async def append(self, topic: str, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Append `records` durably (see `Broker`).

        The records of one call without a key go together, call by call to the next partition.
        """
        if not records:
            return []
        count = await self._count(topic)
        for record in records:
            check_record(record)
        self._turn += 1
        numbers = [(self._turn if key is None else zlib.crc32(key)) % count for key, _, _ in records]
        try:
            return await self._sender().send(topic, records, numbers)
        except KafkaException as error:
            self._partitions.pop(topic, None)  # it may have been deleted meanwhile
            raise translate(error, self._options.servers, "take the messages", topic) from error

    async def poll(
        self,
        topic: str,
        group: str,
        member: str,
        *,
        generation: int,
        positions: Mapping[int, int],
        max_records: int = 500,
        wait_s: float = 0.0,
    ) -> Polled:
        """Join or stay in `group` and read from `positions` on (see `Broker`).

        A member's first poll waits until the group has let it in, for seconds if others have to give way.
        """
        await self._count(topic)
        found = self._member(topic, check_id("group", group), check_id("member", member))
        return await found.poll(generation, positions, max_records, wait_s)

    async def commit(
        self,
        topic: str,
        group: str,
        member: str,
        offsets: Mapping[int, int],
        *,
        beyond: Mapping[int, Ranges] | None = None,
        sends: Sequence[Send] = (),
        generation: int | None = None,
    ) -> list[int]:
        """Record how far `group` has come (see `Broker`); with `sends`, in a transaction.

        Raises
        ------
        InvalidValue
            An offset is not between the partition's start and end, or a record is too large.
        """
        await self._count(topic)
        placed = [(send.topic, await self._place(send.topic, send.record), send.record) for send in sends]
        found = self._members.get((topic, group, member))
        if found is None:
            return sorted(offsets)
        return await found.commit(commits.Commit(dict(offsets), beyond or {}, placed, generation))

    async def _place(self, topic: str, record: Outgoing) -> int:
        check_record(record)
        count = await self._count(topic)
        if record.key is None:
            self._turn += 1
        return (self._turn if record.key is None else zlib.crc32(record.key)) % count

    async def leave(self, topic: str, group: str, member: str) -> None:
        """Take `member` out of `group`; returns when Kafka was told, so that the others take over at once."""
        if (found := self._members.pop((topic, group, member), None)) is not None:
            await asyncio.wrap_future(found.leave())

    async def lag(self, topic: str, group: str) -> dict[int, int]:
        """Return for each partition how many records `group` has not committed yet."""
        count = await self._count(topic)
        properties = self._options.consumer(check_id("group", group), self._session_s)
        doing = f"say how far group {group!r} is"
        exact = topic.endswith(DEAD_LETTER_SUFFIX)  # people read how many letters there are
        return await self._ask(
            doing, lambda: onlooker.lag(properties, topic, count, self._answer_s, exact=exact), topic
        )

    async def close(self) -> None:
        """Leave every group, send what is on its way, and end every thread; safe to call twice."""
        self._closed = True
        members, self._members = list(self._members.values()), {}
        await asyncio.gather(*(asyncio.wrap_future(member.leave()) for member in members))
        if self._transacting is not None:
            await asyncio.to_thread(self._transacting.close)
        sending, self._sending = self._sending, None
        if sending is not None:
            await asyncio.to_thread(sending.close)
        await asyncio.to_thread(self._questions.shutdown)
        self._client = None

    # -- what is opened when it is first needed ----------------------------------------------------

    def _admin(self) -> AdminClient:
        with self._lock:
            if self._client is None:
                properties: dict[str, Any] = {**self._options.admin(), "error_cb": self._told}
                self._client = AdminClient(properties, logger=logger)
            return self._client

    def _told(self, error: KafkaError) -> None:
        """Take note of why nobody answers, where that will not change by itself."""
        if is_refusal(error):
            self._refusal = error

    def _sender(self) -> KafkaSender:
        with self._lock:
            self._check_open()
            if self._sending is not None and self._sending.is_broken:
                self._questions.submit(self._sending.close)
                self._sending = None
            if self._sending is None:
                self._sending = KafkaSender(self._options.producer())
            return self._sending

    def _transactions(self) -> KafkaTransactions:
        with self._lock:
            if self._transacting is None:
                self._transacting = KafkaTransactions(self._options.transactional(self._name))
            return self._transacting

    def _member(self, topic: str, group: str, member: str) -> KafkaMember:
        key = (topic, group, member)
        with self._lock:
            self._check_open()
            found = self._members.get(key)
            if found is None or found.over.done():
                properties = self._options.consumer(group, self._session_s)
                found = KafkaMember(
                    properties,
                    topic,
                    session_s=self._session_s,
                    clock=self._clock,
                    transactions=self._transactions,
                )
                self._members[key] = found
                for silent in [each for each, there in self._members.items() if there.over.done()]:
                    del self._members[silent]
            return found

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("the connection to Kafka is closed")

    # -- questions ---------------------------------------------------------------------------------

    async def _ask(self, doing: str, question: Callable[[], T], topic: str = "") -> T:
        """Ask in a thread of its own, since the answer may be long in coming; say what failed in Balance's words."""
        self._check_open()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._questions, question)
        except KafkaException as error:
            raise translate(error, self._options.servers, doing, topic) from error

    async def _metadata(self) -> Any:
        return await self._ask("answer", self._list_topics)

    def _list_topics(self) -> Any:
        """Ask in short turns: the client takes a broker that refuses it for one that is away, and waits for it."""
        turns = max(1, math.ceil(self._answer_s / TURN_S))
        turn_s = self._answer_s / turns
        while True:
            turns -= 1
            try:
                return self._admin().list_topics(timeout=turn_s)
            except KafkaException as error:
                self._admin().poll(0)
                refusal, self._refusal = self._refusal, None
                if refusal is not None:
                    raise KafkaException(refusal) from error
                if not turns:
                    raise

    async def _look_up(self) -> dict[str, int]:
        metadata = await self._metadata()
        # A topic without leaders is on its way, or its brokers are down; it is there all the same.
        self._partitions = {name: len(found.partitions) for name, found in metadata.topics.items() if found.partitions}
        return self._partitions

    async def _count(self, topic: str) -> int:
        """Return how many partitions a topic has; looked up once."""
        count = self._partitions.get(topic)
        if count is None:
            found = await self._look_up()
            if (count := found.get(topic)) is None:
                raise UnknownId("topic", topic, [name for name in found if not name.startswith("__")])
        return count

    async def _until_visible(self, topic: str, count: int) -> None:
        """Wait until the topic can be written to: the brokers hear of it one after the other."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._answer_s
        while True:
            found = (await self._metadata()).topics.get(topic)
            if found is not None and sum(p.leader >= 0 for p in found.partitions.values()) >= count:
                self._partitions[topic] = len(found.partitions)
                return
            if loop.time() > until:
                raise StorageError(f"Kafka at {self._options.servers} has created {topic!r}, but it has no leaders yet")
            await asyncio.sleep(LOOK_EVERY_S)


def _create(admin: AdminClient, new: NewTopic, answer_s: float) -> bool:
    try:
        admin.create_topics([new], operation_timeout=answer_s, request_timeout=answer_s)[new.topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return False
    return True
