"""Which broker stands behind a URL, opened once in a process.

The embedded log belongs to one owner, and a connection to Kafka is worth sharing: everyone in this process who names
the same URL shares one broker; it is closed when the last of them lets go.
"""

from __future__ import annotations

import threading
from urllib.parse import unquote, urlsplit

from balance.clock import Clock
from balance.errors import ConfigurationError
from balance.messaging.broker import Broker
from balance.messaging.log import EmbeddedLog

_lock = threading.Lock()
_open: dict[str, tuple[Broker, int]] = {}


def open_broker(url: str, *, clock: Clock | None = None, name: str = "") -> Broker:
    """Return the broker behind `url`; hand it back with `release_broker`.

    Parameters
    ----------
    url : str
        ``embedded:///path/of/the/log``, or ``kafka://host:9092[,host2][?option=value]`` (see
        `balance.messaging.kafka.options`).
    clock : Clock, optional
        For a broker that is not open yet.
    name : str, optional
        For Kafka: who takes over the transactions of a former process of this name; see `KafkaBroker`.

    Raises
    ------
    ConfigurationError
        No broker is known by that scheme, or the URL can't be used.
    StorageError
        Another process has the log open, or it can't be written.
    """
    with _lock:
        broker, users = _open.get(url, (None, 0))
        if broker is None:
            broker = _made(url, clock, name)
        _open[url] = (broker, users + 1)
        return broker


async def release_broker(broker: Broker) -> None:
    """Let go of a broker that `open_broker` gave; the last one to do so closes it."""
    with _lock:
        url = next((u for u, (there, _) in _open.items() if there is broker), None)
        if url is None:
            return
        _, users = _open.pop(url)
        if users > 1:
            _open[url] = (broker, users - 1)
            return
    await broker.close()


def _made(url: str, clock: Clock | None, name: str) -> Broker:
    parts = urlsplit(url)
    if parts.scheme == "kafka":
        try:
            from balance.messaging.kafka import KafkaBroker  # noqa: PLC0415 (who stays on the log needs no client)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"Kafka needs a client that is not installed ({error.name}): pip install 'balance[kafka]'"
            ) from None
        return KafkaBroker(url, clock=clock, name=name)
    if parts.scheme == "embedded" and parts.path:
        return EmbeddedLog(unquote(parts.path), clock=clock)
    # Of a wrong URL only the scheme is repeated: the rest may hold a password.
    raise ConfigurationError(
        f"the broker URL begins with {parts.scheme + '://'!r}; expected kafka://HOST:PORT, embedded:///PATH, "
        "or nothing for the log in the state directory"
    )
