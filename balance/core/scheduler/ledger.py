"""Who holds what on which node and device: exact, per device, in integers.

Ray accepts a fractional GPU request when the *sum* over a node suffices, although no single device may
hold it; such a task then hangs.  This ledger keeps the devices apart, so what it grants can run.

Invariants (`validate`): for each room, free + held = capacity, for every resource and device; a holder
holds in one room only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from balance.core.scheduler.room import Devices, Hold, Room
from balance.core.scheduler.shape import Shape
from balance.errors import Conflict, UnknownId
from balance.types import NOTHING, Resources

_LOG_MIN = 1024


class Ledger:
    """The rooms of all nodes and what is held in them.

    Attributes
    ----------
    releases : int
        Grows whenever something may fit that did not fit before.
    capacity_version : int
        Grows whenever a room came, went or was resized.
    pick : callable
        ``pick(room, shape)``: which devices are taken where nobody says.

    Examples
    --------
    >>> ledger = Ledger()
    >>> room = ledger.add_room("n1", "", Resources.capacity(cpu=2, gpu=1))
    >>> hold = ledger.take("task-1", room, Shape(Resources.demand(cpu=1, gpu=0.5)))
    >>> room.cpu, room.gpus, hold.devices
    (1000, {0: 500}, ((0, 500),))
    >>> _ = ledger.give_back("task-1")
    >>> room.gpus
    {0: 1000}
    """

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, str], Room] = {}
        self._pools: dict[str, dict[str, Room]] = {}
        self._holds: dict[str, Hold] = {}
        self._total = NOTHING
        self._log: list[Room] = []
        self._log_start = 0
        self.releases = 0
        self.capacity_version = 0
        self.pick: Callable[[Room, Shape], Devices] = Room.pick_devices

    # ------------------------------------------------------------------ reading

    def room(self, node_id: str, pool: str = "") -> Room | None:
        """Return a room, None if there is no such one."""
        return self._rooms.get((node_id, pool))

    def rooms(self, pool: str | None = None) -> Iterable[Room]:
        """Return the rooms of one pool, or all, in the order in which they came."""
        return self._rooms.values() if pool is None else self._pools.get(pool, {}).values()

    def room_count(self, pool: str) -> int:
        """Return how many rooms a pool has."""
        return len(self._pools.get(pool, ()))

    def nodes(self) -> list[str]:
        """Return the ids of the nodes that have a general room."""
        return list(self._pools.get("", {}))

    def hold(self, holder: str) -> Hold | None:
        """Return what `holder` holds."""
        return self._holds.get(holder)

    def holds(self) -> Iterable[Hold]:
        """Return everything that is held, oldest first."""
        return self._holds.values()

    @property
    def total(self) -> Resources:
        """The capacity of all rooms together."""
        return self._total

    def changed_since(self, mark: int) -> tuple[list[Room] | None, int]:
        """Return the rooms that changed since `mark` (in order, with repeats) and the new mark.

        None instead of rooms: too much has happened, look at all of them.
        """
        start = self._log_start
        end = start + len(self._log)
        return (self._log[mark - start :] if mark >= start else None), end

    # ------------------------------------------------------------------ rooms

    def add_room(self, node_id: str, pool: str, capacity: Resources, devices: Devices | None = None) -> Room:
        """Add a room; `Conflict` if there is one already."""
        if (node_id, pool) in self._rooms:
            raise Conflict(f"node {node_id!r} has a room {pool!r} already", node_id=node_id, pool=pool)
        room = Room(node_id, pool, capacity, devices)
        self._rooms[room.key] = room
        self._pools.setdefault(pool, {})[node_id] = room
        self._resized(room, capacity)
        return room

    def resize_room(self, room: Room, capacity: Resources, devices: Devices | None = None) -> None:
        """Change a room's capacity; its free amounts may become negative."""
        difference = capacity - room.capacity
        room.resize(capacity, devices)
        self._resized(room, difference)

    def remove_room(self, room: Room) -> list[Hold]:
        """Take a room away and return what was held in it, oldest first."""
        del self._rooms[room.key]
        pool = self._pools[room.pool]
        del pool[room.node_id]
        if not pool:
            del self._pools[room.pool]
        lost = list(room.holds.values())
        for hold in lost:
            del self._holds[hold.holder]
        self._resized(room, NOTHING - room.capacity)
        return lost

    def _resized(self, room: Room, difference: Resources) -> None:
        self._total = self._total + difference
        self.capacity_version += 1
        self.releases += 1
        self._changed(room)

    # ------------------------------------------------------------------ holds

    def take(self, holder: str, room: Room, shape: Shape, devices: Devices | None = None) -> Hold:
        """Let `holder` hold `shape` in `room`, on the devices given or the best there are.

        What is taken need not fit: a restored or moved holder holds what it holds.  Deciders ask
        `Room.fits` first.
        """
        if holder in self._holds:
            raise Conflict(f"{holder!r} holds something already", holder=holder)
        hold = Hold(holder, room, shape, self.pick(room, shape) if devices is None else devices)
        room.take(hold)
        self._holds[holder] = hold
        self._changed(room)
        return hold

    def give_back(self, holder: str) -> Hold:
        """Free what `holder` held; `UnknownId` if it holds nothing."""
        hold = self._undo(holder)
        self.releases += 1
        return hold

    def pass_on(self, holder: str, heir: str) -> Hold:
        """Let `heir` hold what `holder` held; nothing becomes free.  `UnknownId` if that is nothing."""
        if heir in self._holds:
            raise Conflict(f"{heir!r} holds something already", holder=heir)
        was = self._holds.pop(holder, None)
        if was is None:
            raise UnknownId("holder", holder, self._holds)
        hold = self._holds[heir] = was.room.pass_on(was, heir)
        return hold

    def undo(self, holder: str) -> None:
        """Take back a `take` that was only a trial: nothing fits now that did not fit before it."""
        self._undo(holder)

    def _undo(self, holder: str) -> Hold:
        hold = self._holds.pop(holder, None)
        if hold is None:
            raise UnknownId("holder", holder, self._holds)
        hold.room.give_back(hold)
        self._changed(hold.room)
        return hold

    def freed(self) -> None:
        """Note that something may fit now that did not (an earmark went, a tenant's use fell)."""
        self.releases += 1

    def _changed(self, room: Room) -> None:
        self._log.append(room)
        if len(self._log) > _LOG_MIN + 4 * len(self._rooms):
            self._log_start += len(self._log)
            self._log.clear()

    # ------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Check every invariant by recounting; O(holds + rooms)."""
        held: Counter[tuple[str, str]] = Counter()
        for holder, hold in self._holds.items():
            assert hold.holder == holder and hold.room.holds[holder] is hold, holder
            assert self._rooms[hold.room.key] is hold.room, f"{holder} holds in a room that is gone"
            held[hold.room.key] += 1
        total = NOTHING
        for room in self._rooms.values():
            assert held[room.key] == len(room.holds)
            fresh = Room(room.node_id, room.pool, room.capacity, room.devices)
            for hold in room.holds.values():
                fresh.add(hold.shape, hold.devices, -1)
            assert (fresh.cpu, fresh.memory) == (room.cpu, room.memory), room.key
            assert _nonzero(fresh.gpus) == _nonzero(room.gpus), room.key
            assert _nonzero(fresh.custom) == _nonzero(room.custom), room.key
            total = total + room.capacity
        assert total == self._total


def _nonzero(amounts: dict[int, int] | dict[str, int]) -> dict[object, int]:
    return {key: amount for key, amount in amounts.items() if amount}
