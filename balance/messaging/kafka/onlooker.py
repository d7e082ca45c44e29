"""How far a group is, seen from outside.

Through a consumer that never joins: the client's own call for it (`list_consumer_group_offsets`) ends the whole process
with a failed assertion when the brokers go away while it is asked (librdkafka issue 3663, still so in 2.16).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

#: How many records are counted one by one at most.
COUNTED = 10_000

logger = logging.getLogger(__name__)


def lag(
    properties: Mapping[str, Any], topic: str, partitions: int, answer_s: float, *, exact: bool = False
) -> dict[int, int]:
    """Return for each partition how many records the group has not committed; three requests.

    Marks of transactions are counted as well; with `exact` the records are read and counted (up to `COUNTED`).

    Parameters
    ----------
    properties : mapping
        librdkafka properties, see `KafkaOptions.consumer`.
    topic : str
        Of which topic.
    partitions : int
        How many it has.
    answer_s : float
        How long each answer may take.

    Raises
    ------
    KafkaException
        Kafka did not answer.
    """
    consumer = Consumer(dict(properties), logger=logger)
    try:
        committed = _offsets(consumer.committed([TopicPartition(topic, n) for n in range(partitions)], answer_s))
        starts, ends = (
            _offsets(consumer.offsets_for_times([TopicPartition(topic, n, at) for n in range(partitions)], answer_s))
            for at in (OFFSET_BEGINNING, OFFSET_END)
        )
        begins = {number: max(committed[number], starts[number]) for number in range(partitions)}
        found = {number: ends[number] - begins[number] for number in range(partitions)}
        for number, count in found.items():
            if exact and 0 < count <= COUNTED:
                found[number] = _counted(consumer, TopicPartition(topic, number, begins[number]), answer_s)
    finally:
        consumer.close()
    return found


def _counted(consumer: Consumer, start: TopicPartition, answer_s: float) -> int:
    """Return how many records there are from a place to the end of its partition."""
    consumer.assign([start])
    count, until = 0, time.monotonic() + answer_s
    while time.monotonic() < until:
        for message in consumer.consume(COUNTED, 0.05):
            error = message.error()
            if error is None:
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                return count
            else:
                raise KafkaException(error)
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the records did not come in time"))


def _offsets(places: list[TopicPartition]) -> dict[int, int]:
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return {place.partition: place.offset for place in places}
