"""Two things that :mod:`heapq` lacks: a look at a heap in order without taking it apart, and its order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, TypeVar

Entry = TypeVar("Entry", bound=tuple[Any, ...])


def in_order(heap: list[Entry]) -> Iterator[Entry]:
    """Yield the entries of a heap from the smallest on, leaving it as it is.

    The first k entries cost O(k log k): a frontier holds the children of what was yielded.  The heap
    must not change while this runs.

    Examples
    --------
    >>> heap = [(1, "a"), (4, "d"), (2, "b"), (5, "e")]
    >>> [name for _, name in in_order(heap)]
    ['a', 'b', 'd', 'e']
    """
    if not heap:
        return
    yield heap[0]
    frontier = [(heap[child], child) for child in (1, 2) if child < len(heap)]
    heapq.heapify(frontier)
    while frontier:
        entry, index = heapq.heappop(frontier)
        yield entry
        for child in (2 * index + 1, 2 * index + 2):
            if child < len(heap):
                heapq.heappush(frontier, (heap[child], child))
