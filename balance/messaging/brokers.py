"""Which broker stands behind a URL, opened once in a process.

The embedded log belongs to one owner, so everyone in this process who names the same directory shares one; it is
closed when the last of them lets go.
"""

from __future__ import annotations

import threading
from urllib.parse import unquote, urlsplit

from balance.clock import Clock
from balance.errors import ConfigurationError
from balance.messaging.broker import Broker
from balance.messaging.log import EmbeddedLog

_lock = threading.Lock()
_open: dict[str, tuple[EmbeddedLog, int]] = {}


def open_broker(url: str, *, clock: Clock | None = None) -> Broker:
    """Return the broker behind `url`; hand it back with `release_broker`.

    Parameters
    ----------
    url : str
        ``embedded:///path/of/the/log``.
    clock : Clock, optional
        For an embedded log that is not open yet.

    Raises
    ------
    ConfigurationError
        No broker is known by that scheme.
    StorageError
        Another process has the log open, or it can't be written.
    """
    parts = urlsplit(url)
    if parts.scheme != "embedded" or not parts.path:
        raise ConfigurationError(
            f"the broker URL is {url!r}; expected embedded:///PATH, or nothing for the log in the state directory",
            url=url,
        )
    path = unquote(parts.path)
    with _lock:
        log, users = _open.get(path, (None, 0))
        if log is None:
            log = EmbeddedLog(path, clock=clock)
        _open[path] = (log, users + 1)
        return log


async def release_broker(broker: Broker) -> None:
    """Let go of a broker that `open_broker` gave; the last one to do so closes it."""
    with _lock:
        path = next((p for p, (log, _) in _open.items() if log is broker), None)
        if path is None:
            return
        log, users = _open.pop(path)
        if users > 1:
            _open[path] = (log, users - 1)
            return
    await broker.close()
