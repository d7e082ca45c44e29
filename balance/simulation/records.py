"""What happens in a simulation, written down as it happens, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from enum import IntEnum

from balance.core.scheduler.states import State
from balance.simulation.job import Job
from balance.types import Resources

STATES = tuple(State)
_NUMBER = {state: number for number, state in enumerate(STATES)}
_NAN = float("nan")


class Outcome(IntEnum):
    """What became of an attempt."""

    RUNNING = 0  #: the simulation ended before it did
    FINISHED = 1
    STOPPED = 2  #: for another task, a timeout, a deadline, a cancellation
    LOST = 3  #: with its node


class Records:
    """Columns that grow: tasks, attempts, and the cluster's capacity.

    A million tasks are about 150 bytes each here, so nothing is a Python object but the ids.
    """

    def __init__(self) -> None:
        self.task_ids: list[str] = []
        self.submitted, self.eligible, self.finished = array("d"), array("d"), array("d")
        self.priority, self.tenant, self.state = array("i"), array("i"), array("b")
        self.demand = array("q")
        self.attempt_task, self.attempt_node = array("q"), array("i")
        self.attempt_begun, self.attempt_ended, self.attempt_outcome = array("d"), array("d"), array("b")
        self.capacity_at, self.capacity = array("d"), array("q")
        self.tenants: dict[str, int] = {}
        self.nodes: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def submit(self, job: Job) -> None:
        """Note that a task has arrived."""
        spec = job.spec
        self._numbers[spec.task_id] = len(self.task_ids)
        self.task_ids.append(spec.task_id)
        self.submitted.append(job.at_s)
        self.eligible.append(_NAN)
        self.finished.append(_NAN)
        self.priority.append(spec.priority)
        self.tenant.append(self.tenants.setdefault(spec.tenant, len(self.tenants)))
        self.state.append(_NUMBER[State.QUEUED])
        self.demand.extend((spec.demand.cpu_milli, spec.demand.memory_bytes, spec.demand.gpu_milli))

    def begin(self, task_id: str, node_id: str, now: float) -> int:
        """Note that an attempt begins; return its number."""
        self.attempt_task.append(self._numbers[task_id])
        self.attempt_node.append(self.nodes.setdefault(node_id, len(self.nodes)))
        self.attempt_begun.append(now)
        self.attempt_ended.append(_NAN)
        self.attempt_outcome.append(Outcome.RUNNING)
        return len(self.attempt_task) - 1

    def end(self, attempt: int, outcome: Outcome, now: float) -> None:
        """Note what became of an attempt."""
        self.attempt_ended[attempt] = now
        self.attempt_outcome[attempt] = outcome

    def became_eligible(self, task_id: str, at_s: float) -> None:
        """Note when a task could first have run."""
        self.eligible[self._numbers[task_id]] = at_s

    def finish(self, task_id: str, state: State, now: float) -> None:
        """Note that a task is over."""
        number = self._numbers.pop(task_id)
        self.finished[number] = now
        self.state[number] = _NUMBER[state]

    def leave(self, task_id: str, state: State) -> None:
        """Note in which state a task is when the simulation ends."""
        self.state[self._numbers[task_id]] = _NUMBER[state]

    def resize(self, capacities: Iterable[Resources], now: float) -> None:
        """Note what the cluster has from now on."""
        cpu = memory = gpu = 0
        for node in capacities:
            cpu, memory, gpu = cpu + node.cpu_milli, memory + node.memory_bytes, gpu + node.gpu_milli
        self.capacity_at.append(now)
        self.capacity.extend((cpu, memory, gpu))
