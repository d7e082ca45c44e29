"""Consume, process and produce as one: commits and what goes with them, in Kafka's transactions (KIP-98, KIP-447).

One transactional producer and one thread for a whole connection.  What members hand in while a transaction is on its
way goes into the next, together.  A member that was given up for dead commits with the generation that it knew, which
the group refuses: the transaction is aborted, and none of its messages is ever shown to a reader.  What a process had
open when it died is aborted by its successor, who takes over its transactional id.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from balance.errors import BalanceError, NotReady, StorageError
from balance.messaging.broker import Outgoing
from balance.messaging.kafka.problems import NOT_THE_OWNER, translate

#: How long one request of a transaction may take before it is made again.
ANSWER_S = 3.0
#: How much later the client is taken to have forgotten a request.
OVERDUE_S = 1.0
#: The wait before a request is made again that can be.
AGAIN_S = 0.1
#: How many messages go in one transaction at most; a commit is never split.
TOGETHER = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """A commit of one member with what goes along.

    Attributes
    ----------
    places : list of TopicPartition
        The offsets, with what is handled beyond them as metadata.
    metadata : object
        What the member's consumer says of itself: its group, its generation.
    sends : list
        Topic, partition and record of each message.
    taken : Future
        True when it happened, False when it was refused because partitions have moved; a `StorageError` where that is
        not known.
    """

    places: Sequence[TopicPartition]
    metadata: Any
    sends: Sequence[tuple[str, int, Outgoing]]
    taken: Future[bool] = field(default_factory=Future)


class KafkaTransactions:
    """Carries out transactions, one at a time.

    Parameters
    ----------
    properties : mapping
        librdkafka properties, see `KafkaOptions.transactional`.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = dict(properties)
        self._servers = str(properties["bootstrap.servers"])
        self._wake = threading.Condition()
        self._waiting: list[Transaction] = []
        self._producer: Producer | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="balance-kafka-transactions", daemon=True)
        self._thread.start()

    def submit(self, transaction: Transaction) -> None:
        """Have it carried out; its future tells."""
        with self._wake:
            if self._closing:
                transaction.taken.set_exception(NotReady("the connection to Kafka is closed"))
                return
            self._waiting.append(transaction)
            self._wake.notify()

    def close(self) -> None:
        """Finish what was handed in, if Kafka lets us, and end the thread; safe to call twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # -- in the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if not self._waiting:
                    return
                together = [self._waiting.pop(0)]
                count = len(together[0].sends)
                while self._waiting and count + len(self._waiting[0].sends) <= TOGETHER:
                    together.append(self._waiting.pop(0))
                    count += len(together[-1].sends)
            self._carry_out(together)

    def _carry_out(self, together: Sequence[Transaction]) -> None:
        try:
            taken = self._once(together)
        except BalanceError as error:
            for each in together:
                each.taken.set_exception(error)
        except Exception as error:
            logger.exception("kafka.transaction_failed")
            for each in together:
                each.taken.set_exception(StorageError(f"Kafka's client failed: {error!r}"))
        else:
            if not taken and len(together) > 1:  # whose partitions have moved, and whose have not?
                for each in together:
                    self._carry_out([each])
                return
            for each in together:
                each.taken.set_result(taken)

    def _once(self, together: Sequence[Transaction]) -> bool:
        """Carry out one transaction; say whether it happened, False if a member does not own its partitions."""
        try:
            producer = self._open()
            producer.begin_transaction()
            for each in together:
                for send in each.sends:
                    self._produce(producer, *send)
            for each in together:
                self._insist(producer.send_offsets_to_transaction, list(each.places), each.metadata)
            self._insist(producer.commit_transaction)
        except KafkaException as error:
            return self._failed(error)
        return True

    def _open(self) -> Producer:
        if self._producer is None:
            producer = Producer(self._properties, logger=logger)
            # This ends what a former holder of the id has left open, and keeps it from committing anything.
            self._insist(producer.init_transactions)
            self._producer = producer
        return self._producer

    @staticmethod
    def _produce(producer: Producer, topic: str, partition: int, record: Outgoing) -> None:
        key, value, headers = record
        while True:
            try:
                producer.produce(topic, value, key, partition, headers={**headers})
                return
            except BufferError:
                producer.poll(AGAIN_S)

    def _insist(self, request: Callable[..., Any], *args: Any) -> None:
        """Make a request until it is answered: while that is not so, nobody knows what became of the transaction."""
        while True:
            try:
                _within(ANSWER_S + OVERDUE_S, request, *args, ANSWER_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or self._closing:
                    raise
                logger.debug("kafka.transaction_again error=%s", error)
                with self._wake:
                    self._wake.wait_for(lambda: self._closing, AGAIN_S)

    def _failed(self, error: KafkaException) -> bool:
        told: KafkaError = error.args[0]
        if told.txn_requires_abort() and self._producer is not None:
            with suppress(KafkaException):
                self._insist(self._producer.abort_transaction)
                if told.code() in NOT_THE_OWNER:
                    return False
                raise translate(told, self._servers, "take the messages and the commit") from error
        # Whatever else it was (Kafka has given up a transaction that took too long, say): another producer under the
        # same id ends what this one has left open.  Who takes the id from one that lives does no harm: what counts is
        # the generation of the group, which comes with every commit.
        self._producer = None
        raise translate(told, self._servers, "take the messages and the commit") from error


def _within(limit_s: float, request: Callable[..., Any], *args: Any) -> None:
    """Make a request that may never return; one that takes longer than `limit_s` is left alone with its thread.

    Raises
    ------
    KafkaException
        What the request raised, or a time-out that must not be tried again on the same producer: it is still at it.
    """
    answer: Future[None] = Future()

    def ask() -> None:
        try:
            request(*args)
        except BaseException as error:  # noqa: BLE001 (whatever it is belongs to who waits)
            answer.set_exception(error)
        else:
            answer.set_result(None)

    threading.Thread(target=ask, name="balance-kafka-request", daemon=True).start()
    try:
        answer.result(limit_s)
    except TimeoutError as error:
        logger.warning("kafka.request_overdue request=%s after_s=%.0f", request.__name__, limit_s)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{request.__name__} does not return")) from error
