"""Kafka's transactions, on a client that keeps to a script: it refuses, is full, or forgets a request.

A real one forgets after a restart of its broker (see ``tests/integration/test_kafka_broker.py``).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from balance.errors import StorageError
from balance.messaging import Outgoing
from balance.messaging.kafka import transactions
from balance.messaging.kafka.transactions import KafkaTransactions, Transaction

WITHIN_S = 10.0
MOVED = KafkaError(KafkaError.ILLEGAL_GENERATION, "moved", txn_requires_abort=True)
BROKEN = KafkaError(KafkaError.UNKNOWN_PRODUCER_ID, "broken", txn_requires_abort=True)
LOADING = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "loading", retriable=True)


class Script:
    """What the producers of one test do, and what they were asked."""

    def __init__(self) -> None:
        self.made: list[Client] = []
        self.forgets: dict[int, str] = {}  # the request that the n-th producer never returns from
        self.refuses: dict[str, list[KafkaError]] = {}  # what is said to a member's offsets, one error after the other
        self.rooms: deque[bool] = deque()  # whether there is room for a record: where left out, there is
        self.committed: list[list[tuple[Any, ...]]] = []  # what was committed together lies together
        self.began, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.released = threading.Event()  # ends the waits of those that hang

    def values(self) -> list[list[str]]:
        """Return the values of the records that were committed."""
        return [[record[3].decode() for record in together] for together in self.committed]


class Client:
    """A transactional producer that keeps to a script."""

    def __init__(self, script: Script) -> None:
        self._script, self._number = script, len(script.made)
        self._open: list[tuple[Any, ...]] = []
        self.asked: list[str] = []
        script.made.append(self)

    def _take(self, request: str) -> None:
        self.asked.append(request)
        if self._script.forgets.get(self._number) == request:
            self._script.released.wait()

    def init_transactions(self, limit_s: float) -> None:
        self._take("init_transactions")

    def begin_transaction(self) -> None:
        self._take("begin_transaction")
        self._open = []
        self._script.began.set()
        assert self._script.go_on.wait(WITHIN_S)

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, headers: object) -> None:
        self._take("produce")
        if self._script.rooms and not self._script.rooms.popleft():
            raise BufferError
        self._open.append((topic, partition, key, value, headers))

    def poll(self, limit_s: float) -> None:
        self._take("poll")

    def send_offsets_to_transaction(self, places: object, metadata: str, limit_s: float) -> None:
        self._take("send_offsets_to_transaction")
        if errors := self._script.refuses.get(metadata):
            raise KafkaException(errors.pop(0))

    def commit_transaction(self, limit_s: float) -> None:
        self._take("commit_transaction")
        self._script.committed.append(self._open)

    def abort_transaction(self, limit_s: float) -> None:
        self._take("abort_transaction")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Stand in for Kafka's client; whoever hangs is let go at the end."""
    script = Script()
    monkeypatch.setattr(transactions, "Producer", lambda _properties, logger: Client(script))
    yield script
    script.released.set()
    script.go_on.set()


@pytest.fixture
def carrier(client: Script) -> Iterator[KafkaTransactions]:
    """Who carries out transactions on it."""
    made = KafkaTransactions({"bootstrap.servers": "one:9092"})
    yield made
    client.go_on.set()
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no patience with a client that hangs."""
    monkeypatch.setattr(transactions, "OVERDUE_S", 0.1)
    monkeypatch.setattr(transactions, "ANSWER_S", 0.1)


def transaction(name: str = "m", sends: int = 1) -> Transaction:
    """Return a member's commit with so many messages."""
    made = [("answers", 0, Outgoing(b"k", f"{name}{n}".encode(), {"h": name})) for n in range(sends)]
    return Transaction([], name, made)


def submitted(client: Script, carrier: KafkaTransactions, *made: Transaction) -> list[Any]:
    """Hand in the first, and the others while it is on its way; return what came of each."""
    client.go_on.clear()
    carrier.submit(made[0])
    assert client.began.wait(WITHIN_S)
    for each in made[1:]:
        carrier.submit(each)
    client.go_on.set()
    return [each.taken.exception(WITHIN_S) or each.taken.result(0) for each in made]


def test_what_comes_meanwhile_goes_together(client, carrier):
    """In one transaction, and everything of each record is sent."""
    assert submitted(client, carrier, *map(transaction, "abc")) == [True, True, True]
    assert client.values() == [["a0"], ["b0", "c0"]]
    assert client.committed[0] == [("answers", 0, b"k", b"a0", {"h": "a"})]


def test_one_whose_partitions_have_moved_does_not_hold_up_the_others(client, carrier):
    """A transaction that is refused is made again for each apart: whose it is gets the refusal, the others go."""
    client.refuses["c"] = [MOVED, MOVED]
    assert submitted(client, carrier, *map(transaction, "abcd")) == [True, True, False, True]
    assert client.values() == [["a0"], ["b0"], ["d0"]]


def test_what_is_no_refusal_is_a_failure(client, carrier):
    """Aborted for another reason than that partitions have moved: whoever waits is told that it failed."""
    client.refuses["b"] = [BROKEN]
    first, second, third = submitted(client, carrier, *map(transaction, "abc"))
    assert (first, type(second), type(third)) == (True, StorageError, StorageError)
    assert client.values() == [["a0"]]


def test_a_transaction_is_bounded(client, carrier, monkeypatch):
    """By its records; a commit is never split, however many it has."""
    monkeypatch.setattr(transactions, "TOGETHER", 3)
    made = [transaction(name, sends) for name, sends in zip("abcde", (1, 2, 1, 1, 5), strict=True)]
    assert submitted(client, carrier, *made) == [True] * 5
    assert [len(together) for together in client.committed] == [1, 3, 1, 5]


def test_a_transaction_waits_for_room(client, carrier):
    """A client whose queue is full sends before it takes more: nothing is left out, nothing is sent twice."""
    client.rooms.extend([False, False])
    assert submitted(client, carrier, transaction("a", 2)) == [True]
    assert (client.values(), client.made[0].asked.count("poll")) == ([["a0", "a1"]], 2)


@pytest.mark.parametrize("request_", ["init_transactions", "send_offsets_to_transaction", "commit_transaction"])
@pytest.mark.usefixtures("impatient")
def test_a_request_that_never_returns_costs_its_producer_and_nothing_else(client, carrier, request_):
    """What became of that transaction is not known; the next producer ends it and carries on."""
    client.forgets[0] = request_
    first, second = transaction(), transaction()
    carrier.submit(first)
    with pytest.raises(StorageError, match=f"{request_} does not return"):
        first.taken.result(WITHIN_S)
    carrier.submit(second)
    assert second.taken.result(WITHIN_S) is True
    assert [len(client.made), client.made[0].asked[-1]] == [2, request_]
    assert client.made[1].asked == [
        "init_transactions",
        "begin_transaction",
        "produce",
        "send_offsets_to_transaction",
        "commit_transaction",
    ]


@pytest.mark.usefixtures("impatient")
def test_closing_does_not_wait_for_a_request_that_never_returns(client, carrier):
    """A process ends although its client hangs, and who waits for the transaction is told."""
    client.forgets = dict.fromkeys(range(3), "send_offsets_to_transaction")
    handed_in = [transaction() for _ in range(3)]
    for each in handed_in:
        carrier.submit(each)
    carrier.close()
    for each in handed_in:
        assert isinstance(each.taken.exception(0), StorageError)


@pytest.mark.usefixtures("impatient")
def test_an_abort_that_never_returns_costs_the_producer(client, carrier):
    """The group has refused the offsets, and then the client hangs: another producer takes over."""
    client.refuses["m"] = [MOVED]
    client.forgets[0] = "abort_transaction"
    first, second = transaction(), transaction()
    carrier.submit(first)
    with pytest.raises(StorageError):
        first.taken.result(WITHIN_S)
    carrier.submit(second)
    assert second.taken.result(WITHIN_S) is True


def test_a_time_out_of_the_client_is_asked_again(client, carrier):
    """A retriable error is no end: the same producer goes on with the same transaction."""
    client.refuses["m"] = [LOADING]
    carrier.submit(each := transaction())
    assert each.taken.result(WITHIN_S) is True
    assert client.made[0].asked.count("send_offsets_to_transaction") == 2
    assert len(client.made) == 1
