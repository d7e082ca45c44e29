"""Kafka's errors in Balance's words."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from balance.errors import BalanceError, ConfigurationError, InvalidValue, StorageError, UnknownId

#: The member does not own the partition any more, or not now.
NOT_THE_OWNER = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)
_UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError._INVALID_ARG,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def is_lasting(error: KafkaError) -> bool:
    """Say whether an error that the client reports by itself is more than a connection that it makes anew."""
    return error.code() == KafkaError._ALL_BROKERS_DOWN or error.code() in _REFUSED or error.fatal()


def is_refusal(error: KafkaError) -> bool:
    """Say whether the brokers, or the client's own checks, refuse this connection: waiting will not help."""
    return error.code() in _REFUSED


def translate(error: KafkaException | KafkaError, servers: str, doing: str, topic: str = "") -> BalanceError:
    """Return the error that a caller of the port gets.

    Parameters
    ----------
    error : KafkaException or KafkaError
        What the client said.
    servers : str
        Where the brokers should be.
    doing : str
        What failed, to stand after "Kafka at ... did not".
    topic : str
        The topic that it was about.

    Examples
    --------
    >>> print(translate(KafkaError(KafkaError._TRANSPORT), "localhost:1", "list the topics"))
    Kafka at localhost:1 did not list the topics: ... (_TRANSPORT)
    """
    told: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    code = told.code()
    said = f"{told.str()} ({told.name()})"
    if code in _UNKNOWN_TOPIC and topic:
        return UnknownId("topic", topic)
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return InvalidValue("record", said, "no more than the topic's max.message.bytes")
    if code in _REFUSED:
        return ConfigurationError(f"Kafka at {servers} did not {doing}: {said}; see the options of the broker URL")
    return StorageError(f"Kafka at {servers} did not {doing}: {said}", servers=servers, kafka_error=told.name())
