"""The list of tasks that people read: what runs, what waits in its order, what is over."""

from __future__ import annotations

import asyncio
import heapq
from operator import itemgetter
from typing import Any

from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.states import State
from balance.core.scheduler.status import TaskStatus
from balance.core.scheduler.task import Task
from balance.errors import InvalidValue
from balance.types import check_int

AT_ONCE = 4000
"""How many tasks are looked at before others have their turn."""

_RANKS = {State.RUNNING: 0, State.QUEUED: 1, State.RETRYING: 2, State.DELAYED: 3, State.WAITING: 4}
_OVER = 5


async def list_tasks(
    scheduler: TaskScheduler,
    *,
    state: str | None = None,
    tenant: str | None = None,
    name: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Return the tasks in memory that match, at most `limit`.

    Returns
    -------
    list of dict
        The keys of `TaskStatus`: running tasks first, then queued ones in the order in which they would run, those
        that wait for something else, and those that are over, latest first.

    Raises
    ------
    InvalidValue
        There is no such state, or `limit` is below 1.

    Notes
    -----
    O(tasks in memory), with a pause for others after every few thousand.
    """
    if state is not None and state not in set(State):
        raise InvalidValue("state", state, "one of " + ", ".join(State))
    check_int("limit", limit, minimum=1)
    step_s = scheduler.engine.state.policy.aging_step_s
    everything = list(scheduler.engine.state.tasks.values())
    first: list[tuple[tuple[float, ...], Task]] = []
    for start in range(0, len(everything), AT_ONCE):
        found = [
            (_place(task, step_s), task)
            for task in everything[start : start + AT_ONCE]
            if (state is None or task.state == state)
            and (tenant is None or task.spec.tenant == tenant)
            and (name is None or task.spec.name == name)
        ]
        first = heapq.nsmallest(limit, first + found, key=itemgetter(0))
        await asyncio.sleep(0)
    now = scheduler.now()
    return [TaskStatus.of(task, now, step_s).to_dict() for _, task in first]


def _place(task: Task, step_s: float) -> tuple[float, ...]:
    """Return by what a task is sorted: the rank of its state, then the moment that counts in it."""
    if task.state.terminal:
        return _OVER, -(task.finished_at or 0.0), -task.seq
    if task.state is State.QUEUED:
        return _RANKS[task.state], (task.eligible_at or 0.0) + task.priority * step_s, task.seq
    moment = task.started_at if task.state is State.RUNNING else task.due_at
    return _RANKS[task.state], moment or 0.0, task.seq
