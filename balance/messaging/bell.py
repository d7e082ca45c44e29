"""Waking those who wait for records, from whatever thread brings them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """Rings for every listener, in its own event loop.

    Clear the event, look whether there is something, then wait: a ring in between is not missed.

    Examples
    --------
    >>> async def main():
    ...     bell = Bell()
    ...     with bell.listening() as rung:
    ...         threading.Thread(target=bell.ring).start()
    ...         return await rung.wait()
    >>> asyncio.run(main())
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Give an event of the running loop that `ring` sets."""
        rung = asyncio.Event()
        with self._lock:
            self._listeners[id(rung)] = (asyncio.get_running_loop(), rung)
        try:
            yield rung
        finally:
            with self._lock:
                del self._listeners[id(rung)]

    def ring(self) -> None:
        """Set every listener's event; callable from any thread."""
        with self._lock:
            listeners = list(self._listeners.values())
        for loop, rung in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(rung.set)
