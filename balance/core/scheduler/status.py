"""How a task stands, as its submitter is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task at one moment, in JSON types.

    Attributes
    ----------
    task_id, name, tenant : str
        As submitted.
    status : str
        A `State`.
    priority : int
        As it is now.
    effective_priority : float or None
        The priority with aging, while it is queued.
    attempt : int
        How often it was started.
    node_id : str or None
        Where it runs or ran last.
    submitted_at, due_at, started_at, finished_at : float or None
        POSIX seconds.
    queued_s : float
        Seconds from when it could have run first until the (last) start, the end, or now.
    run_s : float or None
        Seconds that the last attempt has run.
    stopping : str or None
        Why it has been asked to stop, if it has.
    reason : str
        Why it ended as it did.
    error : dict or None
        What went wrong last: ``kind``, ``type``, ``message``, ``traceback``; for a denied task
        ``resource``, ``lacking``, ``node_id``, ``largest_possible``, ``reason``.
    """

    task_id: str
    name: str
    tenant: str
    status: str
    priority: int
    effective_priority: float | None
    attempt: int
    node_id: str | None
    submitted_at: float
    due_at: float | None
    started_at: float | None
    finished_at: float | None
    queued_s: float
    run_s: float | None
    stopping: str | None
    reason: str
    error: dict[str, Any] | None

    @classmethod
    def of(cls, task: Task | TaskImage, now: float, aging_step_s: float) -> TaskStatus:
        """Describe `task` as it is at `now` (POSIX seconds)."""
        eligible = task.eligible_at
        queued = task.state is State.QUEUED
        return cls(
            task_id=task.task_id,
            name=task.spec.name,
            tenant=task.spec.tenant,
            status=str(task.state),
            priority=task.priority,
            effective_priority=task.priority - (now - eligible) / aging_step_s
            if queued and eligible is not None
            else None,
            attempt=task.attempt,
            node_id=task.node_id,
            submitted_at=task.submitted_at,
            due_at=task.due_at,
            started_at=task.started_at,
            finished_at=task.finished_at,
            queued_s=_queued_s(task, now),
            run_s=_run_s(task, now),
            stopping=task.stop_reason if task.state is State.RUNNING else None,
            reason=task.reason,
            error=task.error,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every attribute under its name."""
        return asdict(self)


def _queued_s(task: Task | TaskImage, now: float) -> float:
    if task.eligible_at is None:
        return 0.0
    if task.state is State.RUNNING or (task.state.terminal and task.started_at is not None):
        until = now if task.started_at is None else task.started_at
    else:
        until = task.finished_at if task.finished_at is not None else now
    return max(0.0, until - task.eligible_at)


def _run_s(task: Task | TaskImage, now: float) -> float | None:
    if task.started_at is None or not (task.state is State.RUNNING or task.state.terminal):
        return None
    return (task.finished_at if task.finished_at is not None else now) - task.started_at


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task.

    Attributes
    ----------
    status : TaskStatus
        How it stands; it may not be over yet.
    result : object
        What it returned, once it is completed: as the executor reported it.
    """

    status: TaskStatus
    result: object = None

    @property
    def done(self) -> bool:
        """Whether the task is over."""
        return State(self.status.status).terminal

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of `TaskStatus` and ``result``."""
        return {**self.status.to_dict(), "result": self.result}
