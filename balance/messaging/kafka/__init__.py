"""Apache Kafka behind the broker port, through confluent-kafka (librdkafka).

Nothing outside imports this before a ``kafka://`` URL is opened, so whoever stays on the embedded log never loads the
client.
"""

from __future__ import annotations

from balance.messaging.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
