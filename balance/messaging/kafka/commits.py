"""Commits of one member: those that came together are sent together, and each gets its own answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from balance.errors import InvalidValue
from balance.messaging.broker import Outgoing
from balance.messaging.kafka.problems import NOT_THE_OWNER, translate
from balance.messaging.kafka.window import Window
from balance.messaging.progress import Ranges, to_text

ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """Offsets to commit, and the future that gets the partitions which were refused.

    Attributes
    ----------
    offsets : dict of int to int
        By partition.
    beyond : dict of int to ranges
        What is handled beyond them.
    sends : list
        Topic, partition and record of what is to go with them.
    generation : int or None
        The last that the reader has heard of.
    """

    offsets: dict[int, int]
    beyond: Mapping[int, Ranges] = field(default_factory=dict)
    sends: Sequence[tuple[str, int, Outgoing]] = ()
    generation: int | None = None
    answer: Future[list[int]] = field(default_factory=Future)

    def refuse(self) -> None:
        """Answer that nothing of it was taken."""
        self.answer.set_result(sorted(self.offsets))


def carry_out(
    asked: Sequence[Commit],
    consumer: Consumer,
    topic: str,
    windows: Mapping[int, Window],
    servers: str,
    *,
    note: Callable[[dict[int, tuple[int, Ranges]]], None],
) -> None:
    """Commit what is the member's to commit, in one request, and answer everyone.

    Parameters
    ----------
    asked : sequence of Commit
        In the order of asking, without sends; a later one goes before an earlier one.
    consumer : Consumer
        The member.
    topic : str
        What it reads.
    windows : mapping
        Of the partitions that it owns.
    servers : str
        For messages.
    note : callable
        Gets what was committed, before anybody is answered: who asks next has to find it.
    """
    wanted = {
        number: (offset, commit.beyond.get(number, ()))
        for commit in asked
        for number, offset in commit.offsets.items()
        if number in windows
    }
    try:
        taken = _send(places(wanted, topic, windows), consumer) if wanted else {}
    except KafkaException as error:
        for commit in asked:
            commit.answer.set_exception(translate(error, servers, "take the commit", topic))
        return
    note({number: (offset, wanted[number][1]) for number, offset in taken.items()})
    for commit in asked:
        commit.answer.set_result(sorted(commit.offsets.keys() - taken.keys()))


def places(wanted: Mapping[int, tuple[int, Ranges]], topic: str, windows: Mapping[int, Window]) -> list[TopicPartition]:
    """Return offsets as Kafka takes them."""
    return [
        TopicPartition(topic, number, offset if beyond else windows[number].past_marks(offset), to_text(beyond))
        for number, (offset, beyond) in sorted(wanted.items())
    ]


def _send(wanted: list[TopicPartition], consumer: Consumer) -> dict[int, int]:
    try:
        answered = consumer.commit(offsets=wanted, asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() in NOT_THE_OWNER:
            return {}
        raise
    for place in answered:
        if place.error is not None and place.error.code() not in NOT_THE_OWNER:
            raise KafkaException(place.error)
    return {place.partition: place.offset for place in answered if place.error is None}


def is_within(commit: Commit, consumer: Consumer, topic: str, windows: Mapping[int, Window], servers: str) -> bool:
    """Say whether the offsets exist; answer where they do not.  Kafka itself would take any number."""
    for number, offset in commit.offsets.items():
        window = windows.get(number)
        if window is None or 0 <= offset <= window.end:
            continue
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), ANSWER_S)
        except KafkaException as error:
            commit.answer.set_exception(translate(error, servers, "say where the partition ends", topic))
            return False
        if not 0 <= offset <= end:
            commit.answer.set_exception(InvalidValue("offset", offset, f"0 to {end}, the end of partition {number}"))
            return False
    return True
