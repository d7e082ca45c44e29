"""Messages: schemas, topics, and one service over two brokers (the embedded log and Kafka)."""

from __future__ import annotations

from balance.messaging.broker import Broker, Outgoing, Polled, Record, Send
from balance.messaging.dead_letters import DeadLetters
from balance.messaging.delivery import Counters, DeliveryPolicy, Message
from balance.messaging.enums import DataSource, DataType, OperationType, Priority, RequestSource
from balance.messaging.kafka_service import KafkaService
from balance.messaging.log import EmbeddedLog
from balance.messaging.schemas import (
    DataRequest,
    DataResponse,
    Metadata,
    ModelRequest,
    create_data_request,
    parse_model_request,
    parse_request,
    parse_response,
)
from balance.messaging.topics import (
    BALANCE_EVENTS_TOPIC,
    BALANCE_METRICS_TOPIC,
    DATA_REQUESTS_TOPIC,
    MODELS_REQUESTS_TOPIC,
    TopicManager,
    TopicSettings,
    dead_letter_topic,
    results_topic,
)

__all__ = [
    "BALANCE_EVENTS_TOPIC",
    "BALANCE_METRICS_TOPIC",
    "DATA_REQUESTS_TOPIC",
    "MODELS_REQUESTS_TOPIC",
    "Broker",
    "Counters",
    "DataRequest",
    "DataResponse",
    "DataSource",
    "DataType",
    "DeadLetters",
    "DeliveryPolicy",
    "EmbeddedLog",
    "KafkaService",
    "Message",
    "Metadata",
    "ModelRequest",
    "OperationType",
    "Outgoing",
    "Polled",
    "Priority",
    "Record",
    "RequestSource",
    "Send",
    "TopicManager",
    "TopicSettings",
    "create_data_request",
    "dead_letter_topic",
    "parse_model_request",
    "parse_request",
    "parse_response",
    "results_topic",
]
