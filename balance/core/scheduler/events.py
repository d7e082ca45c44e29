"""What has happened: the facts that the engine is told.

Every name is a past fact.  Facts about a running task carry the attempt that they are about: what a
lost worker reports after all is about an attempt that is over, and is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from balance.core.scheduler.spec import TaskSpec
from balance.errors import InvalidValue
from balance.types import Resources

FailureKind = Literal["error", "worker_lost", "out_of_memory", "timeout"]
FAILURE_KINDS = ("error", "worker_lost", "out_of_memory", "timeout")


class Event:
    """The root of all facts."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TaskSubmitted(Event):
    """Someone wants `spec` to run; `call` says what, in words only the executor understands."""

    spec: TaskSpec
    call: object = None


@dataclass(frozen=True, slots=True)
class TaskStarted(Event):
    """A worker has begun with the attempt."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskFinished(Event):
    """The attempt succeeded.  `result` is passed through; `run_s` is the worker's own measure, in seconds."""

    task_id: str
    attempt: int
    result: object = None
    run_s: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TaskFailed(Event):
    """The attempt did not succeed.

    `kind` is ``error`` (it raised), ``worker_lost``, ``out_of_memory`` (it was killed for memory) or
    ``timeout`` (the executor's own limit).
    """

    task_id: str
    attempt: int
    kind: FailureKind = "error"
    error: str = ""
    error_type: str = ""
    traceback: str = ""
    run_s: float | None = None
    peak_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAILURE_KINDS:
            raise InvalidValue("kind", self.kind, "one of " + ", ".join(FAILURE_KINDS))


@dataclass(frozen=True, slots=True)
class TaskStopped(Event):
    """A `StopTask` has been carried out: the attempt runs no more."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskReturned(Event):
    """A member of a chunk was handed back: nothing of it ran, and it stands in line again at its old place.

    Attributes
    ----------
    solo : bool
        Whether it may be the one that took its executor down: it runs by itself from now on.  That costs
        it none of its retries.
    reason : str
        For its story.
    """

    task_id: str
    attempt: int
    solo: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StartRefused(Event):
    """The executor could not start the attempt: nothing of it ran."""

    task_id: str
    attempt: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskCancelRequested(Event):
    """Nobody wants the task any more."""

    task_id: str
    reason: str = "cancelled by request"


@dataclass(frozen=True, slots=True)
class PriorityChanged(Event):
    """The task has become more or less urgent."""

    task_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class NodeJoined(Event):
    """A node is there, or is there again.

    Attributes
    ----------
    node_id : str
        As the executor knows it.
    capacity : Resources
        What tasks may use now.
    devices : tuple of (int, int), optional
        ``(index, thousandths)`` of each GPU; whole devices 0, 1, ... out of `capacity` when left out.
    limit : Resources, optional
        What the node could give if nothing else held it; `capacity` when left out.  A demand above
        every node's limit is denied.
    """

    node_id: str
    capacity: Resources
    devices: tuple[tuple[int, int], ...] | None = None
    limit: Resources | None = None


@dataclass(frozen=True, slots=True)
class NodeLost(Event):
    """A node is gone, with everything that ran there."""

    node_id: str


@dataclass(frozen=True, slots=True)
class CapacityChanged(Event):
    """Tasks may use more or less of a node than before; what runs keeps running."""

    node_id: str
    capacity: Resources
    devices: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class ReservationAdded(Event):
    """A part of a node, beside its `capacity`, is there for tasks that name this reservation only."""

    name: str
    node_id: str
    capacity: Resources
    devices: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class ReservationRemoved(Event):
    """A reservation is gone from a node.

    What runs in it runs on, and counts against the node's general capacity from now on.
    """

    name: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """Nothing is to be started until `Resumed`."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """Tasks may be started again."""


@dataclass(frozen=True, slots=True)
class ClockAdvanced(Event):
    """Nothing else happened: look at the time."""
