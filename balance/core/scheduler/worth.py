"""Which room a shape goes to, learned from what is usually asked for: the one that loses least worth.

The worth of a room is the sum of two things over its devices, both looked up in tables made once:

- *what is not a fragment* (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
  Fragmentation Gradient Descent", USENIX ATC 2023): free GPU, each times the share of usual demands that
  could still use it.  The paper's sum over demands comes apart into one over devices: a demand for (part
  of) one device uses ``g`` if it asks for no more GPU than ``g`` and no more CPU than the room has left.
  So a table by (CPU left, ``g``) replaces the loop over demands, and a score costs microseconds.
- *what it will earn*, from `balance.core.scheduler.bid_price`.

A placement's score is the worth lost, plus the GPU that it leaves without the CPU that is usually asked for
beside as much (so what needs many cores goes where there are many, and what needs few leaves them), plus a
price for taking a device that demands ask for by label (a GPU model): custom resources of the room, as Ray's
own ``accelerator_type:...`` are.  It only ranks rooms and never refuses what fits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from balance.core.scheduler.bid_price import Floats, bid_prices
from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.workload import Workload
from balance.types import MILLI, Resources

# The weights were chosen on OpenB (seeds 1 and 2); around them the result is flat.
_FRAGMENT_WEIGHT = 0.2
_BID_WEIGHT = 3.0
_LABEL_WEIGHT = 0.5
_PLANNED = 1.05  # the programme plans for this much of the cluster's GPU being asked for
_SCALE = 1000  # scores are integers: thousandths of a thousandth of a device
_CORES_MAX = 64  # rows of a table


@dataclass(frozen=True, slots=True)
class _Kind:
    """The tables of rooms of one capacity; rooms that accept the same demands share `by_device`.

    `cpu` goes with `gpu`: their quotient is how much CPU is wanted beside a device.
    """

    by_device: list[list[int]]  # [CPU row][free thousandths]: worth of one device
    by_count: list[list[int]]  # [CPU row][whole devices]: worth of each of them to demands for several
    label_price: int
    cpu: int
    gpu: int


class WorthScore:
    """Scores placements by the worth they destroy; the smaller the better.

    Learns once, when built: build a new one (and a new `Placement`) when the workload has moved on.

    Parameters
    ----------
    workload : Workload
        What is usually asked for.  Without any, only CPU beside free GPU counts, in the room's own proportion.
    rooms : iterable of Room
        The cluster that it is asked of.  Rooms that come later are scored too, without bid price if
        they accept another set of demands than any of these.

    Notes
    -----
    Learning takes about a second for 400 different demands; a score takes O(devices): 2 to 5 µs for 8.

    Examples
    --------
    Everybody wants 0.7 or 0.3 of a device: beside a 0.3 belongs a 0.7.

    >>> from balance.core.scheduler.ledger import Ledger
    >>> ledger, big, small = Ledger(), Shape(Resources.demand(gpu=0.7)), Shape(Resources.demand(gpu=0.3))
    >>> first = ledger.add_room("a", "", Resources.capacity(gpu=1))
    >>> second = ledger.add_room("b", "", Resources.capacity(gpu=1))
    >>> score = WorthScore(Workload([big.demand, small.demand]), ledger.rooms())
    >>> _ = ledger.take("task", first, small)
    >>> score(first, big) < score(second, big)
    True
    """

    def __init__(self, workload: Workload, rooms: Iterable[Room] = ()) -> None:
        self._shapes = [(Shape(demand), count) for demand, count in workload.counts() if demand.gpu_milli]
        self._asked = sum(count for _, count in self._shapes)
        self._beside = (
            sum(shape.cpu * count for shape, count in self._shapes),
            sum(shape.gpu * count for shape, count in self._shapes),
        )
        self._cores = _thresholds([shape.cpu for shape, _ in self._shapes])
        self._kinds: dict[Resources, _Kind] = {}
        self._tables: dict[tuple[bool, ...], list[list[int]]] = {}
        examples: dict[Resources, Room] = {}
        devices: dict[tuple[bool, ...], int] = {}
        for room in rooms:
            if examples.setdefault(room.capacity, room) is room:
                accepts = self._accepts(room)
            else:
                accepts = self._accepts(examples[room.capacity])
            devices[accepts] = devices.get(accepts, 0) + len(room.devices)
        self._pressure = self._pressures(devices)
        self._bids = self._learn_bids(devices)

    def __call__(self, room: Room, shape: Shape) -> int:
        """Return the worth lost if `shape`, which fits, goes into `room`."""
        return self._weigh(room, shape)[0]

    def devices(self, room: Room, shape: Shape) -> Devices:
        """Return the devices of `room` on which `shape`, which fits, destroys least; then the lowest index."""
        device = self._weigh(room, shape)[1]
        return room.pick_devices(shape) if device is None else ((device, shape.per_device),)

    # ------------------------------------------------------------------ scoring

    def _weigh(self, room: Room, shape: Shape) -> tuple[int, int | None]:
        kind = self._kinds.get(room.capacity) or self._kind(room)
        gpus, cores = room.gpus, self._cores
        row = bisect_right(cores, room.cpu)
        by_device = kind.by_device[row]
        free = whole = before = 0
        for amount in gpus.values():
            if amount > 0:
                free += amount
                before += by_device[amount]
                if amount >= MILLI:
                    whole += 1
        cpu_left = room.cpu - shape.cpu
        row_left = bisect_right(cores, cpu_left)
        kept = before
        if row_left != row:
            by_device = kind.by_device[row_left]
            kept = sum(by_device[amount] for amount in gpus.values() if amount > 0)
        before += _several(kind.by_count[row], whole)
        by_count = kind.by_count[row_left]
        device: int | None = None
        need = shape.per_device
        if not need:
            after = kept + _several(by_count, whole)
        elif need == MILLI:
            after = kept - shape.device_count * by_device[MILLI] + _several(by_count, whole - shape.device_count)
        else:
            change: int | None = None
            for index, amount in gpus.items():
                if amount >= need:
                    left = whole - 1 if amount >= MILLI else whole
                    here = by_device[amount - need] - by_device[amount] + _several(by_count, left)
                    if change is None or here > change:
                        change, device = here, index
            after = kept + (change or 0)
        bare = _bare(kind, cpu_left, free - shape.gpu) - _bare(kind, room.cpu, free)
        return before - after + _SCALE * bare + kind.label_price * shape.gpu, device

    # ------------------------------------------------------------------ learning

    def _accepts(self, room: Room) -> tuple[bool, ...]:
        return tuple(room.could_hold(shape) for shape, _ in self._shapes)

    def _pressures(self, devices: dict[tuple[bool, ...], int]) -> dict[tuple[bool, ...], float]:
        """Return the GPU asked of each device of a kind if every demand spreads evenly over what it accepts.

        In units of the least pressed kind's: 0 for that one, 1 for one of which twice as much is asked.
        """
        pressure = dict.fromkeys(devices, 0.0)
        for index, (shape, count) in enumerate(self._shapes):
            able = [accepts for accepts in devices if accepts[index]]
            supply = sum(devices[accepts] for accepts in able)
            for accepts in able:
                if supply:
                    pressure[accepts] += shape.gpu * count / supply
        total = sum(shape.gpu * count for shape, count in self._shapes)
        everywhere = total / max(sum(devices.values()), 1) or 1.0
        least = min(pressure.values(), default=0.0)
        return {accepts: (amount - least) / everywhere for accepts, amount in pressure.items()}

    def _learn_bids(self, devices: dict[tuple[bool, ...], int]) -> dict[tuple[bool, ...], Floats]:
        asked = sum(shape.gpu * count for shape, count in self._shapes)
        kinds = [accepts for accepts, count in devices.items() if count and any(accepts)]
        if not kinds:
            return {}
        scale = _PLANNED * MILLI * sum(devices[accepts] for accepts in kinds) / asked
        # What differs in CPU only is one piece to the programme.
        pieces: dict[tuple[int, tuple[bool, ...]], float] = {}
        for index, (shape, count) in enumerate(self._shapes):
            piece = (shape.per_device, tuple(accepts[index] for accepts in kinds))
            pieces[piece] = pieces.get(piece, 0.0) + scale * count * shape.device_count
        prices = bid_prices(
            [(milli, amount) for (milli, _), amount in pieces.items()],
            list(zip(*(able for _, able in pieces), strict=True)),
            [devices[accepts] for accepts in kinds],
        )
        return dict(zip(kinds, prices, strict=True))

    def _kind(self, room: Room) -> _Kind:
        accepts = self._accepts(room)
        rows, count_max = len(self._cores) + 1, len(room.devices)
        by_device, by_count = np.zeros((rows, MILLI + 1)), np.zeros((rows, count_max + 1))
        for accepted, (shape, count) in zip(accepts, self._shapes, strict=True):
            first = bisect_left(self._cores, shape.cpu) + 1
            if accepted and shape.device_count == 1:
                by_device[first:, shape.gpu :] += count
            elif accepted:
                by_count[first:, shape.device_count :] += count
        weight = _SCALE * _FRAGMENT_WEIGHT / max(self._asked, 1)
        if accepts not in self._tables:
            table = weight * by_device * np.arange(MILLI + 1)
            if accepts in self._bids:
                table += _SCALE * _BID_WEIGHT * self._bids[accepts]
            self._tables[accepts] = np.rint(table).astype(int).tolist()
        kind = self._kinds[room.capacity] = _Kind(
            self._tables[accepts],
            np.rint(weight * MILLI * by_count).astype(int).tolist(),
            round(_SCALE * _LABEL_WEIGHT * self._pressure.get(accepts, 0.0)),
            *(self._beside if self._shapes else (room.capacity.cpu_milli, room.capacity.gpu_milli)),
        )
        return kind


def _several(by_count: list[int], whole: int) -> int:
    return whole * by_count[whole]


def _bare(kind: _Kind, cpu: int, gpu: int) -> int:
    """Return the free GPU beside which there is not as much CPU as goes with it."""
    return max(gpu - max(cpu, 0) * kind.gpu // kind.cpu, 0) if kind.cpu else 0


def _thresholds(cores: list[int]) -> list[int]:
    """Return at most `_CORES_MAX` of the amounts in ascending order, the largest among them."""
    known = sorted(set(cores))
    every = -(-len(known) // _CORES_MAX) or 1
    return known[::-1][::every][::-1]
