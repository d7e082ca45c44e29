"""What waits for a model: equal requests stand as one, the most urgent first, and waiting makes urgent.

The order is static: a request ranks at its arrival plus its priority times a step, so that one priority
weighs as much as one step of waiting.  That is linear aging without ever sorting anew (all ranks grow
alike), and nothing starves.  A group of equal requests ranks as its best member does, and leaves as a whole:
whoever asks for what is about to run rides along for nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from balance.types import check_number, check_priority

T = TypeVar("T")


@dataclass(slots=True)
class _Group(Generic[T]):
    rank: float
    first_at: float
    items: list[tuple[int, T]] = field(default_factory=list)


class Intake(Generic[T]):
    """A queue of requests in groups of equal ones.

    Parameters
    ----------
    step_s : float
        How many seconds of waiting outweigh one priority.

    Notes
    -----
    `add` and `take` cost O(log n) a group.

    Examples
    --------
    >>> intake = Intake(step_s=10.0)
    >>> for number, (key, priority) in enumerate([("a", 3), ("b", 3), ("a", 3), ("c", 1)]):
    ...     intake.add(key, priority, float(number), number)
    >>> intake.take(2), len(intake)
    ([3, 0, 2], 1)
    """

    def __init__(self, *, step_s: float = 10.0) -> None:
        self._step_s = check_number("step_s", step_s, minimum=0, what="number of seconds")
        self._groups: dict[Hashable, _Group[T]] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._by_priority: dict[int, int] = {}
        self._count = 0
        self._seq = 0

    def __len__(self) -> int:
        return self._count

    @property
    def distinct(self) -> int:
        """How many different requests wait."""
        return len(self._groups)

    def add(self, key: Hashable, priority: int, at: float, item: T) -> None:
        """Let `item` wait; requests with the same key are equal."""
        rank = at + check_priority(priority) * self._step_s
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(rank, at)
            self._push(rank, key)
        elif rank < group.rank:
            group.rank = rank
            self._push(rank, key)
        group.first_at = min(group.first_at, at)
        group.items.append((priority, item))
        self._by_priority[priority] = self._by_priority.get(priority, 0) + 1
        self._count += 1

    def _push(self, rank: float, key: Hashable) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (rank, self._seq, key))

    def take(self, distinct: int) -> list[T]:
        """Return everyone who asks for one of the first `distinct` requests, in their order; they wait no more."""
        taken: list[T] = []
        while distinct > 0 and self._heap:
            rank, _seq, key = heapq.heappop(self._heap)
            group = self._groups.get(key)
            if group is None or group.rank != rank:
                continue  # it left already, or ranks better under another entry
            del self._groups[key]
            distinct -= 1
            for priority, item in group.items:
                self._count -= 1
                self._by_priority[priority] -= 1
                taken.append(item)
        return taken

    def by_priority(self) -> dict[int, int]:
        """Return how many wait, by priority."""
        return {priority: count for priority, count in sorted(self._by_priority.items()) if count}

    def oldest_at(self) -> float | None:
        """Return when the one that has waited longest came; None where nobody waits.  O(groups)."""
        return min((group.first_at for group in self._groups.values()), default=None)
