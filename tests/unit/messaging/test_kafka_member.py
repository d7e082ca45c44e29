"""A member of a group on a consumer that does as it is told: what it reads, refuses, commits, and when it leaves."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from balance.clock import FakeClock
from balance.errors import StorageError
from balance.messaging import Outgoing
from balance.messaging.kafka import member, window
from balance.messaging.kafka.commits import Commit
from balance.messaging.kafka.member import KafkaMember
from balance.messaging.progress import from_text, to_text

WITHIN_S = 10.0


class Message:
    """A record as the client has it, or, with a code, what comes in its place."""

    def __init__(self, partition, offset, code=None):
        self.partition, self.offset = (lambda: partition), (lambda: offset)
        self.error = lambda: None if code is None else KafkaError(code)
        self.key, self.headers, self.timestamp = (lambda: None), (lambda: None), (lambda: (1, 0))
        self.value = lambda: str(offset).encode()


class Consumer:
    """A consumer of partitions of ten records each, with two marks behind them; the group begins at `committed_at`."""

    def __init__(self, partitions=1, records=10, committed_at=None):
        self.partitions = range(partitions)
        self.log = {number: list(range(records)) for number in self.partitions}
        self.tail = records + 2
        self.committed_at = dict.fromkeys(self.partitions, (0, ())) | (committed_at or {})
        self.asked_committed = 0
        self.answers = threading.Event()
        self.answers.set()
        self.refuses = None
        self.at = dict.fromkeys(self.partitions, 0)
        self.paused = set()
        self.paused_ever = set()
        self.closed = False
        self.callbacks = {}
        self.revoked = []
        self.changed = threading.Condition()
        self.assigned = False

    def subscribe(self, _topics, **callbacks):
        self.callbacks = callbacks

    def poll(self, wait_s):
        with self.changed:
            if not self.assigned:
                self.assigned = True
                self.callbacks["on_assign"](self, [TopicPartition("t", number) for number in self.partitions])
                return None
            if self.revoked:
                gone, self.revoked = self.revoked, []
                self.callbacks["on_revoke"](self, [TopicPartition("t", number) for number in gone])
                return None
            found = self._next()
            if found is None:
                self.changed.wait(wait_s)
            return found

    def consume(self, most, _wait_s):
        found = []
        while len(found) < most and (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self):
        for number in self.partitions:
            if number not in self.paused and self.at[number] < self.tail:
                if self.at[number] >= len(self.log[number]):
                    self.at[number] = self.tail
                    return Message(number, self.tail, KafkaError._PARTITION_EOF)
                self.at[number] += 1
                return Message(number, self.at[number] - 1)
        return None

    def committed(self, places, _limit_s):
        assert self.answers.wait(WITHIN_S)
        self.asked_committed += 1
        return [
            TopicPartition("t", each.partition, offset, to_text(beyond))
            for each in places
            for offset, beyond in [self.committed_at[each.partition]]
        ]

    def commit(self, offsets, asynchronous):
        if self.refuses is not None:
            raise KafkaException(self.refuses)
        for each in offsets:
            self.committed_at[each.partition] = each.offset, from_text(each.metadata)
        return offsets

    def get_watermark_offsets(self, _place, _limit_s):
        return 0, self.tail

    def seek(self, place):
        self.at[place.partition] = place.offset

    def pause(self, places):
        self.paused |= {each.partition for each in places}
        self.paused_ever |= self.paused

    def resume(self, places):
        self.paused -= {each.partition for each in places}

    def consumer_group_metadata(self):
        return "metadata"

    def close(self):
        self.closed = True


class Transactions:
    """Takes transactions, and lets the test say what became of them."""

    def __init__(self):
        self.taken = []

    def submit(self, transaction):
        self.taken.append(transaction)


def run(monkeypatch, scenario, consumer, **how):
    """Run a scenario on a member over a consumer."""
    monkeypatch.setattr(member, "Consumer", lambda *_args, **_how: consumer)
    transactions = Transactions()

    async def main():
        made = KafkaMember(
            {"bootstrap.servers": "one:9092"},
            "t",
            session_s=10.0,
            clock=how.get("clock", FakeClock()),
            transactions=lambda: transactions,
        )
        try:
            async with asyncio.timeout(WITHIN_S):
                return await scenario(made, transactions)
        finally:
            await asyncio.wrap_future(made.leave())

    found = asyncio.run(main())
    assert consumer.closed
    return found


async def joined(made):
    return await made.poll(0, {}, 500, 0.0)


async def read(made, generation, position, count, most=500):
    """Read on in partition 0 until there are so many records."""
    offsets = []
    while len(offsets) < count:
        polled = await made.poll(generation, {0: position}, most, 1.0)
        offsets += [record.offset for record in polled.records]
        position = offsets[-1] + 1 if offsets else position
    return offsets


def test_who_takes_over_begins_where_the_group_is(monkeypatch):
    """At what is committed, with what is handled beyond it; a partition of which nothing is, at its start."""

    async def scenario(made, _):
        polled = await joined(made)
        return polled.assigned, polled.beyond, await read(made, polled.generation, 3, 7)

    consumer = Consumer(2, committed_at={0: (3, ((5, 6),)), 1: (-1001, ())})
    assert run(monkeypatch, scenario, consumer) == ({0: 3, 1: 0}, {0: ((5, 6),)}, list(range(3, 10)))


def test_what_was_read_before_is_read_again(monkeypatch):
    """A position before that which was confirmed is fetched anew, without a gap and without what was on its way."""

    async def scenario(made, _):
        polled = await joined(made)
        return [await read(made, polled.generation, start, 10 - start) for start in (0, 7, 2, 9)]

    assert run(monkeypatch, scenario, Consumer()) == [list(range(start, 10)) for start in (0, 7, 2, 9)]


def test_each_partition_has_its_share(monkeypatch):
    """However little is asked for at a time."""

    async def scenario(made, _):
        polled = await joined(made)
        how = (polled.generation, {0: 0, 1: 0})
        while len((await made.poll(*how, 500, 1.0)).records) < 20:
            pass
        return [sorted(record.partition for record in (await made.poll(*how, most, 0.0)).records) for most in (1, 2, 6)]

    assert run(monkeypatch, scenario, Consumer(2)) == [[0, 1], [0, 1], [0, 0, 0, 1, 1, 1]]


def test_what_is_fetched_ahead_is_bounded(monkeypatch):
    """A full window pauses its partition; once a reader has made room it goes on, to the end."""
    monkeypatch.setattr(window, "MAX_RECORDS", 4)
    monkeypatch.setattr(member, "TAKE", 1)

    async def scenario(made, _):
        polled = await joined(made)
        most = []
        offsets, position = [], 0
        while len(offsets) < 40:
            while 0 not in consumer.paused and consumer.at[0] < 40:  # however long the reader takes
                await asyncio.sleep(0.001)
            found = (await made.poll(polled.generation, {0: position}, 500, 1.0)).records
            most.append(len(found))
            offsets += [record.offset for record in found]
            position = offsets[-1] + 1
        return offsets, max(most)

    consumer = Consumer(records=40)
    offsets, most = run(monkeypatch, scenario, consumer)
    assert (offsets, most <= 5, consumer.paused_ever) == (list(range(40)), True, {0})


def test_an_old_generation_commits_nothing(monkeypatch):
    """Neither plainly nor with something to send; the present one does, and so does who names none."""

    async def scenario(made, transactions):
        generation = (await joined(made)).generation
        send = [("answers", 0, Outgoing(None, b"", {}))]
        answers = [await made.commit(Commit({0: 1}, generation=generation - 1, sends=sends)) for sends in ((), send)]
        answers += [await made.commit(Commit({0: n}, generation=known)) for n, known in ((1, generation), (2, None))]
        return answers, transactions.taken

    consumer = Consumer()
    assert run(monkeypatch, scenario, consumer) == ([[0], [0], [], []], [])
    assert consumer.committed_at == {0: (2, ())}


def test_who_owns_only_some_of_it_sends_nothing(monkeypatch):
    """With something to send a commit is taken as a whole, or not at all."""

    async def scenario(made, transactions):
        await joined(made)
        answer = await made.commit(Commit({0: 1, 5: 1}, sends=[("answers", 0, Outgoing(None, b"", {}))]))
        return answer, transactions.taken

    assert run(monkeypatch, scenario, Consumer()) == ([0, 5], [])


@pytest.mark.parametrize("outcome", [True, False, StorageError("nobody knows")])
def test_what_became_of_a_transaction(monkeypatch, outcome):
    """Taken: it counts. Refused: nothing does. Not known: the group is asked, and the reader hears of it."""

    async def scenario(made, transactions):
        before = await joined(made)
        sends = [("answers", 0, Outgoing(None, b"", {}))]
        committing = asyncio.ensure_future(made.commit(Commit({0: 4}, {0: ((6, 7),)}, sends)))
        while not transactions.taken:
            await asyncio.sleep(0.001)
        taken: Future[bool] = transactions.taken[0].taken
        consumer.committed_at[0] = 4, ((6, 7),)
        asked = consumer.asked_committed
        if isinstance(outcome, Exception):
            consumer.answers.clear()
            taken.set_exception(outcome)
            with pytest.raises(StorageError, match="nobody knows"):
                await committing
            asking = asyncio.ensure_future(made.poll(0, {}, 500, WITHIN_S))
            await asyncio.sleep(0)
            assert not asking.done()  # before the group has said how far it is, nothing is said of the partition
            consumer.answers.set()
            after = await asking
            return after.generation > before.generation, after.assigned, consumer.asked_committed - asked
        taken.set_result(outcome)
        return await committing, (await joined(made)).assigned, consumer.asked_committed - asked

    consumer = Consumer()
    found = run(monkeypatch, scenario, consumer)
    assert found == {True: ([], {0: 4}, 0), False: ([0], {0: 0}, 0)}.get(outcome, (True, {0: 4}, 1))


def test_a_partition_that_is_taken_away_is_gone_at_once(monkeypatch):
    """The reader hears of it in its poll, and what it commits for it is refused."""

    async def scenario(made, _):
        before = await joined(made)
        with consumer.changed:
            consumer.revoked = [0]
            consumer.changed.notify()
        after = await made.poll(before.generation, {}, 500, WITHIN_S)
        return after.generation > before.generation, after.assigned, await made.commit(Commit({0: 1, 1: 1}))

    consumer = Consumer(2)
    assert run(monkeypatch, scenario, consumer) == (True, {1: 0}, [0])


def test_marks_behind_all_that_is_committed_are_passed(monkeypatch):
    """Whoever has committed the last record is at the end, also where the marks come to light only afterwards."""

    async def scenario(made, _):
        polled = await joined(made)
        await read(made, polled.generation, 0, 10)
        await made.commit(Commit({0: 9}))
        early = consumer.committed_at[0]
        await made.commit(Commit({0: 10}))
        assert consumer.committed_at[0] == (10, ())
        with consumer.changed:
            consumer.tail = 12
            consumer.changed.notify()
        while consumer.committed_at[0] != (12, ()):
            await asyncio.sleep(0.001)
        return early

    consumer = Consumer()
    consumer.tail = 10
    assert run(monkeypatch, scenario, consumer) == (9, ())


def test_a_commit_that_was_given_up_is_not_made(monkeypatch):
    """Before it was begun: who does not wait for it any more takes it for undone."""

    async def scenario(made, _):
        await joined(made)
        with consumer.changed:  # its thread can't go on meanwhile
            given_up = asyncio.ensure_future(made.commit(Commit({0: 5})))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
        return await made.commit(Commit({0: 1}))

    consumer = Consumer(records=0)
    consumer.tail = 0
    consumer.get_watermark_offsets = lambda *_: (0, 10)
    made = []
    plain = consumer.commit
    consumer.commit = lambda offsets, asynchronous: (
        made.extend(o.offset for o in offsets),
        plain(offsets, asynchronous),
    )[1]
    assert run(monkeypatch, scenario, consumer) == []
    assert made == [1]


def test_who_does_not_poll_is_taken_out(monkeypatch):
    """After the session time, on the clock: and then its polls say so."""
    clock = FakeClock()

    async def scenario(made, _):
        generation = (await joined(made)).generation
        clock.advance(10.5)
        await asyncio.wrap_future(made.over)
        with pytest.raises(StorageError, match="has left its group"):
            await made.poll(generation, {}, 500, 0.0)
        return await made.commit(Commit({0: 1}))

    assert run(monkeypatch, scenario, Consumer(), clock=clock) == [0]
