"""A room: a part of one node, with its devices, that tasks can be put into.

Each node has one general room; each reservation has a room of its own on each node that it spans.  All
amounts are exact integers.  Free amounts are negative after a capacity was taken back from under running
tasks; nothing that needs any of that resource fits then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from balance.core.scheduler.shape import Shape
from balance.types import MILLI, Resources

Devices = tuple[tuple[int, int], ...]


def whole_devices(capacity: Resources) -> Devices:
    """Return devices 0, 1, ... for a capacity; a last fraction becomes a device of that size.

    Examples
    --------
    >>> whole_devices(Resources.capacity(gpu=2))
    ((0, 1000), (1, 1000))
    """
    count, rest = divmod(capacity.gpu_milli, MILLI)
    return tuple((index, MILLI) for index in range(count)) + (((count, rest),) if rest else ())


@dataclass(frozen=True, slots=True)
class Hold:
    """What one running task (or allocation) holds, and where."""

    holder: str
    room: Room
    shape: Shape
    devices: Devices


class Room:
    """Free and total amounts of one part of a node.

    Parameters
    ----------
    node_id : str
        The node.
    pool : str
        The reservation's name, ``""`` for the general room.
    capacity : Resources
        What there is in all.
    devices : tuple of (int, int), optional
        ``(index, thousandths)`` of each GPU.

    Examples
    --------
    >>> room = Room("n1", "", Resources.capacity(cpu=4, gpu=2))
    >>> room.pick_devices(Shape(Resources.demand(gpu=0.5)))
    ((0, 500),)
    >>> room.fits(Shape(Resources.demand(cpu=5)))
    False
    """

    __slots__ = ("capacity", "cpu", "custom", "devices", "gpus", "holds", "memory", "node_id", "pool", "version")

    def __init__(self, node_id: str, pool: str, capacity: Resources, devices: Devices | None = None) -> None:
        self.node_id = node_id
        self.pool = pool
        self.capacity = capacity
        self.devices = whole_devices(capacity) if devices is None else tuple(sorted(devices))
        self.cpu = capacity.cpu_milli
        self.memory = capacity.memory_bytes
        self.gpus = dict(self.devices)
        self.custom = dict(capacity.custom)
        self.holds: dict[str, Hold] = {}
        self.version = 0

    @property
    def key(self) -> tuple[str, str]:
        """The stable name of the room: node and pool."""
        return (self.node_id, self.pool)

    def fits(self, shape: Shape) -> bool:
        """Say whether `shape` fits beside what is held.  O(devices)."""
        if shape.cpu and shape.cpu > self.cpu:
            return False
        if shape.memory and shape.memory > self.memory:
            return False
        if shape.custom:
            for name, amount in shape.custom:
                if amount > self.custom.get(name, 0):
                    return False
        if not shape.gpu:
            return True
        need = shape.per_device
        count = 0
        for free in self.gpus.values():
            if free >= need:
                count += 1
                if count >= shape.device_count:
                    return True
        return False

    def could_hold(self, shape: Shape) -> bool:
        """Say whether `shape` would fit if nothing were held."""
        capacity = self.capacity
        if shape.cpu > capacity.cpu_milli or shape.memory > capacity.memory_bytes:
            return False
        if shape.custom:
            there = dict(capacity.custom)
            if any(amount > there.get(name, 0) for name, amount in shape.custom):
                return False
        if not shape.gpu:
            return True
        return sum(amount >= shape.per_device for _, amount in self.devices) >= shape.device_count

    def pick_devices(self, shape: Shape) -> Devices:
        """Return the devices that `shape` would take: the fullest that hold it, then the lowest index.

        The fullest, so that a fraction goes where a fraction is and whole devices stay whole.  Call it
        only when `fits` holds.
        """
        if not shape.gpu:
            return ()
        need = shape.per_device
        able = [(free, index) for index, free in self.gpus.items() if free >= need]
        if shape.device_count == 1:
            return ((min(able)[1], need),)
        able.sort()
        return tuple([(index, need) for _, index in able[: shape.device_count]])

    def take(self, hold: Hold) -> None:
        """Count what `hold` holds as taken."""
        self._move(hold, -1)
        self.holds[hold.holder] = hold

    def give_back(self, hold: Hold) -> None:
        """Count what `hold` held as free again."""
        del self.holds[hold.holder]
        self._move(hold, 1)

    def pass_on(self, hold: Hold, heir: str) -> Hold:
        """Let `heir` hold what `hold` holds."""
        del self.holds[hold.holder]
        passed = self.holds[heir] = Hold(heir, self, hold.shape, hold.devices)
        return passed

    def _move(self, hold: Hold, sign: int) -> None:
        shape = hold.shape
        self.cpu += sign * shape.cpu
        self.memory += sign * shape.memory
        for index, amount in hold.devices:
            self.gpus[index] = self.gpus.get(index, 0) + sign * amount
            if not self.gpus[index] and all(index != known for known, _ in self.devices):
                del self.gpus[index]  # a device that was taken back while it was held, and is free now
        for name, amount in shape.custom:
            self.custom[name] = self.custom.get(name, 0) + sign * amount
        self.version += 1

    def resize(self, capacity: Resources, devices: Devices | None = None) -> None:
        """Change what there is in all; what is held stays held."""
        fresh = Room(self.node_id, self.pool, capacity, devices)
        for hold in self.holds.values():
            fresh._move(hold, -1)
        self.capacity, self.devices = fresh.capacity, fresh.devices
        self.cpu, self.memory, self.gpus, self.custom = fresh.cpu, fresh.memory, fresh.gpus, fresh.custom
        self.version += 1

    def free(self) -> Resources:
        """Return what is not held; nothing where more is held than there is."""
        return Resources(
            max(self.cpu, 0),
            max(self.memory, 0),
            sum(amount for _, amount in self.free_devices()),
            tuple(sorted((name, amount) for name, amount in self.custom.items() if amount > 0)),
        )

    def free_devices(self) -> Devices:
        """Return what is not held of each device."""
        return tuple(sorted((index, max(amount, 0)) for index, amount in self.gpus.items()))

    def emptied(self) -> Room:
        """Return a room like this one in which nothing is held."""
        return Room(self.node_id, self.pool, self.capacity, self.devices)

    def sketch(self) -> Room:
        """Return a copy for what-if questions; it shares nothing that changes and holds nobody."""
        twin = Room.__new__(Room)
        twin.node_id, twin.pool, twin.capacity, twin.devices = self.node_id, self.pool, self.capacity, self.devices
        twin.cpu, twin.memory, twin.gpus, twin.custom = self.cpu, self.memory, dict(self.gpus), dict(self.custom)
        twin.holds, twin.version = {}, 0
        return twin

    def add(self, shape: Shape, devices: Devices, sign: int) -> None:
        """In a sketch: free (`sign` 1) or take (-1) what `shape` holds on `devices`."""
        self._move(Hold("", self, shape, devices), sign)

    def most_of(self, shape: Shape) -> Resources:
        """Return the demand nearest to `shape` that would fit if nothing were held: no part of it is larger.

        Examples
        --------
        >>> room = Room("n1", "", Resources.capacity(cpu=4, gpu=2.5))
        >>> room.most_of(Shape(Resources.demand(cpu=8, gpu=4))).to_dict()
        {'cpu': 4.0, 'memory': 0, 'gpu': 2.0}
        """
        capacity, there = self.capacity, dict(self.capacity.custom)
        gpu = 0
        if shape.gpu:
            # Fewer whole devices, or a part of the largest device where there is none that is whole.
            able = sum(amount >= shape.per_device for _, amount in self.devices)
            gpu = min(able, shape.device_count) * shape.per_device
            gpu = gpu or max((amount for _, amount in self.devices), default=0)
        return Resources(
            min(shape.cpu, capacity.cpu_milli),
            min(shape.memory, capacity.memory_bytes),
            gpu,
            tuple((name, most) for name, amount in shape.custom if (most := min(amount, there.get(name, 0)))),
        )

    def shortfall(self, shape: Shape) -> Mapping[str, int]:
        """Return how much of each resource lacks for `shape` now: ``{name: exact amount}``, empty if it fits.

        ``gpu`` counts the thousandths that the best devices lack, so it is more than the difference
        of the sums when the free GPU is in pieces.
        """
        lacks: dict[str, int] = {}
        if shape.cpu > max(self.cpu, 0):
            lacks["cpu"] = shape.cpu - self.cpu
        if shape.memory > max(self.memory, 0):
            lacks["memory"] = shape.memory - self.memory
        if shape.gpu:
            best = sorted((max(free, 0) for free in self.gpus.values()), reverse=True)[: shape.device_count]
            best += [0] * (shape.device_count - len(best))
            missing = sum(max(shape.per_device - free, 0) for free in best)
            if missing:
                lacks["gpu"] = missing
        for name, amount in shape.custom:
            free = self.custom.get(name, 0)
            if amount > free:
                lacks[name] = amount - free
        return lacks
