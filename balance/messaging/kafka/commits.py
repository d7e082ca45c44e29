"""Commits of one member: those that came together are sent together, and each gets its own answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from balance.errors import InvalidValue
from balance.messaging.kafka.problems import NOT_THE_OWNER, translate

ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """Offsets to commit, and the future that gets the partitions which were refused."""

    offsets: dict[int, int]
    answer: Future[list[int]] = field(default_factory=Future)

    def refuse(self) -> None:
        """Answer that nothing of it was taken."""
        self.answer.set_result(sorted(self.offsets))


def carry_out(
    asked: Sequence[Commit], consumer: Consumer, topic: str, ends: Mapping[int, int], servers: str
) -> dict[int, int]:
    """Commit what is the member's to commit, in one request, and answer everyone.

    Parameters
    ----------
    asked : sequence of Commit
        In the order of asking; a later one goes before an earlier one.
    consumer : Consumer
        The member.
    topic : str
        What it reads.
    ends : mapping
        The partitions that it owns, and how far each was fetched.
    servers : str
        For messages.

    Returns
    -------
    dict of int to int
        What was committed.
    """
    # Of a caller that was cancelled before, nothing is committed.
    waiting = [commit for commit in asked if commit.answer.set_running_or_notify_cancel()]
    sound = [commit for commit in waiting if _is_within(commit, consumer, topic, ends, servers)]
    wanted = {number: offset for commit in sound for number, offset in commit.offsets.items() if number in ends}
    try:
        taken = _send(wanted, consumer, topic) if wanted else {}
    except KafkaException as error:
        for commit in sound:
            commit.answer.set_exception(translate(error, servers, "take the commit", topic))
        return {}
    for commit in sound:
        commit.answer.set_result(sorted(commit.offsets.keys() - taken.keys()))
    return taken


def _send(wanted: Mapping[int, int], consumer: Consumer, topic: str) -> dict[int, int]:
    places = [TopicPartition(topic, number, offset) for number, offset in sorted(wanted.items())]
    try:
        answered = consumer.commit(offsets=places, asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() in NOT_THE_OWNER:
            return {}
        raise
    for place in answered:
        if place.error is not None and place.error.code() not in NOT_THE_OWNER:
            raise KafkaException(place.error)
    return {place.partition: place.offset for place in answered if place.error is None}


def _is_within(commit: Commit, consumer: Consumer, topic: str, ends: Mapping[int, int], servers: str) -> bool:
    """Say whether the offsets exist; answer where they do not.  Kafka itself would take any number."""
    for number, offset in commit.offsets.items():
        end = ends.get(number)
        if end is None or 0 <= offset <= end:
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
