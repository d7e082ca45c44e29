"""One caller at a time for each thing that is wanted: who comes later finds what the first has brought."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Locks by key; one that nobody waits for is forgotten.

    Examples
    --------
    >>> turns = Turns()
    >>> with turns.one_at_a_time("https://example.org"):
    ...     pass
    """

    def __init__(self) -> None:
        self._turns: dict[str, list[threading.RLock]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def one_at_a_time(self, key: str) -> Iterator[None]:
        """Hold the key for the block; others who want it wait."""
        with self._lock:
            waiting = self._turns.setdefault(key, [])
            turn = waiting[0] if waiting else threading.RLock()
            waiting.append(turn)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                waiting.pop()
                if not waiting:
                    del self._turns[key]
