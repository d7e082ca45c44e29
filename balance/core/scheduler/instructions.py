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
class StopTask(Instruction):
    """End this attempt and report `TaskStopped`.

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
