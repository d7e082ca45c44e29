"""Random mixes of fractional and whole GPUs, and how many of one fit at best, by brute force."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

FRACTIONS = (100, 200, 250, 300, 330, 400, 500, 600, 700, 750, 800, 900)
WHOLES = (1000, 1000, 2000, 3000)
DEMANDS_MAX = 12

_Devices = tuple[int, ...]  # what is free of each device of a node, in thousandths, ascending


@dataclass(frozen=True, slots=True)
class Mix:
    """What is asked for at the same moment of some of the nodes.

    Attributes
    ----------
    nodes : tuple of int
        Which nodes, by number.
    demands : tuple of int
        Thousandths of one device, or whole devices of one node.
    """

    nodes: tuple[int, ...]
    demands: tuple[int, ...]


def make_mixes(gpus: Sequence[int], count: int, seed: int) -> list[Mix]:
    """Return `count` mixes over two to four of the nodes that have so many `gpus`.

    Three demands in four are fractions.  They ask for 80 to 120 % of the devices in all, since where little is
    asked for anything goes, and nobody asks for more than some node has.

    Examples
    --------
    >>> first, second = make_mixes([1, 2], 2, seed=0)
    >>> first.nodes, sum(first.demands) <= 3600, first == make_mixes([1, 2], 1, seed=0)[0]
    ((0, 1), True, True)
    """
    chance = random.Random(seed)
    mixes = []
    while len(mixes) < count:
        nodes = tuple(sorted(chance.sample(range(len(gpus)), chance.randint(2, min(4, len(gpus))))))
        largest = max(gpus[node] for node in nodes)
        most = 1000 * sum(gpus[node] for node in nodes) * chance.uniform(0.8, 1.2)
        demands: list[int] = []
        while len(demands) < DEMANDS_MAX:
            demand = min(chance.choice(FRACTIONS if chance.random() < 0.75 else WHOLES), 1000 * largest)
            if sum(demands) + demand > most:
                break
            demands.append(demand)
        if len(demands) > 1:
            mixes.append(Mix(nodes, tuple(demands)))
    return mixes


def optimum(gpus: Sequence[int], demands: Sequence[int]) -> int:
    """Return how many of `demands` fit at once on nodes with so many `gpus`, over all subsets and arrangements.

    Examples
    --------
    >>> optimum([2], [400, 400, 600, 600]), optimum([1, 1], [2000, 500]), optimum([1], [1000, 500, 500])
    (4, 1, 2)
    """

    @cache
    def most(number: int, nodes: tuple[_Devices, ...]) -> int:
        limit = _by_volume(sum(map(sum, nodes)), demands[number:])
        best = 0
        for after in (*_with(nodes, demands[number]), None) if limit else ():
            found = most(number + 1, nodes) if after is None else 1 + most(number + 1, after)
            best = max(best, found)
            if best == limit:
                break
        return best

    demands = sorted(demands, reverse=True)
    return most(0, tuple(sorted((1000,) * count for count in gpus)))


def _by_volume(free: int, demands: Sequence[int]) -> int:
    """Return how many of `demands` would fit if all that is free were one device: no arrangement has more."""
    number = 0
    for demand in sorted(demands):
        free -= demand
        if free < 0:
            break
        number += 1
    return number


def _with(nodes: tuple[_Devices, ...], demand: int) -> Iterator[tuple[_Devices, ...]]:
    """Yield every state after placing one demand; states that differ only in names are one."""
    seen = set()
    for which, devices in enumerate(nodes):
        need, count = (demand, 1) if demand < 1000 else (1000, demand // 1000)
        able = [index for index, free in enumerate(devices) if free >= need]
        for chosen in combinations(able, count):
            left = tuple(sorted(free - need * (index in chosen) for index, free in enumerate(devices)))
            after = tuple(sorted((*nodes[:which], left, *nodes[which + 1 :])))
            if after not in seen:
                seen.add(after)
                yield after
