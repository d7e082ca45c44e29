"""What is to be done: the commands that the engine returns, for the shell to carry out in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from balance.core.scheduler.states import State
from balance.types import Resources


class Instruction:
    """The root of all commands."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StartTask(Instruction):
    """Run this attempt of the task there, on these devices, within this demand.

    Attributes
    ----------
    devices : tuple of int
        Indices of the GPUs on that node; several only for whole devices.
    reservation : str or None
        The reservation whose resources it uses; None for the node's general capacity.
    """

    task_id: str
    attempt: int
    node_id: str
    devices: tuple[int, ...]
    demand: Resources
    reservation: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class StartChunk(Instruction):
    """Run these attempts there, one after another in this order, within one demand.

    They share one room: the next begins when the one before it is over.  None of them has a timeout or
    belongs to a gang, and each may run twice.

    Attributes
    ----------
    task_ids : tuple of str
        The members, first to run first.
    attempts : tuple of int
        The attempt of each.
    node_id, devices, demand, reservation
        As in `StartTask`.
    """

    task_ids: tuple[str, ...]
    attempts: tuple[int, ...]
    node_id: str
    devices: tuple[int, ...]
    demand: Resources
    reservation: str | None = None


@dataclass(frozen=True, slots=True)
class StopTask(Instruction):
    """End this attempt and report `TaskStopped`, or `TaskReturned` if it is a chunk's and has not begun.

    `reason` is ``cancelled``, ``preempted``, ``timeout``, ``deadline`` or ``gang``.
    """

    task_id: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class FinishTask(Instruction):
    """The task's life is over: tell whoever waits for it."""

    task_id: str
    state: State
    attempt: int
    result: object = None
    error: dict[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WakeAt(Instruction):
    """Report `ClockAdvanced` at this moment, in POSIX seconds, unless something else happens first."""

    when: float
