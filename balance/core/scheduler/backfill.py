"""Room kept for who is first and does not fit, and who may use it meanwhile.

Without it a task that needs two devices never starts behind a stream of tasks that need one: whenever a
device is free, the next small one takes it.  So the first lines that do not fit get an **earmark**: a
room (several for a gang) and its **shadow**, the moment at which, by what is known of the running tasks,
it will fit there.  Others may start in that room only if the earmarked task will still fit at the shadow:
because they will have ended by then, or because there is room for both (conservative backfill, one room
at a time; Mu'alem & Feitelson, IEEE TPDS 12(6), 2001).  A task whose run time nobody knows counts as one
that never ends.

An earmark belongs to a line, not to a task: whoever is first there uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from balance.core.scheduler.lines import Line
from balance.core.scheduler.placement import Placement
from balance.core.scheduler.room import Devices, Hold, Room
from balance.core.scheduler.shape import Shape

EndOf = Callable[[Hold], float]

CANDIDATES_MAX = 8  # rooms that are looked at closely, out of those that lack least


@dataclass(slots=True)
class Earmark:
    """Room that is kept for a line.

    Attributes
    ----------
    line : Line
        Who it is kept for.
    rooms : dict
        ``{room key: (room, the shapes that go there)}``.
    shadow : float
        When they will fit, in POSIX seconds, as far as is known.
    ending : set of str
        Who is expected to give back what it holds there by then.  Settled when the earmark is made: what
        was once refused is refused until something is freed, so that nobody has to ask again.
    preempted : bool
        Whether tasks are being stopped to make this room.
    seen : int
        The versions of the rooms, added up, for which `shadow` and `ending` hold.
    """

    line: Line
    rooms: dict[tuple[str, str], tuple[Room, list[Shape]]]
    shadow: float
    ending: set[str] = field(default_factory=set)
    preempted: bool = False
    seen: int = -1

    @classmethod
    def made(
        cls, line: Line, rooms: dict[tuple[str, str], tuple[Room, list[Shape]]], shadow: float, end_of: EndOf
    ) -> Earmark:
        """Return an earmark with everyone in `ending` who is expected to have ended at the shadow."""
        holds = (hold for room, _ in rooms.values() for hold in room.holds.values())
        return cls(line, rooms, shadow, {hold.holder for hold in holds if end_of(hold) <= shadow})

    def bring_forward(self, now: float, end_of: EndOf) -> None:
        """Let the shadow come earlier if what ran there has ended earlier than expected; it never goes back.

        Without this, run times that are overestimated let others in again and again until a shadow that
        lies far beyond the moment at which there would have been room (EASY backfilling computes it anew
        each time for the same reason).  O(h log h) for h holds, once for each change in the rooms.
        """
        seen = sum(room.version for room, _ in self.rooms.values())
        if seen == self.seen:
            return
        self.seen = seen
        fits = [earliest_fit(room, shapes, now, end_of) for room, shapes in self.rooms.values()]
        known = [fit for fit in fits if fit is not None]
        if len(known) == len(fits) and max(known) < self.shadow:
            self.shadow = max(known)
            holds = (hold for room, _ in self.rooms.values() for hold in room.holds.values())
            self.ending = {hold.holder for hold in holds if end_of(hold) <= self.shadow}


def earliest_fit(room: Room, shapes: Iterable[Shape], now: float, end_of: EndOf) -> float | None:
    """Return when `shapes` will fit into `room` together; None if not even when it is empty.

    O(h log h) for h tasks that hold something there.
    """
    wanted = list(shapes)
    sketch = room.sketch()
    if _fit_all(sketch, wanted):
        return now
    for end, _, hold in sorted((end_of(hold), index, hold) for index, hold in enumerate(room.holds.values())):
        sketch.add(hold.shape, hold.devices, 1)
        if _fit_all(sketch, wanted):
            return end
    return None


def permits(earmark: Earmark, room: Room, shape: Shape, devices: Devices) -> bool:
    """Say whether `shape` on `devices` of an earmarked `room` would leave room for the earmark at its shadow."""
    sketch = room.sketch()
    sketch.add(shape, devices, -1)
    for hold in room.holds.values():
        if hold.holder in earmark.ending:
            sketch.add(hold.shape, hold.devices, 1)
    return _fit_all(sketch, earmark.rooms[room.key][1])


def choose_room(
    nearest: Placement, shape: Shape, now: float, end_of: EndOf, taken: Callable[[Room], bool]
) -> tuple[Room, float] | None:
    """Return the room in which `shape` will fit first, and when; None if no free room could hold it.

    Looks closely at the `CANDIDATES_MAX` rooms that lack least now, by the ranking `nearest`; ties go to
    the smaller node id.
    """
    lacking: list[Room] = []

    def enough(room: Room) -> bool:
        if not taken(room):
            lacking.append(room)
        return len(lacking) >= CANDIDATES_MAX

    nearest.best(shape, "", enough)
    timed = [
        (when, room.key, room) for room in lacking if (when := earliest_fit(room, [shape], now, end_of)) is not None
    ]
    if not timed:
        return None
    when, _, room = min(timed)
    return room, when


def choose_rooms(
    rooms: Iterable[Room], shapes: Iterable[Shape], now: float, end_of: EndOf, taken: Callable[[Room], bool]
) -> tuple[dict[tuple[str, str], tuple[Room, list[Shape]]], float] | None:
    """Return rooms for all of `shapes` together (a gang), and when the last of them will fit."""
    open_rooms = [(room.emptied(), room) for room in rooms if not taken(room)]
    chosen: dict[tuple[str, str], tuple[Room, list[Shape]]] = {}
    for shape in shapes:
        able = [(empty, room) for empty, room in open_rooms if empty.fits(shape)]
        if not able:
            return None
        empty, room = min(able, key=lambda pair: (pair[1].key not in chosen, lack(pair[1], shape), pair[1].key))
        empty.add(shape, empty.pick_devices(shape), -1)
        chosen.setdefault(room.key, (room, []))[1].append(shape)
    ends = [earliest_fit(room, wanted, now, end_of) for room, wanted in chosen.values()]
    known = [end for end in ends if end is not None]
    return (chosen, max(known)) if len(known) == len(ends) else None


def _fit_all(room: Room, shapes: list[Shape]) -> bool:
    if len(shapes) == 1:
        return room.fits(shapes[0])
    sketch = room.sketch()
    for shape in shapes:
        if not sketch.fits(shape):
            return False
        sketch.add(shape, sketch.pick_devices(shape), -1)
    return True


def lack(room: Room, shape: Shape) -> float:
    """Return how much lacks for `shape` in `room`, in parts of what is needed; resources are added up."""
    needs = dict(shape.amounts)
    return sum(amount / needs[name] for name, amount in room.shortfall(shape).items())
