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


class Client:
    """A transactional producer that does what it is told; what it is asked is noted with its number."""

    made: list[Client]
    released: threading.Event
    forgets: dict[int, str]  # the request that the n-th one never returns from
    refuses: dict[int, KafkaError]  # what the n-th one says, once, to the offsets

    def __init__(self, properties: object, logger: object) -> None:
        self.number = len(self.made)
        self.asked: list[str] = []
        self.made.append(self)

    def _take(self, request: str) -> None:
        self.asked.append(request)
        if self.forgets.get(self.number) == request:
            self.released.wait()
        if request == "send_offsets_to_transaction" and (error := self.refuses.pop(self.number, None)):
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
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Client]]:
    """Stand in for Kafka's client, with no patience; whoever hangs is let go at the end."""
    Client.made, Client.released, Client.forgets, Client.refuses = [], threading.Event(), {}, {}
    monkeypatch.setattr(transactions, "Producer", Client)
    monkeypatch.setattr(transactions, "OVERDUE_S", 0.01)
    monkeypatch.setattr(transactions, "ANSWER_S", 0.01)
    yield Client
    Client.released.set()


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
