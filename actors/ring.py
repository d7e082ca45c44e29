"""What one client still has to be told: outcomes, numbered from 1 on, kept until the client says that it has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import islice

from balance.client.wire import PlainOutcome

KEPT_MAX = 100_000
"""How many outcomes wait for a client that does not fetch them; the oldest give way."""

KEPT_BYTES = 64 * 2**20
"""How much their results may weigh together, in bytes."""


class Ring:
    """The outcomes of one client.

    Parameters
    ----------
    kept_max : int
        How many are kept.
    kept_bytes : int
        How many bytes of results are kept.

    Attributes
    ----------
    changed : asyncio.Event
        Set when something was added.
    last : int
        The number of the newest outcome.

    Examples
    --------
    >>> ring = Ring(kept_max=2)
    >>> ring.add([("a", "completed", b"1", None), ("b", "completed", b"2", None)])
    >>> [outcome[0] for outcome in ring.after(0, limit=10)], ring.last
    (['a', 'b'], 2)
    >>> ring.add([("c", "failed", None, {})])
    >>> ring.lacks(0), ring.lacks(1), [outcome[0] for outcome in ring.after(1, limit=10)]
    (True, False, ['b', 'c'])
    """

    def __init__(self, *, kept_max: int = KEPT_MAX, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_max = kept_max
        self._kept_bytes = kept_bytes
        self._kept: deque[PlainOutcome] = deque()
        self._bytes = 0
        self.changed = asyncio.Event()
        self.last = 0

    def add(self, outcomes: Iterable[PlainOutcome]) -> None:
        """Append outcomes; what exceeds the bounds is dropped, oldest first, and `lacks` tells."""
        before = len(self._kept)
        self._kept.extend(outcomes)
        self.last += len(self._kept) - before
        self._bytes += sum(_weight(outcome) for outcome in islice(self._kept, before, None))
        while len(self._kept) > self._kept_max or (self._bytes > self._kept_bytes and len(self._kept) > 1):
            self._drop()
        self.changed.set()

    def lacks(self, after: int) -> bool:
        """Say whether an outcome after number `after` has been dropped, or was never here."""
        return not self.last - len(self._kept) <= after <= self.last

    def after(self, number: int, limit: int) -> list[PlainOutcome]:
        """Drop what the client has, up to `number`, and return at most `limit` of what follows."""
        while self._kept and self.last - len(self._kept) < number:
            self._drop()
        found = list(islice(self._kept, limit))
        if not self._kept:
            self.changed.clear()
        return found

    def _drop(self) -> None:
        self._bytes -= _weight(self._kept.popleft())


def _weight(outcome: PlainOutcome) -> int:
    value = outcome[2]
    return len(value) if type(value) is bytes else 0
