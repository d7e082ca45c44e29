"""Names of topics, and making sure that they exist.

The shared topics have fixed names; each model has one results topic, whose name is made from the model's id so that
any id in any script gives a name that brokers and file systems take, and two ids never give the same one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balance.errors import InvalidValue
from balance.types import check_id

if TYPE_CHECKING:
    from balance.messaging.kafka_service import KafkaService

DATA_REQUESTS_TOPIC = "balance.data.requests"
MODELS_REQUESTS_TOPIC = "balance.models.requests"
BALANCE_EVENTS_TOPIC = "balance.events"
BALANCE_METRICS_TOPIC = "balance.metrics"
RESULTS_PREFIX = "balance.results."
DEAD_LETTER_SUFFIX = ".dead-letter"

_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SLUG_CHARS = 48
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How a topic is laid out.

    Attributes
    ----------
    partitions : int
        How many consumers of one group can share the work.
    replication : int
        On how many brokers it is kept; clamped to those there are (the embedded log is one).
    """

    partitions: int
    replication: int = 3


#: Work that consumers share gets partitions; what is read in order by everyone gets one.
SHARED_TOPICS = {
    DATA_REQUESTS_TOPIC: TopicSettings(partitions=8),
    MODELS_REQUESTS_TOPIC: TopicSettings(partitions=8),
    BALANCE_EVENTS_TOPIC: TopicSettings(partitions=1),
    BALANCE_METRICS_TOPIC: TopicSettings(partitions=1),
}
_SINGLE = TopicSettings(partitions=1)


def check_topic(topic: object) -> str:
    """Return `topic` if Kafka and a file system would both take it as a name, else raise `InvalidValue`.

    Examples
    --------
    >>> check_topic("balance.events")
    'balance.events'
    >>> check_topic("../etc")
    Traceback (most recent call last):
    balance.errors.InvalidValue: topic is '../etc'; expected 1 to 249 of A-Z a-z 0-9 . _ - (and not . or ..)
    """
    if not isinstance(topic, str) or not _TOPIC_NAME.fullmatch(topic) or topic in {".", ".."}:
        raise InvalidValue("topic", topic, "1 to 249 of A-Z a-z 0-9 . _ - (and not . or ..)")
    return topic


def results_topic(model_id: str) -> str:
    """Return the name of the model's own results topic.

    A readable part for people, and 128 bits of BLAKE2b of the id (RFC 7693) that tell ids apart which look the same.

    Raises
    ------
    InvalidValue
        `model_id` is empty or too long.

    Examples
    --------
    >>> results_topic("Whisper v3")
    'balance.results.whisper-v3-abd9f9ca44da021bb683a4fdb041f2fd'
    >>> results_topic("مدل").startswith("balance.results.model-")
    True
    """
    check_id("model_id", model_id)
    slug = re.sub(r"[^a-z0-9]+", "-", model_id.lower()).strip("-")[:_SLUG_CHARS].rstrip("-") or "model"
    digest = hashlib.blake2b(model_id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{RESULTS_PREFIX}{slug}-{digest}"


def dead_letter_topic(topic: str) -> str:
    """Return where messages of `topic` go that can't be handled.

    Examples
    --------
    >>> dead_letter_topic("balance.events")
    'balance.events.dead-letter'
    """
    return check_topic(topic + DEAD_LETTER_SUFFIX)


class TopicManager:
    """Creates topics when they are first needed.

    Parameters
    ----------
    kafka_service : KafkaService, optional
        The connection to create them through; one on the default broker when left out.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> from balance.messaging.kafka_service import KafkaService
    >>> from balance.messaging.log import EmbeddedLog
    >>> async def main(folder):
    ...     async with KafkaService(broker=EmbeddedLog(folder)) as service:
    ...         topic = await TopicManager(kafka_service=service).ensure_results_topic("whisper")
    ...         return topic in await service.topics()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    True
    """

    def __init__(self, *, kafka_service: KafkaService | None = None) -> None:
        if kafka_service is None:
            from balance.messaging.kafka_service import KafkaService  # noqa: PLC0415 (it creates dead-letter topics)

            kafka_service = KafkaService()
        self.kafka_service = kafka_service

    def results_topic(self, model_id: str) -> str:
        """Return the name of the model's own results topic; see the function `results_topic`."""
        return results_topic(model_id)

    async def ensure_topic(self, topic: str, settings: TopicSettings | None = None) -> str:
        """Create `topic` unless it exists; return its name."""
        chosen = settings or SHARED_TOPICS.get(topic, _SINGLE)
        await self.kafka_service.create_topic(topic, chosen.partitions, replication=chosen.replication)
        return topic

    async def ensure_shared_topics(self) -> list[str]:
        """Create the topics that every Balance has; return their names."""
        return [await self.ensure_topic(topic, settings) for topic, settings in SHARED_TOPICS.items()]

    async def ensure_results_topic(self, model_id: str) -> str:
        """Create the model's own results topic unless it exists; return its name."""
        return await self.ensure_topic(results_topic(model_id), _SINGLE)
