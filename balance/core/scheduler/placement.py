"""Which room a shape goes to: the one where it strands least.

Every (pool, shape) has a heap of the rooms that hold it, best first.  A room is scored again only when
it has changed since that shape last asked, so with ``c`` changes since then a decision costs
O(c log rooms), not O(rooms); in a steady state ``c`` is one or two.

The score follows the idea of fragmentation gradient descent (Weng et al., "Beware of Fragmentation:
Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023): prefer the
placement after which least is left that nobody can use.  `strand_score` needs no history of demands.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from itertools import count

from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.shape import Shape
from balance.types import MILLI

Score = Callable[[Room, Shape], float]
Fits = Callable[[Room, Shape], bool]
Permit = Callable[[Room], bool]
_Entry = tuple[float, str, int, int, Room]  # score, node, unique tick, the room's version, the room

_GPU_WEIGHT = 4.0  # a stranded device costs more than stranded cores
_HEAP_MIN = 64
_REPEATS_MIN = 8  # fewer changes are scored sooner than searched for repeats


def strand_score(room: Room, shape: Shape) -> float:
    """Return what would be stranded if `shape` went into `room`; the smaller the better.

    The sum of the GPU left on a device that was broken or used, the whole devices it would use up the
    cores for, what is left of CPU and memory (best fit), and how far the two are out of balance.

    Examples
    --------
    >>> from balance.types import Resources
    >>> gpu_node = Room("g", "", Resources.capacity(cpu=8, memory=2**33, gpu=2))
    >>> cpu_node = Room("c", "", Resources.capacity(cpu=8, memory=2**33))
    >>> cpu_task = Shape(Resources.demand(cpu=1))
    >>> strand_score(cpu_node, cpu_task) < strand_score(gpu_node, cpu_task)
    True
    """
    capacity = room.capacity
    cpu_left = (room.cpu - shape.cpu) / capacity.cpu_milli if capacity.cpu_milli else 0.0
    memory_left = (room.memory - shape.memory) / capacity.memory_bytes if capacity.memory_bytes else 0.0
    score = cpu_left + memory_left + 0.5 * abs(cpu_left - memory_left)
    amounts = room.gpus.values()
    if not amounts:
        return score
    if not shape.gpu:
        # Cores taken here are cores that this node's free devices will miss.
        free = sum(amounts) if min(amounts) >= 0 else sum(amount for amount in amounts if amount > 0)
        return score + _GPU_WEIGHT * free / (MILLI * len(amounts))
    # Lists, not generators: on a node with many devices this is half of a decision.
    able = [amount for amount in amounts if amount >= shape.per_device]
    if shape.gpu >= MILLI:
        return score + _GPU_WEIGHT * (len(able) - shape.device_count) / len(amounts)
    tightest = min(able)
    return score + _GPU_WEIGHT * (tightest - shape.gpu) / MILLI


class _Ranking:
    """The rooms of one pool that hold one shape, best first; stale entries are dropped when met."""

    __slots__ = ("heap", "mark")

    def __init__(self) -> None:
        self.heap: list[_Entry] = []
        self.mark = -1


class Placement:
    """Chooses rooms for shapes.

    Parameters
    ----------
    ledger : Ledger
        Where the rooms are.
    score : callable, optional
        ``score(room, shape)``, the smaller the better; it may look at nothing but these two.
    fits : callable, optional
        ``fits(room, shape)``: which rooms are ranked; those that hold the shape now when left out.
    shapes_max : int
        How many rankings are kept; the one asked for longest ago is dropped first.

    Examples
    --------
    >>> from balance.types import Resources
    >>> ledger = Ledger()
    >>> for name in ("a", "b"):
    ...     _ = ledger.add_room(name, "", Resources.capacity(gpu=2))
    >>> placement, shape = Placement(ledger), Shape(Resources.demand(gpu=0.4))
    >>> for number in range(8):
    ...     _ = ledger.take(f"actor-{number}", placement.best(shape), shape)
    >>> [room.gpus for room in ledger.rooms()]
    [{0: 200, 1: 200}, {0: 200, 1: 200}]
    """

    def __init__(
        self, ledger: Ledger, *, score: Score = strand_score, fits: Fits = Room.fits, shapes_max: int = 512
    ) -> None:
        self._ledger = ledger
        self.score = score
        self._fits = fits
        self._shapes_max = shapes_max
        self._rankings: OrderedDict[tuple[str, Shape], _Ranking] = OrderedDict()
        self._ticks = count()

    def best(self, shape: Shape, pool: str = "", permit: Permit | None = None) -> Room | None:
        """Return the best room that holds `shape` now and that `permit` permits; None if there is none.

        Ties go to the smaller node id.  `permit` is asked in order of preference and must say no to few
        rooms only (each no costs O(log rooms)).
        """
        key = (pool, shape)
        ranking = self._rankings.get(key)
        if ranking is None:
            ranking = self._rankings[key] = _Ranking()
            if len(self._rankings) > self._shapes_max:
                self._rankings.popitem(last=False)
        else:
            self._rankings.move_to_end(key)
        self._catch_up(ranking, shape, pool)
        return self._first(ranking.heap, permit)

    def devices(self, room: Room, shape: Shape) -> Devices:
        """Return the devices of `room` on which `shape`, which fits, is best: the score's choice if it has one."""
        if not shape.gpu:
            return ()
        devices: Devices = getattr(self.score, "devices", Room.pick_devices)(room, shape)
        return devices

    def use(self, score: Score) -> None:
        """Rank by another score from now on."""
        self.score = score
        self._rankings.clear()

    def several(self, shape: Shape, count: int, pool: str = "") -> list[Room]:
        """Return up to `count` of the best rooms that hold `shape` now, best first; O(count log rooms)."""
        found: list[Room] = []

        def enough(room: Room) -> bool:
            found.append(room)
            return len(found) >= count

        self.best(shape, pool, enough)
        return found

    def _catch_up(self, ranking: _Ranking, shape: Shape, pool: str) -> None:
        changed, ranking.mark = self._ledger.changed_since(ranking.mark)
        if changed is None or len(ranking.heap) > _HEAP_MIN + 2 * self._ledger.room_count(pool):
            ranking.heap = [self._entry(room, shape) for room in self._ledger.rooms(pool) if self._fits(room, shape)]
            heapq.heapify(ranking.heap)
            return
        if len(changed) > _REPEATS_MIN:
            changed = list(dict.fromkeys(changed))
        last = None
        for room in changed:
            if room is not last and room.pool == pool and self._fits(room, shape):
                heapq.heappush(ranking.heap, self._entry(room, shape))
            last = room

    def _entry(self, room: Room, shape: Shape) -> _Entry:
        return (self.score(room, shape), room.node_id, next(self._ticks), room.version, room)

    def _first(self, heap: list[_Entry], permit: Permit | None) -> Room | None:
        aside: list[_Entry] = []
        found: Room | None = None
        while heap:
            entry = heap[0]
            room = entry[4]
            if room.version != entry[3] or self._ledger.room(room.node_id, room.pool) is not room:
                heapq.heappop(heap)
            elif permit is None or permit(room):
                found = room
                break
            else:
                aside.append(heapq.heappop(heap))
        for entry in aside:
            heapq.heappush(heap, entry)
        return found
