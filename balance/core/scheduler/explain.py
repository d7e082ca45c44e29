"""Why a task does not run yet, and when it may."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from balance.core.scheduler.admission import denial
from balance.core.scheduler.allocation import amount_text
from balance.core.scheduler.backfill import lack
from balance.core.scheduler.estimate import ahead_of, estimated_start, first_of
from balance.core.scheduler.lines import Line
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task

NAMED_MAX = 5


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
    ahead_exact : bool
        Whether all of those were counted; else `ahead` is an estimate.
    behind : list of str
        The first few of those.
    estimated_start, estimated_start_low, estimated_start_high : float or None
        POSIX seconds: the middle and an 80 % range (the 50 %, 10 % and 90 % quantiles), from declared and
        measured run times; None when no run time is known.  See `balance.core.scheduler.estimate`.
    change : dict or None
        For a task that could never run, the smallest changes that would admit it: the keys of `denial`.
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
    ahead_exact: bool
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
    """Say why `task` is where it is; O(lines + rooms), however many are queued."""
    found: dict[str, Any] = {
        "waits_for": [],
        "due_at": task.due_at,
        "resource": None,
        "lacking": None,
        "node_id": task.node_id,
        "ahead": 0,
        "ahead_exact": True,
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
    key = task.entry[:2]
    ahead = ahead_of(line.account, key)
    out: dict[str, Any] = {"ahead": ahead.count, "ahead_exact": ahead.exact}
    out["behind"] = [other.task_id for other in first_of(line.account, key, NAMED_MAX)]
    out.update(_lacking(state, line, task))
    start = estimated_start(state, task, ahead, now)
    if start is not None:
        out.update(estimated_start=start.middle, estimated_start_low=start.low, estimated_start_high=start.high)
    out["reason"] = _sentence(state, line, task, out)
    return out


def _lacking(state: EngineState, line: Line, task: Task) -> dict[str, Any]:
    shape, account = task.shape, line.account
    over = account.over_limit(shape)
    if over is not None:
        short = dict(shape.amounts)[over] + account.held.get(over, 0) - (account.limit_dict or {}).get(over, 0)
        return {"resource": over, "lacking": amount_text(over, short)[0]}
    earmark = state.earmarks.get(line)
    rooms = [room for room, _ in earmark.rooms.values()] if earmark else list(state.ledger.rooms(""))
    if not rooms:
        return {}
    room = min(rooms, key=lambda room: (lack(room, shape), room.node_id))
    out: dict[str, Any] = {"node_id": room.node_id, "change": denial(state, shape, account.name)}
    lacks, needs = room.shortfall(shape), dict(shape.amounts)
    if lacks:
        resource = max(lacks, key=lambda name: (lacks[name] / needs[name], name))
        out["resource"], out["lacking"] = resource, amount_text(resource, lacks[resource])[0]
    return out


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
        return f"{'' if found['ahead_exact'] else 'about '}{found['ahead']} tasks go before it"
    return "it is about to start"
