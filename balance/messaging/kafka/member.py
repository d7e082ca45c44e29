"""One member of a consumer group: a Kafka consumer, and the thread that is the only one to touch it.

The thread fetches ahead into bounded windows, one for each partition that the member owns; a poll is answered from
them and changes nothing, so it may be cancelled or lost.  A consumer locks itself while it waits for messages, so
whatever else it has to do (commits, rewinds, pauses) is noted, and done between two short waits.

A window that is full pauses its partition: memory is bounded, and a slow reader holds up nobody else.

While the thread lives, librdkafka tells the broker that the member is alive.  That says nothing of the reader: one that
has not polled for the session time is taken out here, as the port promises.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from balance.clock import Clock
from balance.errors import BalanceError, StorageError
from balance.messaging.bell import Bell
from balance.messaging.broker import Polled, Record
from balance.messaging.kafka import commits
from balance.messaging.kafka.problems import is_lasting, translate
from balance.messaging.kafka.window import Window

#: How long a first poll waits to be let into the group; Kafka's own wait for further members is 3 s.
JOIN_S = 10.0
#: How long the thread waits for messages before it does what was noted; shorter if a partition is paused.
WAIT_S, WAIT_PAUSED_S = 0.05, 0.005
#: How many messages are taken before what was noted is done.
TAKE = 500
ANSWER_S = 10.0
#: How often a member with a problem looks whether it is over.
LOOK_AGAIN_S = 1.0

_generations = itertools.count(1)  # unique in the process: who was out and is back is not taken for who it was

logger = logging.getLogger(__name__)


class KafkaMember:
    """A member of a group that reads one topic.

    Parameters
    ----------
    properties : mapping
        librdkafka properties, see `KafkaOptions.consumer`.
    topic : str
        What it reads.
    session_s : float
        After so many seconds without a poll it leaves the group.
    clock : Clock
        Notices silence.

    Attributes
    ----------
    over : Future
        Resolved when it has left the group and its thread ends.
    """

    def __init__(self, properties: Mapping[str, Any], topic: str, *, session_s: float, clock: Clock) -> None:
        self.over: Future[None] = Future()
        self._properties = dict(properties)
        self._servers = str(properties["bootstrap.servers"])
        self._topic = topic
        self._session_s = session_s
        self._clock = clock
        self._bell = Bell()
        # It guards all that follows; re-entrant, since the client calls back from within a call.
        self._changed = threading.Condition(threading.RLock())
        self._windows: dict[int, Window] = {}
        self._commits: list[commits.Commit] = []
        self._is_in = False  # whether the group has let it in
        self._generation = 0
        self._problem: BalanceError | None = None
        self._looked_at = self._polled_at = clock.now()
        self._closing = False
        threading.Thread(target=self._run, name=f"balance-kafka-{topic}", daemon=True).start()

    # -- for the event loop ------------------------------------------------------------------------

    async def poll(self, generation: int, positions: Mapping[int, int], max_records: int, wait_s: float) -> Polled:
        """Answer as `Broker.poll`.

        Raises
        ------
        BalanceError
            Kafka does not answer, or refuses.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        with self._bell.listening() as rung:
            while True:
                rung.clear()
                with self._changed:
                    answer = self._answer(generation, positions, max_records)
                    left_s = began + (wait_s if self._generation else max(wait_s, JOIN_S)) - loop.time()
                    if answer is None and left_s <= 0:
                        answer = Polled(self._generation or next(_generations), self._assigned())
                if answer is not None:
                    return answer
                with suppress(TimeoutError):  # wake in time to say that the reader is there
                    async with asyncio.timeout(min(left_s, self._session_s / 3)):
                        await rung.wait()

    async def commit(self, offsets: Mapping[int, int]) -> list[int]:
        """Answer as `Broker.commit`."""
        commit = commits.Commit(dict(offsets))
        with self._changed:
            if self.over.done():
                return sorted(offsets)
            self._commits.append(commit)
            self._changed.notify()
        return await asyncio.wrap_future(commit.answer)

    def leave(self) -> Future[None]:
        """Leave the group; what is returned is resolved when that is done."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        return self.over

    def _answer(self, generation: int, positions: Mapping[int, int], max_records: int) -> Polled | None:
        """Return what a poll gets at once; None if it has to wait."""
        self._polled_at = self._clock.now()
        if self._generation and self._generation != generation:
            return Polled(self._generation, self._assigned())
        wanted = [(n, positions[n]) for n in sorted(self._windows) if n in positions] if self._generation else []
        records: list[Record] = []
        for rank, (number, position) in enumerate(wanted):
            # An equal share first, so that a full partition does not starve the others.
            share = max((max_records - len(records)) // (len(wanted) - rank), 1)
            window = self._windows[number]
            found = window.read(position, share)
            if found is None:
                window.rewind(position)
            else:
                records += found
            if window.is_paused and window.has_room:
                self._changed.notify()
        if records:
            return Polled(generation, self._assigned(), records)
        if self._problem is not None:
            raise self._problem
        if self.over.done():
            raise StorageError(f"the reader of {self._topic!r} has left its group")
        return None

    def _assigned(self) -> dict[int, int]:
        return {number: self._windows[number].committed or 0 for number in sorted(self._windows)}

    # -- in the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        consumer: Consumer | None = None
        try:
            consumer = Consumer(self._properties, logger=logger, error_cb=self._on_error)
            consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not self._closing and self._clock.now() - self._polled_at <= self._session_s:
                self._do_what_was_noted(consumer)
                self._take(consumer)
        except KafkaException as error:
            self._problem = translate(error, self._servers, "let a reader in")
        except Exception:
            logger.exception("kafka.member_failed topic=%s", self._topic)
            self._problem = StorageError(f"the reader of {self._topic!r} has failed; the log says why")
        finally:
            self._end(consumer)

    def _end(self, consumer: Consumer | None) -> None:
        with suppress(KafkaException, RuntimeError):
            if consumer is not None:
                self._do_commits(consumer)
                consumer.close()
        with self._changed:
            self._windows.clear()
            for commit in self._commits:
                commit.refuse()
            self.over.set_result(None)
        self._bell.ring()

    def _do_what_was_noted(self, consumer: Consumer) -> None:
        self._settle(consumer)
        self._do_commits(consumer)
        with self._changed:
            full = [n for n, window in self._windows.items() if window.is_full and not window.is_paused]
            free = [n for n, window in self._windows.items() if window.has_room and window.is_paused]
            for number in full + free:
                self._windows[number].is_paused = number in full
            rewinds = {n: w.start for n, w in self._windows.items() if w.is_rewinding and w.committed is not None}
        if full:
            consumer.pause([TopicPartition(self._topic, number) for number in full])
        if free:
            consumer.resume([TopicPartition(self._topic, number) for number in free])
        for number, start in rewinds.items():
            self._rewind(consumer, number, start)
        if self._problem is not None and self._clock.now() - self._looked_at > LOOK_AGAIN_S:
            self._look_again(consumer)

    def _settle(self, consumer: Consumer) -> None:
        """Ask what the group has committed on new partitions; with the answer, they are the reader's."""
        new = [number for number, window in self._windows.items() if window.committed is None]
        if new:
            try:
                found = consumer.committed([TopicPartition(self._topic, number) for number in new], ANSWER_S)
            except KafkaException as error:
                self._note(error.args[0], "say what is committed")
                return
            with self._changed:
                for place in found:
                    self._windows[place.partition].begin(max(place.offset, 0))  # below 0: nothing yet
        if new or (self._is_in and not self._generation):
            self._new_generation()

    def _new_generation(self) -> None:
        with self._changed:
            self._generation = next(_generations)
        self._bell.ring()

    def _do_commits(self, consumer: Consumer) -> None:
        with self._changed:
            asked, self._commits = self._commits, []
            ends = {number: window.end for number, window in self._windows.items()}
        if asked:
            taken = commits.carry_out(asked, consumer, self._topic, ends, self._servers)
            with self._changed:
                for number, offset in taken.items():
                    if number in self._windows:
                        self._windows[number].committed = offset

    def _rewind(self, consumer: Consumer, number: int, start: int) -> None:
        try:
            consumer.seek(TopicPartition(self._topic, number, start))
        except KafkaException as error:
            logger.debug("kafka.rewind_later topic=%s partition=%d error=%s", self._topic, number, error)
            return  # it is not fetching yet: once more in the next round
        with self._changed:
            window = self._windows.get(number)
            if window is not None and window.start == start:
                window.is_rewinding = False

    def _take(self, consumer: Consumer) -> None:
        """Wait for messages, for a moment, and put those that are there into their windows."""
        with self._changed:
            paused = [window.is_paused for window in self._windows.values()]
            wait_s = WAIT_PAUSED_S if any(paused) else WAIT_S
            if paused and all(paused):
                self._changed.wait(WAIT_S)  # a poll that makes room ends this wait
                wait_s = 0.0
        first = consumer.poll(wait_s)
        if first is None:  # not by its truth: an empty message is false
            return
        # All that is there in one call: a call for each message would hand the interpreter's lock to and fro.
        records = [
            record
            for message in (first, *consumer.consume(TAKE - 1, 0.0))
            if (record := self._read(message)) is not None
        ]
        with self._changed:
            for record in records:
                window = self._windows.get(record.partition)
                if window is not None:  # otherwise it is another member's meanwhile
                    window.add(record)
        self._bell.ring()

    def _read(self, message: Message) -> Record | None:
        if (error := message.error()) is not None:
            self._note(error, "deliver messages")
            return None
        return to_record(message)

    def _look_again(self, consumer: Consumer) -> None:
        try:
            found = consumer.list_topics(self._topic, ANSWER_S).topics.get(self._topic)
        except KafkaException as error:
            self._note(error.args[0], "answer")
        else:
            if found is not None and found.error is not None:
                self._note(found.error, "deliver messages")
            else:
                self._problem = None
        self._looked_at = self._clock.now()

    # -- what the client calls, in the thread, from within its own calls --------------------------

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        with self._changed:
            self._is_in = True
            for place in partitions:
                # It rewinds first of all: messages that the same call brings may be from before the partition moved.
                self._windows[place.partition] = Window()

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        with self._changed:
            gone = [place.partition for place in partitions if self._windows.pop(place.partition, None) is not None]
        if gone:
            self._new_generation()

    def _on_error(self, error: KafkaError) -> None:
        if is_lasting(error):
            self._note(error, "answer")
        else:
            logger.debug("kafka.error topic=%s error=%s", self._topic, error)

    def _note(self, error: KafkaError, doing: str) -> None:
        if self._problem is None:
            logger.warning("kafka.problem topic=%s error=%s", self._topic, error)
        self._problem = translate(error, self._servers, doing, self._topic)
        self._bell.ring()


def to_record(message: Message) -> Record:
    """Return a message as the port has it; headers that are not UTF-8 keep their bytes as escapes."""
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value() or b"",
        {name: _text(value) for name, value in dict(message.headers() or ()).items()},
        message.timestamp()[1] / 1_000,
    )


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""
