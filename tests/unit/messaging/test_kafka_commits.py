"""Commits of a member and its window, without Kafka: a consumer that answers as it is told."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from balance.errors import InvalidValue, StorageError
from balance.messaging.broker import Record
from balance.messaging.kafka import commits, window
from balance.messaging.kafka.commits import Commit
from balance.messaging.kafka.window import Window
from balance.messaging.progress import from_text


class Place(NamedTuple):
    """What the client answers to a commit, partition by partition."""

    partition: int
    offset: int
    error: KafkaError | None = None


class Consumer:
    """Takes every commit, except what it is told to refuse; its partitions end at `end`."""

    def __init__(self, *, errors=None, fails=None, end=10):
        self.asked = []
        self.errors = errors or {}
        self.fails = fails
        self.end = end

    def commit(self, offsets, asynchronous):
        assert not asynchronous
        self.asked.append({place.partition: (place.offset, from_text(place.metadata)) for place in offsets})
        if self.fails is not None:
            raise KafkaException(self.fails)
        return [Place(place.partition, place.offset, self.errors.get(place.partition)) for place in offsets]

    def get_watermark_offsets(self, place, _limit_s):
        if self.fails is not None:
            raise KafkaException(self.fails)
        return 0, self.end


def windows(*numbers, end=5, tail=0):
    """Windows of partitions that were read up to `end`, and at whose end there are marks up to `tail`."""
    made = {number: Window() for number in numbers}
    for each in made.values():
        each.begin(end)
        each.tail = tail
    return made


def carried_out(asked, consumer, owned):
    noted = []

    def note(taken):
        assert not any(commit.answer.done() for commit in asked), "who asks next has to find it"
        noted.append(taken)

    commits.carry_out(asked, consumer, "t", owned, "kafka:9092", note=note)
    taken = noted[0] if noted else {}
    return taken, [commit.answer.result(0) for commit in asked if commit.answer.exception(0) is None]


def test_commits_that_came_together_are_one_request():
    """The later of two goes before the earlier; each is told what of its own was refused."""
    consumer, asked = Consumer(), [Commit({0: 1, 1: 2}), Commit({0: 3, 7: 4}, {0: ((4, 5),)})]
    taken, answers = carried_out(asked, consumer, windows(0, 1))
    assert consumer.asked == [{0: (3, ((4, 5),)), 1: (2, ())}]
    assert taken == {0: (3, ((4, 5),)), 1: (2, ())}
    assert answers == [[], [7]]


def test_what_belongs_to_another_is_not_asked_for():
    """A commit of nothing that is the member's own needs no request at all."""
    consumer = Consumer()
    assert carried_out([Commit({3: 1})], consumer, windows(0)) == ({}, [[3]])
    assert consumer.asked == []


def test_marks_behind_the_last_message_are_passed_with_it():
    """A commit at the end goes to behind them; one before the end, or with something left open, stays where it is."""
    for offset, beyond, expected in ((5, (), 8), (4, (), 4), (5, ((6, 7),), 5)):
        consumer = Consumer()
        carried_out([Commit({0: offset}, {0: beyond})], consumer, windows(0, tail=8))
        assert consumer.asked == [{0: (expected, beyond)}]


@pytest.mark.parametrize("code", sorted(commits.NOT_THE_OWNER))
def test_a_member_that_is_out_is_refused_and_told_so(code):
    """Whichever way Kafka says it: of the whole request, or of one partition."""
    assert carried_out([Commit({0: 1, 1: 1})], Consumer(fails=KafkaError(code)), windows(0, 1)) == ({}, [[0, 1]])
    taken, answers = carried_out([Commit({0: 1, 1: 1})], Consumer(errors={1: KafkaError(code)}), windows(0, 1))
    assert (taken, answers) == ({0: (1, ())}, [[1]])


@pytest.mark.parametrize("how", ["fails", "errors"])
def test_any_other_failure_is_everybody_s(how):
    """Nobody knows then what was taken, so nobody is told that anything was."""
    error = KafkaError(KafkaError._TIMED_OUT)
    consumer = Consumer(fails=error) if how == "fails" else Consumer(errors={1: error})
    asked = [Commit({0: 1}), Commit({1: 1})]
    assert carried_out(asked, consumer, windows(0, 1)) == ({}, [])
    assert [type(commit.answer.exception(0)) for commit in asked] == [StorageError] * 2


@pytest.mark.parametrize(
    ("offset", "end", "is_within"), [(5, 0, True), (6, 6, True), (7, 6, False), (-1, 6, False), (0, 0, True)]
)
def test_an_offset_has_to_be_there(offset, end, is_within):
    """What was read needs no look; anything else is looked up, since Kafka would take any number."""
    commit = Commit({0: offset, 9: 1_000})  # of another's partition nothing is known, and it is refused later on
    found = commits.is_within(commit, Consumer(end=end), "t", windows(0), "kafka:9092")
    assert found is is_within
    assert commit.answer.done() is not is_within
    if not is_within:
        assert isinstance(commit.answer.exception(0), InvalidValue)


def test_where_a_partition_ends_may_not_be_known():
    """The commit gets the failure, as an answer."""
    commit = Commit({0: 6})
    consumer = Consumer(fails=KafkaError(KafkaError._TRANSPORT))
    assert not commits.is_within(commit, consumer, "t", windows(0), "kafka:9092")
    assert isinstance(commit.answer.exception(0), StorageError)


def test_places_are_in_order():
    """By partition, with what is handled beyond them as metadata."""
    found = commits.places({1: (2, ((3, 4),)), 0: (1, ())}, "t", windows(0, 1))
    assert [(place.partition, place.offset, from_text(place.metadata)) for place in found] == [
        (0, 1, ()),
        (1, 2, ((3, 4),)),
    ]
    assert all(isinstance(place, TopicPartition) and place.topic == "t" for place in found)


# -- the window


@given(st.lists(st.one_of(st.integers(1, 4), st.tuples(st.integers(0, 12))), max_size=60), st.booleans())
def test_a_window_knows_how_much_it_holds(steps, by_bytes):
    """Full at its bound of records or of bytes, and ready for more when half of it is free: whatever was done to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "MAX_RECORDS", 1_000 if by_bytes else 6)
        patch.setattr(window, "MAX_BYTES", 60 if by_bytes else 100_000)
        made, held, offset = Window(), [], 0
        made.begin(0)
        made.is_rewinding = False
        for step in steps:
            if isinstance(step, int):  # so many records come
                for _ in range(step):
                    record = Record(0, offset, None, b"x" * (offset % 20), {}, 0.0)
                    assert made.add(record)
                    held.append(record)
                    offset += 1
            else:  # a reader asks from somewhere on, or from where it was before
                position = step[0] + (held[0].offset if held else offset) - 2
                if made.read(position, 3) is None:
                    made.rewind(position)
                    made.is_rewinding = False
                    held, offset = [], position
                held = [record for record in held if record.offset >= position]
                offset = max(offset, position)
            records, size = len(held), sum(len(record.value) for record in held)
            assert made.is_full == (size >= 60 if by_bytes else records >= 6)
            assert made.has_room == (size <= 30 if by_bytes else records <= 3)


def test_what_lies_before_the_reader_is_not_kept():
    """A reader that went ahead of the fetching does not want what comes from before the place it asked for."""
    made = Window()
    made.begin(0)
    made.is_rewinding = False
    assert made.read(5, 10) == []
    assert not made.add(Record(0, 4, None, b"", {}, 0.0))
    assert made.add(Record(0, 5, None, b"", {}, 0.0))
    assert made.end == 6


def test_asking_again_what_is_committed_leaves_the_window_where_it_is():
    """After a commit whose outcome was not known: what was forgotten is still forgotten, and not taken for a gap."""
    made = Window()
    made.begin(0)
    made.is_rewinding = False
    for offset in range(4):
        made.add(Record(0, offset, None, b"", {}, 0.0))
    assert [record.offset for record in made.read(3, 10) or ()] == [3]
    made.begin(1)
    assert made.read(2, 10) is None
    assert (made.committed, made.end, made.start) == (1, 4, 3)
