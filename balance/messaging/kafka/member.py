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
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from balance.clock import Clock
from balance.errors import BalanceError, StorageError
from balance.messaging.bell import Bell
from balance.messaging.broker import Polled, Record
from balance.messaging.kafka import commits
from balance.messaging.kafka.problems import is_lasting, translate
from balance.messaging.kafka.records import to_record
from balance.messaging.kafka.transactions import KafkaTransactions, Transaction
from balance.messaging.kafka.window import Window
from balance.messaging.progress import Ranges, from_text

#: How long a first poll waits to be let into the group; Kafka's own wait for further members is 3 s.
JOIN_S = 10.0
#: How long the thread waits for messages before it does what was noted; shorter if a partition is paused.
WAIT_S, WAIT_PAUSED_S = 0.05, 0.005
#: How many messages are taken before what was noted is done.
TAKE = 500
ANSWER_S = 10.0
#: How often a member with a problem looks whether it is over.
LOOK_AGAIN_S = 1.0

# Unique, in other processes too: who was out and is back is not taken for who it was.
_generations = itertools.count(time.time_ns())

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
    transactions : callable
        Returns who carries out commits with which something is sent; called when that is first needed.

    Attributes
    ----------
    over : Future
        Resolved when it has left the group and its thread ends.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        *,
        session_s: float,
        clock: Clock,
        transactions: Callable[[], KafkaTransactions],
    ) -> None:
        self.over: Future[None] = Future()
        self._properties = dict(properties)
        self._servers = str(properties["bootstrap.servers"])
        self._topic = topic
        self._session_s = session_s
        self._clock = clock
        self._transactions = transactions
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
                        answer = self._polled(self._generation or next(_generations))
                if answer is not None:
                    return answer
                with suppress(TimeoutError):  # wake in time to say that the reader is there
                    async with asyncio.timeout(min(left_s, self._session_s / 3)):
                        await rung.wait()

    async def commit(self, commit: commits.Commit) -> list[int]:
        """Answer as `Broker.commit`."""
        with self._changed:
            if self.over.done():
                return sorted(commit.offsets)
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
        if self._generation and self._generation != generation and self._is_settled():
            return self._polled(self._generation)
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
            return self._polled(generation, records)
        if self._problem is not None:
            raise self._problem
        if self.over.done():
            raise StorageError(f"the reader of {self._topic!r} has left its group")
        return None

    def _is_settled(self) -> bool:
        """Whether it is known of every partition how far the group is."""
        return all(window.committed is not None for window in self._windows.values())

    def _polled(self, generation: int, records: Sequence[Record] = ()) -> Polled:
        known = {number: window for number, window in sorted(self._windows.items()) if window.committed is not None}
        assigned = {number: window.committed or 0 for number, window in known.items()}
        beyond = {number: window.beyond for number, window in known.items() if window.beyond}
        return Polled(generation, assigned, list(records), beyond)

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
                    self._windows[place.partition].begin(
                        max(place.offset, 0), from_text(place.metadata)
                    )  # below 0: none
        if new or (self._is_in and not self._generation):
            self._new_generation()

    def _new_generation(self) -> None:
        with self._changed:
            self._generation = next(_generations)
        self._bell.ring()

    def _do_commits(self, consumer: Consumer) -> None:
        with self._changed:
            asked, self._commits = self._commits, []
            windows = {number: window for number, window in self._windows.items() if window.committed is not None}
            generation = self._generation
        # Of a caller that was cancelled before, nothing is committed.
        waiting = [commit for commit in asked if commit.answer.set_running_or_notify_cancel()]
        for commit in [each for each in waiting if each.generation not in (None, generation)]:
            waiting.remove(commit)
            commit.refuse()
        sound = [each for each in waiting if commits.is_within(each, consumer, self._topic, windows, self._servers)]
        for commit in [each for each in sound if each.sends]:
            sound.remove(commit)
            self._transact(commit, consumer, windows)
        if sound:
            note = partial(self._note_committed, windows=windows)
            commits.carry_out(sound, consumer, self._topic, windows, self._servers, note=note)
        self._pass_marks(consumer, windows)

    def _note_committed(self, taken: Mapping[int, tuple[int, Ranges]], windows: Mapping[int, Window]) -> None:
        with self._changed:
            for number, (offset, beyond) in taken.items():
                windows[number].committed, windows[number].beyond = offset, beyond

    def _transact(self, commit: commits.Commit, consumer: Consumer, windows: Mapping[int, Window]) -> None:
        """Hand a commit with its sends on; what came of it is told in the thread of the transactions."""
        if not commit.offsets.keys() <= windows.keys():
            commit.refuse()
            return
        wanted = {number: (offset, commit.beyond.get(number, ())) for number, offset in commit.offsets.items()}
        places = commits.places(wanted, self._topic, windows)
        transaction = Transaction(places, consumer.consumer_group_metadata(), commit.sends)

        def over(taken: Future[bool]) -> None:
            if (error := taken.exception()) is not None:
                with self._changed:
                    for number in wanted:  # whether it happened has to be asked
                        windows[number].committed = None
                    self._changed.notify()
                commit.answer.set_exception(error)
            elif taken.result():
                self._note_committed({p.partition: (p.offset, wanted[p.partition][1]) for p in places}, windows)
                commit.answer.set_result([])
            else:
                commit.refuse()

        transaction.taken.add_done_callback(over)
        self._transactions().submit(transaction)

    def _pass_marks(self, consumer: Consumer, windows: Mapping[int, Window]) -> None:
        """Commit what lies behind the last record, if that is committed: marks of transactions are nobody's work."""
        behind = {
            number: (window.tail, window.beyond)
            for number, window in windows.items()
            if not window.beyond and window.committed is not None and window.end <= window.committed < window.tail
        }
        if behind:
            with suppress(KafkaException):
                found = consumer.commit(offsets=commits.places(behind, self._topic, windows), asynchronous=False)
                self._note_committed({p.partition: (p.offset, ()) for p in found if p.error is None}, windows)

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
            if error.code() == KafkaError._PARTITION_EOF:
                with self._changed:
                    window = self._windows.get(message.partition() or 0)
                    if window is not None and not window.is_rewinding:
                        window.tail = message.offset() or 0
            else:
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
