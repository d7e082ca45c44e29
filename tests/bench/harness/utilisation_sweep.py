"""Hundreds of target-utilisation policies in one pass over a trace: what tuning one in hindsight would find.

The same rules as `balance.simulation.scaling` (a unit test holds the two together), for whole arrays of settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """One policy: as `balance.simulation.scaling.TargetUtilisation` takes it."""

    target: float
    smooth_s: float
    hold_s: float
    drain_s: float


#: What is swept.
TARGETS = tuple(float(value) for value in np.r_[np.arange(0.3, 0.6, 0.05), np.arange(0.6, 1.1001, 0.025)])
SETTINGS = tuple(Setting(*each) for each in product(TARGETS, (0.0, 60.0), (0.0, 300.0, 1200.0), (0.0, 120.0)))


def sweep(
    load: Array,
    settings: Sequence[Setting] = SETTINGS,
    *,
    step_s: float,
    cold_start_s: float,
    objective_s: float,
    warm_up: int,
) -> list[tuple[float, float]]:
    """Return for each setting what it costs (replica-seconds per replica-second of work) and its share of misses.

    Parameters
    ----------
    load : array of shape (steps,)
        Replicas' worth of work that comes in each step.
    settings : sequence of Setting
        The policies.
    step_s, cold_start_s, objective_s : float
        As in the simulator; the cold start is taken as a whole number of steps.
    warm_up : int
        Steps at the beginning that do not count.
    """
    target, smooth_s, hold_s, drain_s = (
        np.array([getattr(one, name) for one in settings]) for name in ("target", "smooth_s", "hold_s", "drain_s")
    )
    share = np.where(smooth_s > 0, 1 - np.exp(-step_s / np.maximum(smooth_s, 1e-9)), 1.0)
    drain = np.where(drain_s > 0, 1 / np.maximum(drain_s, 1e-9), 0.0)
    holds = [(np.flatnonzero(hold_s == value), round(value / step_s)) for value in np.unique(hold_s)]
    ring = np.zeros((round(hold_s.max() / step_s) + 1, len(settings)))
    lead = round(cold_start_s / step_s)
    orders = np.zeros((lead + 1, len(settings)))
    starting = np.zeros(len(settings))
    ready = np.full(len(settings), max(1.0, np.ceil(load[0])))
    parts = max(1, int(np.ceil(step_s * 2 / objective_s - 1e-9)))
    part_s = step_s / parts
    lag = max(1, round(objective_s / part_s))
    came, left = [0.0] * (lag + 1), np.zeros(len(settings))
    slack, missed, paid = np.zeros(len(settings)), np.zeros(len(settings)), np.zeros(len(settings))
    smoothed = np.full(len(settings), load[0])
    for step, now in enumerate(load):
        due = orders[step % (lead + 1)]
        ready, starting = ready + due, starting - due
        orders[step % (lead + 1)] = 0
        if step:
            smoothed = smoothed + share * (load[step - 1] - smoothed)
            need = np.maximum(1, np.ceil((smoothed + (came[-1] - left) * drain) / target - 1e-9))
            ring[step % len(ring)] = need
            wanted = need
            for which, steps in holds:
                if steps:
                    rows = np.arange(max(1, step - steps), step + 1) % len(ring)
                    wanted[which] = ring[np.ix_(rows, which)].max(axis=0)
            more = wanted - ready - starting
            up = np.maximum(0, more)
            if lead:
                orders[(step + lead) % (lead + 1)] += up
                starting = starting + up
            else:
                ready = ready + up
            surplus = np.maximum(0, -more)
            for back in range(lead):
                if not surplus.any():
                    break
                slot = orders[(step + lead - back) % (lead + 1)]
                gone = np.minimum(surplus, slot)
                slot -= gone
                starting = starting - gone
                surplus = surplus - gone
            ready = ready - surplus
        counted = step >= warm_up
        paid += counted * (ready + starting) * step_s
        for _ in range(parts):
            came.append(came[-1] + now * part_s)
            left = np.minimum(came[-1], left + ready * part_s)
            old, slack = slack, left - came[-1 - lag]
            if counted:
                low = np.maximum(0, -np.minimum(old, slack))
                below = np.where(np.maximum(old, slack) <= 0, 1.0, low / np.maximum(np.abs(old) + np.abs(slack), 1e-12))
                missed += np.where(np.minimum(old, slack) < 0, below, 0.0) * (came[-1 - lag] - came[-2 - lag])
        if len(came) > 4096:
            came = came[-lag - 2 :]
    work = float(load[warm_up:].sum()) * step_s
    return list(zip((paid / work).tolist(), (missed / work).tolist(), strict=True))
