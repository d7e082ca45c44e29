"""When a queued task may start, and how sure that is.

What goes before it is not counted task by task: of a long line every k-th entry of the heap is looked at and
stands for k (a heap is sorted enough that this is a stratified sample), so that an answer costs the same
with a million tasks queued.

The time until then is that of a fluid: while the tenant's own work ``W`` ahead of the task is done, another
tenant ``j`` gets ``w_j / w_i`` times as much, as long as it has any (processor sharing: Parekh & Gallager,
IEEE/ACM Trans. Networking 1(3), 1993); work is in seconds of the whole cluster, by dominant share.  It begins
when the first room is free that holds the task.

How sure: run times vary independently, so what that adds grows with the root of their number; that their
means are learned from few runs concerns all tasks of a name alike, so that adds up.  The range is that of
a log-normal variable: a wait is never negative, and long ones are missed by more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from balance.core.scheduler.backfill import choose_room
from balance.core.scheduler.fair_share import Account
from balance.core.scheduler.lines import Line
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.task import Task

LOOKED_AT_MAX = 2000  # entries of one tenant's lines
TENANTS_MAX = 64  # whose lines are looked at; others are taken to have enough to do

_Z90 = 1.2815515594  # the 90 % quantile of the normal distribution
_SD_PER_DEVIATION = 1.2533  # of a normal variable, whose mean deviation is known
_OF_THE_MEAN = 0.26  # the error of a smoothed mean (gain 1/8) in standard deviations of one run
_OF_A_GUESS = 0.5  # how far a submitter's guess may be off that nothing was measured against
_OF_A_REST = 0.5  # how far the end of what runs may be off, in parts of what is left of it
_OF_THE_MODEL = 0.35  # how far the wait may be off: work is no fluid, fills rooms unevenly and is overtaken


@dataclass(frozen=True, slots=True)
class Ahead:
    """The queued tasks of one tenant that go before a task (or all of them).

    Attributes
    ----------
    count : int
        How many.
    exact : bool
        Whether all were looked at; else `count` is an estimate.
    sample : list of (int, Task)
        Those that were looked at, and for how many each stands.
    """

    count: int
    exact: bool
    sample: list[tuple[int, Task]]


@dataclass(frozen=True, slots=True)
class Start:
    """A moment with its 80 % range, in POSIX seconds."""

    low: float
    middle: float
    high: float


def ahead_of(account: Account, key: tuple[float, int]) -> Ahead:
    """Return who of a tenant goes before `key`; O(lines + `LOOKED_AT_MAX`)."""
    lines = _lines_before(account, key)
    entries = sum(len(line.heap) for line in lines)
    every = max(1, -(-entries // LOOKED_AT_MAX))
    seen = [entry for line in lines for entry in line.heap[::every]]
    sample = [(every, entry[2]) for entry in seen if entry[2].entry is entry and entry[:2] < key]
    return Ahead(every * len(sample), every == 1, sample)


def first_of(account: Account, key: tuple[float, int], number: int) -> list[Task]:
    """Return the first few of a tenant that go before `key`, in their order."""
    # The first k tasks stand in the k lines whose first tasks are first.
    lines = _lines_before(account, key)[:number]
    in_order = merge(*(line.tasks() for line in lines), key=_key_of)
    return [task for task in islice(in_order, number) if _key_of(task) < key]


def _lines_before(account: Account, key: tuple[float, int]) -> list[Line]:
    return [line for line in account.waiting() if line.posted is not None and line.posted[:2] < key]


def _key_of(task: Task) -> tuple[float, int]:
    assert task.entry is not None, "who stands in a line has a place"
    return task.entry[:2]


def estimated_start(state: EngineState, task: Task, ahead: Ahead, now: float) -> Start | None:
    """Return when a queued task may start; None if nobody knows how long those before it take, or nothing holds it.

    Parameters
    ----------
    state : EngineState
        Where it is queued.
    task : Task
        Which one.
    ahead : Ahead
        Who of its tenant goes before it.
    now : float
        POSIX seconds.
    """
    spot = choose_room(state.nearest, task.shape, now, state.end_of, lambda _room: False)
    own = _work(state, ahead.sample)
    if spot is None or own is None:
        return None
    work_s, spread_s = own
    factor = 1 + _work_of_others(state, task.spec.tenant, work_s) / work_s if work_s else 1.0
    # Those ahead need not be over when it begins; but neither is what runs now, and the two make up for each other.
    room_s = spot[1] - now
    wait_s = room_s + work_s * factor
    spread_s = math.hypot(spread_s * factor, work_s * factor * _OF_THE_MODEL, room_s * _OF_A_REST)
    if wait_s <= 0:
        return Start(now, now, now)
    times = math.exp(_Z90 * math.sqrt(math.log1p((spread_s / wait_s) ** 2)))
    return Start(now + wait_s / times, now + wait_s, now + wait_s * times)


def _work(state: EngineState, sample: Iterable[tuple[int, Task]]) -> tuple[float, float] | None:
    """Return the work of tasks and its standard deviation, in seconds of the whole cluster; None if it is not known."""
    total = dict(state.ledger.total.items())
    work_s = variance = 0.0
    errors: dict[str, float] = {}
    for stands_for, task in sample:
        spec = task.spec
        predicted = state.run_times.predict(spec.name, spec.expected_run_s)
        if predicted is None:
            return None
        run_s, deviation_s = predicted
        share = max((amount / total[name] for name, amount in task.shape.amounts if total.get(name)), default=0.0)
        sd_s = deviation_s * _SD_PER_DEVIATION
        measured = state.run_times.mean_s(spec.name) is not None
        error_s = sd_s * _OF_THE_MEAN if measured else run_s * _OF_A_GUESS
        work_s += stands_for * run_s * share
        variance += stands_for * (sd_s * share) ** 2
        errors[spec.name] = errors.get(spec.name, 0.0) + stands_for * error_s * share
    return work_s, math.sqrt(variance + sum(error_s**2 for error_s in errors.values()))


def _work_of_others(state: EngineState, tenant: str, work_s: float) -> float:
    """Return how much of other tenants is done while `work_s` of this one is."""
    mine = state.shares.account(tenant)
    waiting = [account for account in state.shares.in_order() if account is not mine]
    done_s = 0.0
    for number, account in enumerate(waiting):
        fair_s = work_s * account.tenant.weight / mine.tenant.weight
        has = None
        if number < TENANTS_MAX:
            has = _work(state, ahead_of(account, (math.inf, 0)).sample)
        done_s += fair_s if has is None else min(fair_s, has[0])
    return done_s
