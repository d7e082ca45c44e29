"""What lies between Balance and Kafka's client, on clients that do as they are told: sending, lag."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from balance.messaging import Outgoing
from balance.messaging.kafka import onlooker, sender
from balance.messaging.kafka.sender import KafkaSender

WITHIN_S = 10.0
MOVED = KafkaError(KafkaError.ILLEGAL_GENERATION, "moved", txn_requires_abort=True)
BROKEN = KafkaError(KafkaError.UNKNOWN_PRODUCER_ID, "broken", txn_requires_abort=True)


# -- sending


class Acknowledged:
    """What the client says of a record that was sent."""

    def __init__(self, partition, offset):
        self.partition = lambda: partition
        self.offset = lambda: offset


class Producer:
    """A producer that acknowledges the last first, as `error` says, and has room for so many records."""

    def __init__(self, *, error=None, room=100, stuck=False):
        self.error = error
        self.room = room
        self.stuck = stuck
        self.taken = []
        self.purged = False
        self._waiting = []
        self._lock = threading.Lock()

    def produce(self, _topic, value, _key, partition, delivered, headers=None):
        with self._lock:
            if len(self._waiting) >= self.room:
                raise BufferError
            offset = sum(number == partition for number, _ in self.taken)
            self.taken.append((partition, (value, headers)))
            self._waiting.append((delivered, Acknowledged(partition, offset)))

    def poll(self, _limit_s):
        return 0

    def flush(self, _limit_s):
        with self._lock:
            if self.stuck and not self.purged:
                return len(self._waiting)
            waiting, self._waiting = self._waiting, []
        for delivered, message in reversed(waiting):
            delivered(self.error, message)
        return 0

    def purge(self):
        self.purged, self.error = True, KafkaError(KafkaError._PURGE_QUEUE)


def sent(monkeypatch, producer, partitions):
    """Send a record to each of these partitions; return where they lie, or what went wrong, and the sender."""
    monkeypatch.setattr(sender, "Producer", lambda *_args, **_how: producer)

    async def main():
        sending = KafkaSender({})
        try:
            records = [Outgoing(None, str(n).encode(), {"n": "x"} if n else {}) for n in range(len(partitions))]
            return await asyncio.wait_for(sending.send("t", records, partitions), WITHIN_S), sending
        except KafkaException as error:
            return error, sending
        finally:
            await asyncio.to_thread(sending.close)

    return asyncio.run(main())


def test_offsets_belong_to_their_records(monkeypatch):
    """In whatever order the acknowledgements come: the records of a partition lie there in the order of sending."""
    places, _ = sent(monkeypatch, producer := Producer(), [1, 0, 1, 1, 0])
    assert places == [(1, 0), (0, 0), (1, 1), (1, 2), (0, 1)]
    assert [headers for _, (_, headers) in producer.taken] == [None] + [{"n": "x"}] * 4


def test_a_send_waits_for_room(monkeypatch):
    """More than the client can hold at a time: all of it is sent, in order."""
    places, _ = sent(monkeypatch, producer := Producer(room=2), [0] * 9)
    assert places == [(0, n) for n in range(9)]
    assert [value for _, (value, _) in producer.taken] == [str(n).encode() for n in range(9)]


@pytest.mark.parametrize("fatal", [False, True])
def test_what_is_not_acknowledged_is_an_error(monkeypatch, fatal):
    """And after a fatal one this producer is of no use any more."""
    error, sending = sent(monkeypatch, Producer(error=KafkaError(KafkaError._FATAL, "gone", fatal=fatal)), [0])
    assert isinstance(error, KafkaException)
    assert sending.is_broken is fatal


def test_closing_gives_up_what_can_not_be_sent(monkeypatch):
    """Whoever waits for it is told, instead of waiting for ever."""
    monkeypatch.setattr(sender, "FLUSH_S", 0.01)
    producer = Producer(stuck=True)
    monkeypatch.setattr(sender, "Producer", lambda *_args, **_how: producer)

    async def main():
        sending = KafkaSender({})
        waiting = asyncio.ensure_future(sending.send("t", [Outgoing(None, b"", {})], [0]))
        await asyncio.sleep(0)  # let it hand its record in
        await asyncio.to_thread(sending.close)
        with pytest.raises(KafkaException, match="_PURGE_QUEUE"):
            await asyncio.wait_for(waiting, WITHIN_S)

    asyncio.run(main())


# -- lag


class Watcher:
    """A consumer that looks at one topic: partitions from `starts` to `ends`, with these records still to come."""

    def __init__(self, committed, starts, ends, records=()):
        self.committed_at, self.starts, self.ends = committed, starts, ends
        self.records = deque(records)
        self.assigned = []
        self.closed = False

    def committed(self, places, _limit_s):
        return [TopicPartition("t", each.partition, self.committed_at[each.partition]) for each in places]

    def offsets_for_times(self, places, _limit_s):
        found = self.starts if places[0].offset == OFFSET_BEGINNING else self.ends
        return [TopicPartition("t", each.partition, found[each.partition]) for each in places]

    def assign(self, places):
        self.assigned += [(each.partition, each.offset) for each in places]

    def consume(self, _most, _limit_s):
        return [self.records.popleft()] if self.records else []

    def close(self):
        self.closed = True


class Seen:
    """A record, or what came in its place."""

    def __init__(self, code=None):
        self.error = lambda: None if code is None else KafkaError(code)


END = KafkaError._PARTITION_EOF


def lag(monkeypatch, watcher, **how):
    monkeypatch.setattr(onlooker, "Consumer", lambda *_args, **_how: watcher)
    try:
        return onlooker.lag({}, "t", len(watcher.starts), how.pop("answer_s", WITHIN_S), **how)
    finally:
        assert watcher.closed


def test_lag_counts_what_is_still_there(monkeypatch):
    """From what was committed on, or from the first record that retention has left, or from the first of all."""
    watcher = Watcher([7, 2, -1001], [0, 5, 0], [10, 10, 10])
    assert lag(monkeypatch, watcher) == {0: 3, 1: 5, 2: 10}
    assert watcher.assigned == []


def test_exact_lag_counts_records_and_no_marks(monkeypatch):
    """They are read up to the end of the partition, from where the group is; where nothing is left nothing is read."""
    watcher = Watcher([7, 10], [0, 0], [10, 10], [Seen(), Seen(), Seen(END)])
    assert lag(monkeypatch, watcher, exact=True) == {0: 2, 1: 0}
    assert watcher.assigned == [(0, 7)]
    monkeypatch.setattr(onlooker, "COUNTED", 2)
    assert lag(monkeypatch, Watcher([7], [0], [10]), exact=True) == {0: 3}  # too many to be counted one by one


def test_exact_lag_that_can_not_be_counted_is_an_error(monkeypatch):
    """A record that can't be read, or an end that does not come in time: no number is made up."""
    with pytest.raises(KafkaException, match="_TRANSPORT"):
        lag(monkeypatch, Watcher([0], [0], [3], [Seen(), Seen(KafkaError._TRANSPORT)]), exact=True)
    with pytest.raises(KafkaException, match="did not come in time"):
        lag(monkeypatch, Watcher([0], [0], [3], [Seen()]), exact=True, answer_s=0.05)
