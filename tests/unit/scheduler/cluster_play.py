"""A cluster and its users for scenarios: facts go in with `tell`, what is to be done comes out, in brief."""

from __future__ import annotations

from typing import Any

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import (
    ClockAdvanced,
    Event,
    NodeJoined,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskStopped,
    TaskSubmitted,
)
from balance.core.scheduler.instructions import FinishTask, Instruction, StartChunk, StartTask, StopTask
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.types import Resources


class Play:
    """An engine at work; checks every invariant after every step."""

    def __init__(self, *nodes: tuple[str, Resources], **policy: Any) -> None:
        self.engine = Engine(policy=SchedulingPolicy(**policy))
        self.now = 0.0
        self.starts: dict[str, StartTask] = {}
        self.attempts: dict[str, int] = {}
        for node_id, capacity in nodes:
            self.tell(NodeJoined(node_id, capacity))

    def tell(self, *events: Event) -> list[str]:
        out = self.engine.handle(*events, now=self.now)
        self.engine.validate()
        for instruction in out:
            if isinstance(instruction, StartTask):
                self.starts[instruction.task_id] = instruction
                self.attempts[instruction.task_id] = instruction.attempt
            elif isinstance(instruction, StartChunk):
                self.attempts.update(zip(instruction.task_ids, instruction.attempts, strict=True))
        return [line for instruction in out if (line := brief(instruction))]

    def submit(self, task_id: str, demand: Resources = ONE_CPU, **options: Any) -> list[str]:
        return self.tell(TaskSubmitted(TaskSpec(task_id, demand=demand, **options)))

    def finish(self, task_id: str, result: object = None, **facts: Any) -> list[str]:
        return self.tell(TaskFinished(task_id, self.attempts[task_id], result, **facts))

    def fail(self, task_id: str, kind: str = "error", **facts: Any) -> list[str]:
        return self.tell(TaskFailed(task_id, self.attempts[task_id], kind, "it broke", "Oops", **facts))

    def stopped(self, task_id: str) -> list[str]:
        return self.tell(TaskStopped(task_id, self.attempts[task_id]))

    def returned(self, task_id: str, *, solo: bool = False) -> list[str]:
        return self.tell(TaskReturned(task_id, self.attempts[task_id], solo, "no turn"))

    def at(self, when: float) -> list[str]:
        self.now = when
        return self.tell(ClockAdvanced())

    def state(self, task_id: str) -> str:
        return str(self.engine.task(task_id).state)


def brief(instruction: Instruction) -> str:
    """Return an instruction as a short phrase; nothing for `WakeAt`."""
    if isinstance(instruction, StartTask):
        where = instruction.node_id + "".join(f"/{device}" for device in instruction.devices)
        inside = f" in {instruction.reservation}" if instruction.reservation else ""
        return f"start {instruction.task_id} on {where}{inside}"
    if isinstance(instruction, StartChunk):
        return f"start {' '.join(instruction.task_ids)} on {instruction.node_id}"
    if isinstance(instruction, StopTask):
        return f"stop {instruction.task_id}: {instruction.reason}"
    if isinstance(instruction, FinishTask):
        return f"{instruction.task_id} {instruction.state}"
    return ""


def room(cpu: float = 0, gpu: float = 0, memory: float = 0) -> Resources:
    return Resources.capacity(cpu=cpu, gpu=gpu, memory=memory)


def need(cpu: float = 0, gpu: float = 0, memory: float = 0) -> Resources:
    return Resources.demand(cpu=cpu, gpu=gpu, memory=memory)
