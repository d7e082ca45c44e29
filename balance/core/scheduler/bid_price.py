"""What an amount of free GPU will earn: bid prices of a cutting-stock linear programme.

Demands are cut from devices as orders are cut from rolls.  The programme chooses how many devices to cut
by which pattern so that most GPU is sold, given how many devices there are and how often each demand
comes; the shadow price of a demand says how far it is limited by its own rarity.  What is left of it is
what one more piece earns, and the worth of `g` free thousandths is the best packing of `g` with pieces at
these earnings.  A placement that gives up more of that than it needs sells too cheap.

Patterns are generated as they are needed (Gilmore and Gomory, "A Linear Programming Approach to the
Cutting-Stock Problem", Operations Research 9, 1961): solve, price, add the best pattern of each kind of
device, until none improves.  Control by the shadow prices of such a programme: Talluri and van Ryzin, "An
Analysis of Bid-Price Controls for Network Revenue Management", Management Science 44, 1998.

What it does not do: CPU and memory are not in the programme.  CPU as a sum over nodes of a kind was tried
on OpenB and its price was zero throughout; what counts there is the CPU beside each device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance.types import MILLI

_STEP = 10  # thousandths of a device in one step of a packing; demands are rounded up to it
_STEPS = MILLI // _STEP
_ROUNDS_MAX = 200  # OpenB takes 23 to 25
_SLACK = 1e-3  # a pattern must earn this many thousandths more than its device costs

Floats = NDArray[np.float64]
Piece = tuple[int, float]  # thousandths of one device, how many such pieces are asked for


def bid_prices(pieces: Sequence[Piece], accepts: Sequence[Sequence[bool]], devices: Sequence[int]) -> list[Floats]:
    """Return, for each kind of device, what 0, 1, ..., 1000 free thousandths of one will earn.

    Parameters
    ----------
    pieces : sequence of (int, float)
        Per demand: thousandths of one device (1 to 1000), and how many of them are to come in the time
        that is planned for.
    accepts : sequence of sequence of bool
        Per kind of device and demand: whether one may go to the other.
    devices : sequence of int
        Per kind: how many devices there are.

    Returns
    -------
    list of ndarray
        One array of shape (1001,) per kind, in thousandths of a device, never falling.  All zeros if the
        programme has no solution.

    Notes
    -----
    About a second for the 130 to 430 demands of OpenB: for learning in the background, not for a decision.

    Examples
    --------
    Pieces of 0.6 are plenty, pieces of 0.4 are few: what 0.4 would fill is worth nothing by itself.

    >>> few, = bid_prices([(600, 100.0), (400, 5.0)], [[True, True]], [50])
    >>> few[[399, 400, 600, 1000]].tolist()
    [0.0, 0.0, 600.0, 600.0]
    >>> many, = bid_prices([(600, 100.0), (400, 100.0)], [[True, True]], [50])
    >>> float(many[1000])
    1000.0
    """
    size = np.array([milli for milli, _ in pieces], dtype=float)
    steps = -(-size.astype(int) // _STEP)
    allowed = np.array(accepts, dtype=bool).reshape(len(devices), len(pieces))
    limits = np.array([count for _, count in pieces] + list(devices), dtype=float)
    patterns = _first_patterns(steps, allowed)
    for _ in range(_ROUNDS_MAX):
        prices = _solve(patterns, size, limits)
        if prices is None:
            return [np.zeros(MILLI + 1) for _ in devices]
        earned, paid = size - prices[: len(pieces)], prices[len(pieces) :]
        packed = [_pack(steps, np.where(row, earned, 0.0)) for row in allowed]
        fresh = [
            (kind, pattern)
            for kind, (worth, pattern) in enumerate(packed)
            if worth[-1] > paid[kind] + _SLACK and (kind, pattern) not in patterns
        ]
        if not fresh:
            break
        patterns.update(dict.fromkeys(fresh))
    return [np.append(np.repeat(worth[:-1], _STEP), worth[-1]) for worth, _ in packed]


_Pattern = tuple[int, tuple[int, ...]]  # the kind of device, and the demands cut from one


def _first_patterns(steps: NDArray[np.int_], allowed: NDArray[np.bool_]) -> dict[_Pattern, None]:
    patterns: dict[_Pattern, None] = {}
    for kind, row in enumerate(allowed):
        for piece in np.flatnonzero(row).tolist():
            patterns[kind, (piece,)] = None
            patterns[kind, (piece,) * int(_STEPS // steps[piece])] = None
    return patterns


def _solve(patterns: dict[_Pattern, None], size: Floats, limits: Floats) -> Floats | None:
    """Return the shadow prices of all demands, then of all kinds; None if there is no solution."""
    from scipy.optimize import linprog  # noqa: PLC0415 (only learning pays for loading scipy)
    from scipy.sparse import csc_matrix  # noqa: PLC0415

    if not patterns:
        return None
    rows, columns = [], []
    for column, (kind, pattern) in enumerate(patterns):
        rows += [*pattern, len(size) + kind]
        columns += [column] * (len(pattern) + 1)
    cut = csc_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(limits), len(patterns)))  # repeats add up
    sold = np.array([size[list(pattern)].sum() for _, pattern in patterns])
    result: Any = linprog(-sold, A_ub=cut, b_ub=limits, method="highs")
    return -np.asarray(result.ineqlin.marginals, dtype=float) if result.status == 0 else None


def _pack(steps: NDArray[np.int_], earned: Floats) -> tuple[Floats, tuple[int, ...]]:
    """Return what 0, 1, ... steps of a device earn at best, and how a whole device does (unbounded knapsack)."""
    best: dict[int, int] = {}
    for piece in np.flatnonzero(earned > 0).tolist():
        known = best.get(int(steps[piece]))
        if known is None or earned[piece] > earned[known]:
            best[int(steps[piece])] = piece
    sizes = np.array(sorted(best), dtype=int)
    chosen = [best[int(number)] for number in sizes]
    gains = earned[chosen]
    worth = np.zeros(_STEPS + 1)
    last = [-1] * (_STEPS + 1)
    for room in range(1, _STEPS + 1):
        worth[room] = worth[room - 1]
        within = int(np.searchsorted(sizes, room, side="right"))
        if within:
            totals = gains[:within] + worth[room - sizes[:within]]
            index = int(totals.argmax())
            if totals[index] > worth[room] + _SLACK / _STEPS:
                worth[room], last[room] = totals[index], index
    pattern, room = [], _STEPS
    while room > 0:
        index = last[room]
        if index < 0:
            room -= 1
        else:
            pattern.append(chosen[index])
            room -= int(sizes[index])
    return worth, tuple(pattern)
