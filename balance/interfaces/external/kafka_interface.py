"""The port to a message broker, for programs without an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class KafkaInterface(ABC):
    """Publishes messages and reads them, one at a time.

    Examples
    --------
    >>> class Pipe(KafkaInterface):
    ...     def __init__(self):
    ...         self._lying = {}
    ...     def publish_message(self, topic, message):
    ...         self._lying.setdefault(topic, []).append(message)
    ...     def consume_message(self, topic):
    ...         return self._lying[topic].pop(0)
    >>> pipe = Pipe()
    >>> pipe.publish_message("greetings", {"text": "hello"})
    >>> pipe.consume_message("greetings")
    {'text': 'hello'}
    """

    @abstractmethod
    def publish_message(self, topic: str, message: Dict[str, Any]) -> None:
        """Publish a message; when this returns, the broker will not lose it."""

    @abstractmethod
    def consume_message(self, topic: str) -> Dict[str, Any]:
        """Wait for the next message and return it; asking for the next one says that this one is handled."""
