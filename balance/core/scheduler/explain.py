"""Why a task does not run yet, and when it may."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from balance.core.scheduler.admission import denial
from balance.core.scheduler.backfill import choose_room
from balance.core.scheduler.lines import Line
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.types import MILLI

NAMED_MAX = 5
_Z90 = 1.2815515594  # the 90 % quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is where it is.

    Attributes
    ----------
    task_id, status : str
        The task and its `State`.
    reason : str
        One sentence.
    waits_for : list of str
        Prerequisites that are not completed (a few of them), or gang members that are missing.
    due_at : float or None
        When its delay or backoff is over, POSIX seconds.
    resource : str or None
        Which resource lacks most for it where it fits best.
    lacking : float or None
        How much of that: cores, bytes, devices.
    node_id : str or None
        Where room is being kept for it, or where least lacks.
    ahead : int
        How many queued tasks of its tenant go before it.
    behind : list of str
        The first few of those.
    estimated_start, estimated_start_low, estimated_start_high : float or None
        POSIX seconds: the expected moment and an 80 % range, from declared and measured run times; None
        when no run time is known.
    change : dict or None
        For a task that no node could ever hold: ``resource``, ``lacking``, ``largest_possible``.
    story : list of str
        What happened to it so far.
    """

    task_id: str
    status: str
    reason: str
    waits_for: list[str]
    due_at: float | None
    resource: str | None
    lacking: float | None
    node_id: str | None
    ahead: int
    behind: list[str]
    estimated_start: float | None
    estimated_start_low: float | None
    estimated_start_high: float | None
    change: dict[str, Any] | None
    story: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return every attribute under its name."""
        return asdict(self)


def explain(state: EngineState, task: Task, now: float) -> Explanation:
    """Say why `task` is where it is; for a queued one O(queued + rooms)."""
    found: dict[str, Any] = {
        "waits_for": [],
        "due_at": task.due_at,
        "resource": None,
        "lacking": None,
        "node_id": task.node_id,
        "ahead": 0,
        "behind": [],
        "estimated_start": None,
        "estimated_start_low": None,
        "estimated_start_high": None,
        "change": None,
    }
    if task.state is State.QUEUED:
        found.update(_queued(state, task, now))
    elif task.state is State.WAITING:
        unmet = state.resolver.unmet(task.task_id)
        found["waits_for"] = unmet[:NAMED_MAX]
        found["reason"] = f"{len(unmet)} of its prerequisites are not completed"
    elif task.state in (State.DELAYED, State.RETRYING):
        found["estimated_start"] = task.due_at
        what = "its start time" if task.state is State.DELAYED else "the wait before its next attempt"
        found["reason"] = f"{what} is {max(0.0, (now if task.due_at is None else task.due_at) - now):.3g} s away"
    elif task.state is State.RUNNING:
        found["reason"] = f"it runs, attempt {task.attempt}"
    else:
        found["reason"] = task.reason or f"it is {task.state}"
        if task.state is State.DENIED and task.error is not None:
            found.update(resource=task.error["resource"], lacking=task.error["lacking"], change=task.error)
    return Explanation(task_id=task.task_id, status=str(task.state), story=task.told(), **found)


def _queued(state: EngineState, task: Task, now: float) -> dict[str, Any]:
    if task.entry is None:
        gang = state.gangs[task.spec.gang_id or ""]
        late = [name for name, member in gang.members.items() if member.state is not State.QUEUED]
        missing = gang.size - gang.completed - len(gang.ready)
        return {"reason": f"{missing} members of its gang are not ready", "waits_for": late[:NAMED_MAX]}
    line = state.line_of(task)
    before = [entry[2] for entry in _standing(line) if entry < task.entry]
    lines = [other for other in line.account.waiting() if other is not line and other.posted is not None]
    for other in lines:
        before += [entry[2] for entry in _standing(other) if entry[:2] < task.entry[:2]]
    first = sorted(before, key=lambda other: other.entry[:2] if other.entry else (math.inf, 0))
    out: dict[str, Any] = {"ahead": len(before), "behind": [other.task_id for other in islice(first, NAMED_MAX)]}
    out.update(_lacking(state, line, task))
    out.update(_estimate(state, task, before, now))
    out["reason"] = _sentence(state, line, task, out)
    return out


def _standing(line: Line) -> list[tuple[float, int, Task]]:
    return [entry for entry in line.heap if entry[2].entry is entry]


def _lacking(state: EngineState, line: Line, task: Task) -> dict[str, Any]:
    earmark = state.earmarks.get(line)
    rooms = [room for room, _ in earmark.rooms.values()] if earmark else list(state.ledger.rooms(""))
    if not rooms:
        return {"reason": "no node"}
    shape = task.shape
    needs = dict(shape.amounts)

    def lack(index: int) -> tuple[float, str]:
        short = rooms[index].shortfall(shape)
        return sum(amount / needs[name] for name, amount in short.items()), rooms[index].node_id

    room = rooms[min(range(len(rooms)), key=lack)]
    short = room.shortfall(shape)
    out: dict[str, Any] = {"node_id": room.node_id, "change": denial(state, shape, line.account.name)}
    if short:
        resource = max(short, key=lambda name: (short[name] / needs[name], name))
        out["resource"] = resource
        out["lacking"] = short[resource] if resource == "memory" else short[resource] / MILLI
    return out


def _estimate(state: EngineState, task: Task, before: list[Task], now: float) -> dict[str, Any]:
    """When it may start: the first room, then the work that goes before it over what the cluster does at once.

    The work ahead is a sum of independent run times, so its deviation grows with the root of their number.
    """
    spot = choose_room(state.nearest, task.shape, now, state.end_of, lambda _room: False)
    if spot is None:
        return {}
    total = dict(state.ledger.total.items())
    wait_s = spread2 = 0.0
    for other in before:
        run_s = other.spec.expected_run_s if other.spec.expected_run_s is not None else None
        run_s = run_s if run_s is not None else state.run_times.mean_s(other.spec.name)
        if run_s is None:
            return {}
        share = max((amount / total[name] for name, amount in other.shape.amounts if total.get(name)), default=0)
        wait_s += run_s * share
        deviation = ((state.run_times.bound_s(other.spec.name) or 2 * run_s) - run_s) / 4 * share
        spread2 += deviation**2
    start = max(spot[1], now + wait_s)
    spread = _Z90 * (math.sqrt(spread2) + (spot[1] - now) / 4)
    return {
        "estimated_start": start,
        "estimated_start_low": max(now, start - spread),
        "estimated_start_high": start + spread,
    }


def _sentence(state: EngineState, line: Line, task: Task, found: dict[str, Any]) -> str:
    if state.paused:
        return "the scheduler is paused"
    if not state.ledger.room_count(""):
        return "there is no node"
    over = line.account.over_limit(task.shape)
    if over is not None:
        return f"its tenant {line.account.name} is at its limit of {over}"
    if found.get("change"):
        return str(found["change"]["reason"])
    if found.get("resource"):
        unit = {"cpu": "cores", "memory": "bytes", "gpu": "devices"}.get(found["resource"], "units")
        kept = ", where room is being kept for it" if line in state.earmarks else ""
        return f"{found['lacking']:g} {unit} of {found['resource']} lack on {found['node_id']}{kept}"
    if found["ahead"]:
        return f"{found['ahead']} tasks go before it"
    return "it is about to start"
