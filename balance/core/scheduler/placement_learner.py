"""When placement learns from what is asked for, and from what.

`WorthScore` places better than a score that knows nothing of demands, once enough is known of them; learning
takes up to a second, so it happens in the background, on a copy, and now and then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from balance.core.scheduler.room import Room
from balance.core.scheduler.workload import Workload
from balance.core.scheduler.worth import WorthScore
from balance.types import Resources

ASKED_MIN = 50
"""Fewer demands for devices are no workload to learn from."""

GROWTH = 1.5
"""It is time to learn again when so many times as much has been asked for."""

ASKED_MAX = 20_000
"""Beyond this the growth counts from here: a workload that changes is learned anew after every so many demands."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A copy of what there is to learn from; `learn` may run in another thread.

    Attributes
    ----------
    workload : Workload
        What was asked for.
    rooms : tuple of Room
        The cluster, empty.
    """

    workload: Workload
    rooms: tuple[Room, ...]

    def learn(self) -> WorthScore:
        """Return the score; about a second for 400 different demands."""
        return WorthScore(self.workload, self.rooms)


class PlacementLearner:
    """Remembers which devices were asked for, and says when that is worth learning from.

    Examples
    --------
    >>> learner = PlacementLearner()
    >>> for _ in range(ASKED_MIN):
    ...     learner.note(Resources.demand(gpu=0.5))
    >>> lesson = learner.lesson([Room("n", "", Resources.capacity(gpu=1))])
    >>> len(lesson.workload), learner.lesson(lesson.rooms) is None
    (1, True)
    """

    def __init__(self) -> None:
        self._workload = Workload()
        self._asked = 0
        self._due_at = float(ASKED_MIN)

    def note(self, demand: Resources) -> None:
        """Count a demand, which asks for devices."""
        self._workload.add(demand)
        self._asked += 1

    def lesson(self, rooms: Iterable[Room]) -> Lesson | None:
        """Return what to learn from if it is time to; None if not, or if there is no device."""
        if self._asked < self._due_at:
            return None
        empty = tuple(room.emptied() for room in rooms)
        if not any(room.devices for room in empty):
            return None
        self._due_at = min(self._asked * GROWTH, self._asked + ASKED_MAX)
        return Lesson(self._workload.copy(), empty)
