"""A small least-recently-used cache for what is dear to build and shared within one process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessCache(Generic[T]):
    """Keep the last `capacity` things that were built, by the digest of what they were built from.

    Parameters
    ----------
    capacity : int
        How many are kept; the one that was not used for longest goes first.

    Examples
    --------
    >>> cache = ProcessCache(2)
    >>> [cache.get(word, lambda: len(word)) for word in ("one", "three", "one")]
    [3, 5, 3]
    >>> cache.built
    2
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()
        self.built = 0  #: how many were built since the process started

    def get(self, digest: str, build: Callable[[], T]) -> T:
        """Return what `digest` stands for, building it if it is not kept.  O(1) beside the build."""
        # The lock is held while building: two threads must not pay for the same index twice.
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            else:
                self._kept[digest] = build()
                self.built += 1
                if len(self._kept) > self._capacity:
                    self._kept.popitem(last=False)
            return self._kept[digest]
