"""How far a group is, seen from outside.

Through a consumer that never joins: the client's own call for it (`list_consumer_group_offsets`) ends the whole process
with a failed assertion when the brokers go away while it is asked (librdkafka issue 3663, still so in 2.16).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

logger = logging.getLogger(__name__)


def lag(properties: Mapping[str, Any], topic: str, partitions: int, answer_s: float) -> dict[int, int]:
    """Return for each partition how many records the group has not committed; three requests.

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
    finally:
        consumer.close()
    return {number: ends[number] - max(committed[number], starts[number]) for number in range(partitions)}


def _offsets(places: list[TopicPartition]) -> dict[int, int]:
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return {place.partition: place.offset for place in places}
