"""How tasks come in: most stand in line at once, thousands at a time; the others wait for something first."""

from __future__ import annotations

from collections.abc import Sequence

from balance.core.scheduler.admission import check_submissions, denial
from balance.core.scheduler.events import TaskSubmitted
from balance.core.scheduler.gang import Gang
from balance.core.scheduler.lifecycle import Lifecycle
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.core.scheduler.timers import Due


class Intake:
    """Takes in what is submitted.

    Parameters
    ----------
    state : EngineState
        What it works on.
    lifecycle : Lifecycle
        Moves the tasks on.
    """

    def __init__(self, state: EngineState, lifecycle: Lifecycle) -> None:
        self._state = state
        self._life = lifecycle

    def check(self, events: Sequence[TaskSubmitted]) -> None:
        """Raise unless all of these may be submitted together, see `check_submissions`; nothing is changed."""
        check_submissions(self._state, [event.spec for event in events])

    def submitted(self, events: Sequence[TaskSubmitted]) -> None:
        """Take in tasks that `check` has let pass.

        Those that are alike and wait for nothing but room share the work: their shape, whether it can be had at
        all, and the line are found once, the counts are brought up to date once.
        """
        demand = tenant = reservation = shape = None
        possible = False
        batch: list[Task] = []
        for event in events:
            spec = event.spec
            if spec.demand is not demand or spec.tenant != tenant or spec.reservation != reservation or shape is None:
                self._line_up(batch)
                demand, tenant, reservation = spec.demand, spec.tenant, spec.reservation
                shape = self._state.shape(demand, reservation)
                possible = denial(self._state, shape, tenant) is None
            task = self._task(event, shape)
            if possible and _waits_for_room_only(spec):
                batch.append(task)
            else:
                self._line_up(batch)
                self._take_in(task)
        self._line_up(batch)

    def _task(self, event: TaskSubmitted, shape: Shape) -> Task:
        state, spec = self._state, event.spec
        state.seq += 1
        task = Task(spec, event.call, shape, state.seq, state.now)
        state.tasks[spec.task_id] = task
        state.changed[spec.task_id] = task
        if shape.gpu:
            state.learner.note(spec.demand)
        return task

    def _line_up(self, tasks: list[Task]) -> None:
        """Let new tasks that are alike stand in their line; the list is empty then."""
        if not tasks:
            return
        state = self._state
        now, step_s = state.now, state.policy.aging_step_s
        line = state.line_of(tasks[0])
        for task in tasks:
            task.state = State.QUEUED
            task.eligible_at = now
            line.push(task, now + task.priority * step_s)
        state.count_queued(line.shape, tasks)
        state.repost(line)
        tasks.clear()

    def _take_in(self, task: Task) -> None:
        """Take in a task that can never run, belongs to a gang, or waits for something first."""
        state, spec = self._state, task.spec
        state.counts[State.WAITING] += 1
        if spec.deadline is not None:
            state.timers.add(spec.deadline, Due.DEADLINE, task)
        gang = self._join_gang(task)
        refusal = denial(state, task.shape, spec.tenant)
        if refusal is not None:
            self._life.finish(task, State.DENIED, str(refusal["reason"]), error=refusal)
        elif gang is not None and gang.failed_by is not None:
            self._life.finish(task, State.CANCELLED, f"{gang.failed_by} of its gang will not complete")
        else:
            self._await_dependencies(task)

    def _join_gang(self, task: Task) -> Gang | None:
        gang_id = task.spec.gang_id
        if gang_id is None:
            return None
        gang = self._state.gangs.get(gang_id)
        if gang is None:
            gang = self._state.gangs[gang_id] = Gang(gang_id, task.spec.gang_size)
        gang.join(task)
        return gang

    def _await_dependencies(self, task: Task) -> None:
        state = self._state
        unmet: list[str] = []
        for dependency in task.spec.dependencies:
            # One that is not known yet comes later in the same submission.
            known = state.tasks.get(dependency)
            if known is not None and known.state.terminal and known.state is not State.COMPLETED:
                self._life.finish(task, State.UPSTREAM_FAILED, f"its prerequisite {dependency} is {known.state}")
                return
            if known is None or known.state is not State.COMPLETED:
                unmet.append(dependency)
        if unmet:
            state.resolver.add_dependency(task.task_id, unmet)
        else:
            self._life.release(task, task.submitted_at)


def _waits_for_room_only(spec: TaskSpec) -> bool:
    return spec.not_before is None and spec.deadline is None and spec.gang_id is None and not spec.dependencies
