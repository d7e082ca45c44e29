"""How Balance speaks with HTTP services, message brokers and systems that watch figures."""

from __future__ import annotations

from balance.interfaces.external.api_interface import APIInterface
from balance.interfaces.external.kafka_interface import KafkaInterface
from balance.interfaces.external.metrics_interface import MetricsInterface

__all__ = ["APIInterface", "KafkaInterface", "MetricsInterface"]
