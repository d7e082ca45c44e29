"""Transactions over a client that forgets requests, as Kafka's does after a restart of its broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from balance.errors import StorageError
from balance.messaging import Outgoing
from balance.messaging.kafka import transactions
from balance.messaging.kafka.transactions import KafkaTransactions, Transaction

WITHIN_S = 10.0


class Script:
    """What the producers of one test do, by their number, and what they were asked."""

    def __init__(self) -> None:
        self.made: list[Client] = []
        self.forgets: dict[int, str] = {}  # the request that the n-th one never returns from
        self.refuses: dict[int, KafkaError] = {}  # what the n-th one says, once, to the offsets
        self.released = threading.Event()  # ends the waits of those that hang


class Client:
    """A transactional producer that keeps to a script."""

    def __init__(self, script: Script) -> None:
        self._script, self._number = script, len(script.made)
        self.asked: list[str] = []
        script.made.append(self)

    def _take(self, request: str) -> None:
        self.asked.append(request)
        if self._script.forgets.get(self._number) == request:
            self._script.released.wait()
        if request == "send_offsets_to_transaction" and (error := self._script.refuses.pop(self._number, None)):
            raise KafkaException(error)

    def init_transactions(self, limit_s: float) -> None:
        self._take("init_transactions")

    def begin_transaction(self) -> None:
        self._take("begin_transaction")

    def produce(self, *given: object, headers: object) -> None:
        self._take("produce")

    def send_offsets_to_transaction(self, places: object, metadata: object, limit_s: float) -> None:
        self._take("send_offsets_to_transaction")

    def commit_transaction(self, limit_s: float) -> None:
        self._take("commit_transaction")

    def abort_transaction(self, limit_s: float) -> None:
        self._take("abort_transaction")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Stand in for Kafka's client, with no patience for one that hangs; whoever does is let go at the end."""
    script = Script()
    monkeypatch.setattr(transactions, "Producer", lambda _properties, logger: Client(script))
    monkeypatch.setattr(transactions, "OVERDUE_S", 0.1)
    monkeypatch.setattr(transactions, "ANSWER_S", 0.1)
    yield script
    script.released.set()


def transaction() -> Transaction:
    """Return a commit with one message."""
    return Transaction([], None, [("answers", 0, Outgoing(None, b"1", {}))])


@pytest.mark.parametrize("request_", ["init_transactions", "send_offsets_to_transaction", "commit_transaction"])
def test_a_request_that_never_returns_costs_its_producer_and_nothing_else(client, request_):
    """What became of that transaction is not known; the next producer ends it and carries on."""
    client.forgets[0] = request_
    carrier = KafkaTransactions({"bootstrap.servers": "one:9092"})
    first, second = transaction(), transaction()
    carrier.submit(first)
    with pytest.raises(StorageError, match=f"{request_} does not return"):
        first.taken.result(WITHIN_S)
    carrier.submit(second)
    assert second.taken.result(WITHIN_S) is True
    carrier.close()
    assert [len(client.made), client.made[0].asked[-1]] == [2, request_]
    assert client.made[1].asked == [
        "init_transactions",
        "begin_transaction",
        "produce",
        "send_offsets_to_transaction",
        "commit_transaction",
    ]


def test_closing_does_not_wait_for_a_request_that_never_returns(client):
    """A process ends although its client hangs, and who waits for the transaction is told."""
    client.forgets = dict.fromkeys(range(3), "send_offsets_to_transaction")
    carrier = KafkaTransactions({"bootstrap.servers": "one:9092"})
    handed_in = [transaction() for _ in range(3)]
    for each in handed_in:
        carrier.submit(each)
    carrier.close()
    for each in handed_in:
        assert isinstance(each.taken.exception(0), StorageError)


def test_an_abort_that_never_returns_costs_the_producer(client):
    """The group has refused the offsets, and then the client hangs: another producer takes over."""
    client.refuses[0] = KafkaError(KafkaError.ILLEGAL_GENERATION, "moved", txn_requires_abort=True)
    client.forgets[0] = "abort_transaction"
    carrier = KafkaTransactions({"bootstrap.servers": "one:9092"})
    first, second = transaction(), transaction()
    carrier.submit(first)
    with pytest.raises(StorageError):
        first.taken.result(WITHIN_S)
    carrier.submit(second)
    assert second.taken.result(WITHIN_S) is True
    carrier.close()


def test_a_time_out_of_the_client_is_asked_again(client):
    """A retriable error is no end: the same producer goes on with the same transaction."""
    client.refuses[0] = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "loading", retriable=True)
    carrier = KafkaTransactions({"bootstrap.servers": "one:9092"})
    carrier.submit(each := transaction())
    assert each.taken.result(WITHIN_S) is True
    carrier.close()
    assert client.made[0].asked.count("send_offsets_to_transaction") == 2
    assert len(client.made) == 1
