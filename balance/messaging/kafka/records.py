"""A message of Kafka's client as the port has it."""

from __future__ import annotations

from confluent_kafka import Message

from balance.messaging.broker import Record


def to_record(message: Message) -> Record:
    """Return a message as the port has it; headers that are not UTF-8 keep their bytes as escapes."""
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value() or b"",
        {name: _text(value) for name, value in dict(message.headers() or ()).items()},
        message.timestamp()[1] / 1_000,
    )


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""
