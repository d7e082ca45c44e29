"""A task as the engine keeps it (`Task`, changing) and as others see and store it (`TaskImage`, frozen)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from balance.core.scheduler.room import Devices, Hold
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State

if TYPE_CHECKING:
    from balance.core.scheduler.chunk import Chunk

STORY_MAX = 32


class Task:
    """One task in the engine; only `Lifecycle` changes its state.

    A million of them fit in memory, so what most never need is created late (`story`).  Beside the
    attributes of a `TaskImage`:

    Attributes
    ----------
    shape : Shape
        What it asks for now.
    hold : Hold or None
        What it holds and where; a member of a chunk holds nothing before it is its turn.
    chunk : Chunk or None
        The chunk in which it runs.
    noted : int
        How many of its attempts the story tells of: the start of one is told only if more happens to it.
    entry : tuple or None
        Its place in line.
    """

    __slots__ = (
        "attempt",
        "call",
        "chunk",
        "due_at",
        "eligible_at",
        "entry",
        "error",
        "errors",
        "finished_at",
        "hold",
        "losses",
        "memory_kills",
        "node_id",
        "noted",
        "preemptions",
        "priority",
        "reason",
        "refusals",
        "result",
        "seq",
        "shape",
        "solo",
        "spec",
        "started_at",
        "state",
        "stop_reason",
        "story",
        "submitted_at",
        "task_id",
    )

    def __init__(self, spec: TaskSpec, call: object, shape: Shape, seq: int, now: float) -> None:
        self.task_id = spec.task_id
        self.spec = spec
        self.call = call
        self.shape = shape
        self.seq = seq
        self.priority = spec.priority
        self.state = State.WAITING
        self.submitted_at = now
        self.eligible_at: float | None = None
        self.due_at: float | None = None
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.attempt = 0
        self.errors = 0
        self.losses = 0
        self.memory_kills = 0
        self.refusals = 0
        self.preemptions = 0
        self.node_id: str | None = None
        self.stop_reason: str | None = None
        self.result: object = None
        self.error: dict[str, Any] | None = None
        self.reason = ""
        self.solo = False
        self.hold: Hold | None = None
        self.chunk: Chunk | None = None
        self.entry: tuple[float, int, Task] | None = None
        self.noted = 0
        self.story: list[str] | None = None

    def note(self, now: float, what: str) -> None:
        """Add a line to the story; the oldest give way beyond `STORY_MAX`."""
        story = [*(self.story or ()), *self._untold(), f"{now - self.submitted_at:.3f} s: {what}"]
        self.story = story[-STORY_MAX:]
        self.noted = self.attempt

    def told(self) -> list[str]:
        """Return the story so far, oldest first, in seconds since submission."""
        return ["0.000 s: submitted", *(self.story or ()), *self._untold()]

    def _untold(self) -> list[str]:
        if self.noted == self.attempt or self.started_at is None:
            return []
        return [f"{self.started_at - self.submitted_at:.3f} s: attempt {self.attempt} on {self.node_id}"]

    def image(self) -> TaskImage:
        """Return the task as it is now."""
        return TaskImage(
            spec=self.spec,
            call=self.call,
            state=self.state,
            seq=self.seq,
            priority=self.priority,
            demand=self.shape.demand.to_dict(),
            submitted_at=self.submitted_at,
            eligible_at=self.eligible_at,
            due_at=self.due_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            attempt=self.attempt,
            errors=self.errors,
            losses=self.losses,
            memory_kills=self.memory_kills,
            refusals=self.refusals,
            preemptions=self.preemptions,
            node_id=self.node_id,
            devices=self.hold.devices if self.hold is not None else (),
            pool=self.hold.room.pool if self.hold is not None else "",
            stop_reason=self.stop_reason,
            solo=self.solo,
            result=self.result,
            error=self.error,
            reason=self.reason,
            noted=self.noted,
            story=tuple(self.story or ()),
        )


@dataclass(frozen=True, slots=True)
class TaskImage:
    """Everything about a task at one moment: what a journal stores and `Engine.restore` reads.

    Attributes
    ----------
    spec, call, result
        As submitted and as reported; `call` and `result` are opaque to Balance's deciders.
    demand : dict
        What it asks for now, as `Resources.to_dict` (memory may have grown).
    submitted_at, eligible_at, due_at, started_at, finished_at : float or None
        POSIX seconds; `eligible_at` is when it first could have run.
    devices : tuple of (int, int)
        ``(index, thousandths)`` while it runs.
    pool : str
        The reservation in which it runs; empty for the node's general room.
    solo : bool
        Whether it is to be in no chunk.
    noted : int
        How many of its attempts `story` tells of.
    """

    spec: TaskSpec
    call: object
    state: State
    seq: int
    priority: int
    demand: dict[str, Any]
    submitted_at: float
    eligible_at: float | None = None
    due_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    errors: int = 0
    losses: int = 0
    memory_kills: int = 0
    refusals: int = 0
    preemptions: int = 0
    node_id: str | None = None
    devices: Devices = ()
    pool: str = ""
    stop_reason: str | None = None
    solo: bool = False
    result: object = None
    error: dict[str, Any] | None = None
    reason: str = ""
    noted: int = 0
    story: tuple[str, ...] = ()

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.spec.task_id

    @property
    def may_run_again(self) -> bool:
        """Whether it ran, may run twice, and nobody has asked for its end."""
        wanted = self.stop_reason in (None, "preempted", "gang")
        return self.state is State.RUNNING and self.spec.idempotent and wanted

    def requeued(self) -> TaskImage:
        """Return the image as if it had not been started; the attempt stays used up."""
        return replace(self, state=State.QUEUED, stop_reason=None, devices=(), pool="")

    def revive(self, shape: Shape) -> Task:
        """Return a `Task` that goes on from here; it stands in no line and holds nothing yet."""
        task = Task(self.spec, self.call, shape, self.seq, self.submitted_at)
        for name in _CARRIED:
            setattr(task, name, getattr(self, name))
        task.story = list(self.story) or None
        return task


_CARRIED = (
    "state",
    "priority",
    "eligible_at",
    "due_at",
    "started_at",
    "finished_at",
    "attempt",
    "errors",
    "losses",
    "memory_kills",
    "refusals",
    "preemptions",
    "node_id",
    "stop_reason",
    "solo",
    "result",
    "error",
    "reason",
    "noted",
)
