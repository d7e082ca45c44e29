"""Where the tasks that wait first will go, decided together when they want different parts of devices.

One at a time, each task takes the place that is best for itself, and two small ones may take what one large
one behind them needed: see `balance.core.scheduler.joint`.  So when tasks of different GPU demands wait, the
first `WINDOW` of them are placed together, in strict order: whoever is before others is never displaced for
them, but lies where as many of those behind as possible find room too.  What was decided holds for one cycle.

It decides where, never whether: a task that no place is kept for starts wherever it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from balance.core.scheduler.joint import Spot, place_most, place_together
from balance.core.scheduler.placement import Permit
from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.task import Task

WINDOW = 16
"""So many of the first tasks are placed together."""

STEPS_MAX = 500
"""Steps of one search: some milliseconds at most."""


class Together:
    """Keeps places for waiting tasks, and chooses devices for all.

    Parameters
    ----------
    state : EngineState
        Whose tasks and rooms they are.
    """

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._kept: dict[Shape, list[Spot]] = {}
        self._decided = False

    def forget(self) -> None:
        """Keep no place any more: a new cycle begins."""
        self._kept.clear()
        self._decided = False

    def room_for(self, shape: Shape, permit: Permit | None) -> Room | None:
        """Return the room that is kept for a task of this shape; None where there is none, or none permitted."""
        if not self._decided:
            self._decided = True
            if sum(each.gpu > 0 and each.reservation is None for each in self._state.shapes_waiting) > 1:
                self._decide()
        spots = self._kept.get(shape)
        while spots and not _still_free(spots[0], shape):
            spots.pop(0)  # somebody for whom nothing was kept has taken it
        return spots[0][0] if spots and (permit is None or permit(spots[0][0])) else None

    def keep(self, shape: Shape, spot: Spot) -> None:
        """Let the next task of this shape that starts in this room have these devices."""
        self._kept.setdefault(shape, []).insert(0, spot)

    def devices(self, room: Room, shape: Shape) -> Devices:
        """Return the devices that a task of this shape takes in `room`, where it starts now."""
        if not shape.gpu:
            return ()
        for index, spot in enumerate(self._kept.get(shape, ())):
            if spot[0] is room and _still_free(spot, shape):
                return self._kept[shape].pop(index)[1]
        return self._state.placement.devices(room, shape)

    def gang(self, tasks: list[Task], taken: Callable[[Room], bool]) -> list[tuple[Task, Room, Devices]]:
        """Return places for all of `tasks` at once, in rooms that are not `taken`; empty if there are none."""
        shapes = [task.shape for task in tasks]
        rooms = [room for room in self._rooms(shapes, len(tasks)) if not taken(room)]
        spots = place_together(rooms, shapes, steps_max=STEPS_MAX)
        return [(task, *spot) for task, spot in zip(tasks, spots, strict=True)] if spots else []

    def _decide(self) -> None:
        state = self._state
        first = sorted(islice(self._waiting(), WINDOW), key=_order)
        shapes = [task.shape for task in first]
        if len(set(shapes)) < 2:
            return  # equal ones fit as well one after the other
        rooms = [room for room in self._rooms(shapes, WINDOW) if state.earmark_on(room) is None]
        placement = state.placement
        found = place_most(
            rooms, shapes, range(len(shapes)), score=placement.score, pick=placement.devices, steps_max=STEPS_MAX
        )
        for shape, spot in zip(shapes, found.spots, strict=True):
            if spot is not None:
                self._kept.setdefault(shape, []).append(spot)

    def _waiting(self) -> Iterator[Task]:
        """Yield who waits for devices and may have them, roughly in the order in which they will be asked."""
        state = self._state
        for account in state.shares.in_order():
            lines = [
                line
                for line in islice(account.waiting(), state.policy.scan_max)
                if line.gang is None
                and line.shape.gpu
                and line.shape.reservation is None
                and line.account.over_limit(line.shape) is None
                and state.placement.best(line.shape) is not None
            ]
            yield from sorted(chain.from_iterable(islice(line.tasks(), WINDOW) for line in lines), key=_order)

    def _rooms(self, shapes: Iterable[Shape], count: int) -> list[Room]:
        """Return the best `count` rooms of each shape, in a stable order."""
        several = [self._state.placement.several(shape, count) for shape in dict.fromkeys(shapes)]
        return sorted(dict.fromkeys(chain.from_iterable(several)), key=lambda room: room.key)


def _order(task: Task) -> tuple[float, int]:
    assert task.entry is not None, "who waits stands in line"
    return task.entry[0], task.entry[1]


def _still_free(spot: Spot, shape: Shape) -> bool:
    room, devices = spot
    return room.fits(shape) and all(room.gpus.get(index, 0) >= amount for index, amount in devices)
