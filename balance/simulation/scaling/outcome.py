"""What a scaling policy cost, and whom it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Dict


@dataclass(frozen=True, slots=True)
class ScalingOutcome:
    """The figures of one simulated run; the warm-up is left out.

    Attributes
    ----------
    requests, missed : float
        Requests that came, and those that waited longer than the objective.
    replica_s : float
        Replica-seconds paid for, those of replicas that were still starting included.
    work_s : float
        Replica-seconds that the requests took.
    peak : int
        The most replicas at once.
    changes : int
        Steps in which the number of replicas was changed.
    unserved : float
        Requests that still waited at the end.
    """

    requests: float
    missed: float
    replica_s: float
    work_s: float
    peak: int
    changes: int
    unserved: float

    @property
    def miss_share(self) -> float:
        """The share of requests that missed the objective."""
        return self.missed / self.requests if self.requests > 0 else 0.0

    @property
    def cost(self) -> float:
        """Replica-seconds paid for each replica-second of work."""
        return self.replica_s / self.work_s if self.work_s > 0 else 0.0

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields by name, with ``miss_share`` and ``cost``."""
        return {
            "requests": self.requests,
            "missed": self.missed,
            "miss_share": self.miss_share,
            "replica_s": self.replica_s,
            "work_s": self.work_s,
            "cost": self.cost,
            "peak": self.peak,
            "changes": self.changes,
            "unserved": self.unserved,
        }


class Crowd:
    """Counts who waited too long: those who came by a moment and have not left by the objective after it.

    Arrivals and departures are cumulative and go evenly within each part of a step; a request that came as
    the n-th misses if fewer than n have been begun when the objective is over.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._came = [0.0] * (lag + 1)
        self._place = 0
        self._slack = 0.0
        self.came = 0.0
        self.left = 0.0

    @property
    def waiting(self) -> float:
        """How many wait."""
        return self.came - self.left

    def after(self, came: float, capacity: float) -> float:
        """Add a part of a step; return how many are known by its end to have missed."""
        self.came += came
        self.left = min(self.came, self.left + capacity)
        ring, size = self._came, self._lag + 1
        before = ring[self._place]  # what had come one part earlier than the objective ago
        due = ring[(self._place + 1) % size]
        slack = self.left - due
        ring[self._place] = self.came
        self._place = (self._place + 1) % size
        old, self._slack = self._slack, slack
        return (due - before) * _share_below_zero(old, slack)


def _share_below_zero(first: float, last: float) -> float:
    """Return which part of a straight line from `first` to `last` is below zero."""
    if first >= 0 and last >= 0:
        return 0.0
    if first <= 0 and last <= 0:
        return 1.0
    return -min(first, last) / (abs(first) + abs(last))


def envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (cost, miss share) points that no cheaper one beats, by cost.

    Examples
    --------
    >>> envelope([(1.2, 0.01), (1.1, 0.02), (1.3, 0.015)])
    [(1.1, 0.02), (1.2, 0.01)]
    """
    best: list[tuple[float, float]] = []
    for cost, share in sorted(points):
        if not best or share < best[-1][1]:
            best.append((cost, share))
    return best
