"""What a plan can tell the shell to do.  Every action says why, on which numbers, and what should come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional, Tuple

from balance.planning.record import Record
from balance.types import NOTHING, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation(Record):
    """What an action should bring about, so that `learn` can tell whether it did.

    Attributes
    ----------
    metric : str
        ``replicas``, ``parallelism``, ``oldest_wait_s``, ``queued`` (of a model) or ``resident`` (of data: 0 or 1).
    subject : str
        The model or data id.
    relation : str
        ``at_most`` or ``at_least``.
    value : float
        The bound.
    due_at : float
        From when on it should hold, POSIX seconds.
    action : str
        The kind of the action that promised it.
    """

    metric: str
    subject: str
    relation: str
    value: float
    due_at: float
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Record):
    """One thing to do: ``reason`` is a sentence with the numbers, ``because`` the numbers by name."""

    reason: str = ""
    because: Mapping[str, Any] = field(default_factory=dict)
    expects: Optional[Expectation] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve(Action):
    """Reserve resources for more replicas of a model; ``amount`` is their sum."""

    kind: ClassVar[str] = "reserve"
    model_id: str
    replicas: int
    amount: Resources = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Action):
    """Give back the reservation of some replicas of a model; ``amount`` is their sum."""

    kind: ClassVar[str] = "release"
    model_id: str
    replicas: int
    amount: Resources = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class SetParallelism(Action):
    """Let so many batches of a model run at once."""

    kind: ClassVar[str] = "set_parallelism"
    model_id: str
    parallelism: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPriority(Action):
    """Run a model's tasks at this priority; None for its own."""

    kind: ClassVar[str] = "set_priority"
    model_id: str
    priority: Optional[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle(Action):
    """Set how long intake gathers requests into a batch, and how many requests a second it lets through.

    Requests beyond the rate wait at intake; they are not lost.  ``admission_per_s`` None means all.
    """

    kind: ClassVar[str] = "throttle"
    model_id: str
    batch_window_s: float
    admission_per_s: Optional[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch(Action):
    """Bring a piece of data within reach before a model asks for it."""

    kind: ClassVar[str] = "prefetch"
    data_id: str
    model_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestNodes(Action):
    """Ask the autoscaler for a cluster that holds these bundles; none takes the last demand back.

    It is a target, not an increment: what Ray's ``request_resources`` means by it.
    """

    kind: ClassVar[str] = "request_nodes"
    bundles: Tuple[Tuple[Resources, int], ...]
