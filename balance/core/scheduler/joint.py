"""Places for several demands at once: so that as many as possible fit, not just the next one.

Greedy placement, one demand after the other, strands what a better arrangement would use: on two devices
0.4, 0.4, 0.6, 0.6 go in only if each 0.4 lies beside a 0.6, whichever comes first.  Here places are decided
jointly.

**What is best.**  Demands have ranks; the smaller goes first.  An answer is a vector: how many demands of
the first rank are placed, of the second, and so on.  The largest vector in lexicographic order is the
optimum, so nobody is displaced by a later rank, however many of that it would let in.  With one rank for all
it is the largest number; with a rank for each it is strict order.

**How.**  First greedily, in order of rank, by the caller's score: mostly everything fits, and that is all.
Otherwise rank by rank, smallest demand first: is there an arrangement of all that are placed and this one?
That is a depth-first search (bin packing with cores and memory beside the devices): largest demand first, the
tightest device first, devices and rooms in equal states tried once, states that failed remembered.  Of two
demands of a rank the one that needs no more of anything is never worth leaving out for the other, so where
demands can be ordered by size no subset is tried twice (Martello and Toth, "Knapsack Problems", 1990, chapter 8,
on reductions of this kind).  After `steps_max` steps the best answer so far stands.

What it does not do: move what is held already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.shape import Shape
from balance.types import MILLI

Spot = tuple[Room, Devices]
Score = Callable[[Room, Shape], float]
PickDevices = Callable[[Room, Shape], Devices]

STEPS_MAX = 20_000
"""Steps of the search, 5 to 15 µs each: what one answer may cost at most."""

SHAPES_MAX = 200
"""More demands than this are placed greedily."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Where demands go.

    Attributes
    ----------
    spots : tuple of (Room, Devices) or None
        For each demand its room and ``(index, thousandths)`` of each device; None for one that is not placed.
    exact : bool
        Whether this is certainly the optimum; False when the search was cut short.
    """

    spots: tuple[Spot | None, ...]
    exact: bool


def place_together(rooms: Sequence[Room], shapes: Sequence[Shape], *, steps_max: int = STEPS_MAX) -> list[Spot] | None:
    """Return places for all of `shapes` at once, None if there are none (or `steps_max` was too few to tell).

    Examples
    --------
    >>> from balance.types import Resources
    >>> node = Room("n", "", Resources.capacity(gpu=2))
    >>> mixed = [Shape(Resources.demand(gpu=amount)) for amount in (0.4, 0.4, 0.6, 0.6)]
    >>> [devices for _, devices in place_together([node], mixed)]
    [((1, 400),), ((0, 400),), ((1, 600),), ((0, 600),)]
    """
    search = _Search(rooms, shapes, steps_max)
    everyone = range(len(shapes))
    found = search.greedy(everyone)
    if len(found) < len(shapes) <= SHAPES_MAX:
        found = search.pack(everyone) or {}
    return [search.spot(found[index]) for index in everyone] if len(found) == len(shapes) else None


def place_most(
    rooms: Sequence[Room],
    shapes: Sequence[Shape],
    ranks: Sequence[int] | None = None,
    *,
    score: Score | None = None,
    pick: PickDevices = Room.pick_devices,
    steps_max: int = STEPS_MAX,
) -> Joint:
    """Return places for as many of `shapes` as possible, the first ranks first.

    Parameters
    ----------
    rooms : sequence of Room
        Where there is room; nothing is changed.
    shapes : sequence of Shape
        What is to be placed.
    ranks : sequence of int, optional
        The rank of each; all the same when left out.
    score, pick : callable, optional
        Which room and which devices are best, where a greedy answer is as good as any.
    steps_max : int
        Steps of the search, see `STEPS_MAX`.

    Notes
    -----
    O(shapes x rooms) where a greedy answer places everything.

    Examples
    --------
    One device: two halves rather than a whole, unless the whole goes first.

    >>> from balance.types import Resources
    >>> node = Room("n", "", Resources.capacity(gpu=1))
    >>> mixed = [Shape(Resources.demand(gpu=amount)) for amount in (1, 0.5, 0.5)]
    >>> [spot is not None for spot in place_most([node], mixed).spots]
    [False, True, True]
    >>> [spot is not None for spot in place_most([node], mixed, [1, 2, 2]).spots]
    [True, False, False]
    """
    ranks = [0] * len(shapes) if ranks is None else ranks
    search = _Search(rooms, shapes, steps_max)
    found = search.greedy(sorted(range(len(shapes)), key=lambda index: (ranks[index], index)), score, pick)
    exact = len(found) == len(shapes)
    if not exact and len(shapes) <= SHAPES_MAX:
        best: _Found = {}
        for rank in sorted(set(ranks)):
            best = _Rank(search, best, [index for index, each in enumerate(ranks) if each == rank]).best
        exact = search.steps_left > 0
        if _counts(best, ranks) > _counts(found, ranks):
            found = best
    return Joint(tuple(search.spot(found[index]) if index in found else None for index in range(len(shapes))), exact)


_Found = dict[int, tuple[int, Devices]]  # by number of the demand: the number of the room, and the devices


def _counts(found: _Found, ranks: Sequence[int]) -> list[int]:
    placed = Counter(ranks[index] for index in found)
    return [placed[rank] for rank in sorted(set(ranks))]


class _Rank:
    """The largest subset of the demands of one rank that goes in beside those `kept` of the ranks before."""

    def __init__(self, search: _Search, kept: _Found, members: Sequence[int]) -> None:
        self._search = search
        self.best = kept
        able = sorted((index for index in members if search.could_fit(index)), key=search.size)
        together = search.pack([*kept, *able]) if len(able) > 1 else None
        if together is not None:
            self.best = together
        else:
            self._choose(able, kept)

    def _choose(self, candidates: list[int], chosen: _Found) -> None:
        """Try every subset of `candidates`, which are in ascending order, that may be better than the best."""
        while len(chosen) + len(candidates) > len(self.best):
            first, *others = candidates
            found = self._search.extend(chosen, first) or self._search.pack([*chosen, first])
            if found is not None:
                if len(found) > len(self.best):
                    self.best = found
                self._choose(others, found)
            # And now without it, which is as good as without any that needs as much.
            candidates = [each for each in others if not self._search.needs_no_more(first, each)]


class _Search:
    """Looks for arrangements of demands in sketches of the rooms."""

    def __init__(self, rooms: Sequence[Room], shapes: Sequence[Shape], steps_max: int) -> None:
        self._origins = rooms
        self._shapes = shapes
        self.steps_left = steps_max
        self._rooms: list[Room] = []
        self._failed: set[object] = set()

    def spot(self, place: tuple[int, Devices]) -> Spot:
        """Return a place with its real room."""
        return self._origins[place[0]], place[1]

    def size(self, index: int) -> tuple[int, int, int, int]:
        """Return the key by which demands are ordered by size; of equal ones the first is the smaller."""
        shape = self._shapes[index]
        return (shape.gpu, shape.cpu, shape.memory, index)

    def could_fit(self, index: int) -> bool:
        """Say whether a demand fits by itself."""
        return any(room.fits(self._shapes[index]) for room in self._origins)

    def needs_no_more(self, one: int, other: int) -> bool:
        """Say whether one demand fits wherever the other does."""
        small, large = self._shapes[one], self._shapes[other]
        amounts = dict(large.custom)
        return (
            small.gpu <= large.gpu
            and small.cpu <= large.cpu
            and small.memory <= large.memory
            and all(amount <= amounts.get(name, 0) for name, amount in small.custom)
        )

    def greedy(self, order: Iterable[int], score: Score | None = None, pick: PickDevices = Room.pick_devices) -> _Found:
        """Place one after the other where `score` is least (by default: where least GPU is left on the device)."""
        self._reset({})
        rate = score or _tightness
        found: _Found = {}
        for index in order:
            shape = self._shapes[index]
            able = [(rate(room, shape), slot) for slot, room in enumerate(self._rooms) if room.fits(shape)]
            if able:
                slot = min(able)[1]
                found[index] = (slot, pick(self._rooms[slot], shape))
                self._rooms[slot].add(shape, found[index][1], -1)
        return found

    def extend(self, found: _Found, index: int) -> _Found | None:
        """Return an arrangement with one more demand and all others where they are; None if that can't be."""
        self._reset(found)
        options = self._options(self._shapes[index])
        return {**found, index: options[0]} if options else None

    def pack(self, wanted: Iterable[int]) -> _Found | None:
        """Return an arrangement of all that are `wanted`; None if there is none, or no step is left to find it."""
        self._reset({})
        self._failed.clear()
        order = sorted(wanted, key=self.size, reverse=True)
        left = list(accumulate((self._shapes[index].gpu for index in reversed(order)), initial=0))[::-1]
        found: _Found = {}
        return found if self._place(order, left, found) else None

    def _place(self, order: list[int], left: list[int], found: _Found) -> bool:
        """Place what comes after those `found`; ``left[k]`` is the GPU that all after the first k ask for."""
        number = len(found)
        if number == len(order):
            return True
        self.steps_left -= 1
        if self.steps_left <= 0 or left[number] > self._usable(self._shapes[order[-1]].per_device):
            return False
        state = (number, tuple(sorted(map(_state, self._rooms))))
        if state in self._failed:
            return False
        index = order[number]
        shape = self._shapes[index]
        for slot, devices in self._options(shape):
            found[index] = (slot, devices)
            self._rooms[slot].add(shape, devices, -1)
            if self._place(order, left, found):
                return True
            self._rooms[slot].add(shape, devices, 1)
            del found[index]
        self._failed.add(state)
        return False

    def _usable(self, least: int) -> int:
        """Return the free GPU on devices of which not even `least`, the smallest piece that comes, is too much."""
        return sum(free for room in self._rooms for free in room.gpus.values() if free >= least)

    def _options(self, shape: Shape) -> list[tuple[int, Devices]]:
        """Return where a demand could go now, the tightest first; of interchangeable places one."""
        options: dict[object, tuple[int, int, Devices]] = {}
        for slot, room in enumerate(self._rooms):
            if not room.fits(shape):
                continue
            state = _state(room)
            if not 0 < shape.gpu < MILLI:
                options.setdefault(state, (_tightness(room, shape), slot, room.pick_devices(shape)))
                continue
            for index, free in sorted(room.gpus.items()):
                if free >= shape.gpu:
                    options.setdefault((state, free), (free - shape.gpu, slot, ((index, shape.gpu),)))
        return [(slot, devices) for _, slot, devices in sorted(options.values())]

    def _reset(self, found: _Found) -> None:
        self._rooms = [room.sketch() for room in self._origins]
        for index, (slot, devices) in found.items():
            self._rooms[slot].add(self._shapes[index], devices, -1)


def _tightness(room: Room, shape: Shape) -> int:
    """Return the GPU left on the fullest device that holds `shape`, or on whole devices in the room."""
    if 0 < shape.gpu < MILLI:
        return min(free for free in room.gpus.values() if free >= shape.gpu) - shape.gpu
    return MILLI * sum(free >= MILLI for free in room.gpus.values()) - shape.gpu


def _state(room: Room) -> tuple[object, ...]:
    """Return what matters of a room: two in the same state are interchangeable."""
    return (tuple(sorted(room.gpus.values())), room.cpu, room.memory, tuple(sorted(room.custom.items())))
