"""What happens to one task: the transitions of its life.

A fact about an attempt that is over is *late*, not wrong (a worker that was thought lost may still
answer) and is ignored; a fact about an attempt that was never started raises `InvalidTransition` with the
task's story.
"""

from __future__ import annotations

from collections.abc import Callable

from balance.core.scheduler.admission import denial
from balance.core.scheduler.events import (
    PriorityChanged,
    StartRefused,
    TaskCancelRequested,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    TaskStopped,
    TaskSubmitted,
)
from balance.core.scheduler.gang import Gang
from balance.core.scheduler.instructions import FinishTask, StartTask, StopTask
from balance.core.scheduler.room import Room
from balance.core.scheduler.state import COUNTED, EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.core.scheduler.timers import Due
from balance.errors import InvalidTransition, UnknownId
from balance.types import Resources

AttemptEvent = TaskStarted | TaskFinished | TaskFailed | TaskStopped | StartRefused


class Lifecycle:
    """Moves tasks from state to state and says what follows from it.

    Parameters
    ----------
    state : EngineState
        What it works on; instructions are appended to ``state.out``.
    """

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._attempt_handlers: dict[type, Callable[[Task, AttemptEvent], None]] = {
            TaskStarted: self._started,
            TaskFinished: self._finished,
            TaskFailed: self._failed,
            TaskStopped: self._stopped,
            StartRefused: self._refused,
        }

    # ------------------------------------------------------------------ facts

    def submitted(self, event: TaskSubmitted) -> None:
        """Take in a task that `check_submissions` has let pass."""
        state, spec = self._state, event.spec
        state.seq += 1
        task = Task(spec, event.call, state.shape(spec.demand, spec.reservation), state.seq, state.now)
        state.tasks[spec.task_id] = task
        state.count(task, 1)
        state.changed[spec.task_id] = task
        if spec.deadline is not None:
            state.timers.add(spec.deadline, Due.DEADLINE, task)
        gang = self._join_gang(task)
        refusal = denial(state, task.shape)
        if refusal is not None:
            self._finish(task, State.DENIED, str(refusal["reason"]), error=refusal)
        elif gang is not None and gang.failed_by is not None:
            self._finish(task, State.CANCELLED, f"{gang.failed_by} of its gang will not complete")
        else:
            self._await_dependencies(task)

    def about_attempt(self, event: AttemptEvent) -> None:
        """Take in what an executor reports about an attempt."""
        task = self._state.tasks.get(event.task_id)
        if task is None:
            return  # forgotten since: it was over
        if task.state is State.RUNNING and event.attempt == task.attempt:
            self._attempt_handlers[type(event)](task, event)
        elif event.attempt > task.attempt or event.attempt < 1:
            raise InvalidTransition(
                task.task_id, task.state, f"{type(event).__name__} of attempt {event.attempt}", task.told()
            )

    def cancel(self, event: TaskCancelRequested) -> None:
        """Cancel a task: at once if it is not running, else as soon as it has been stopped."""
        task = self._known(event.task_id)
        if task.state is State.RUNNING:
            task.reason = event.reason
            self._stop(task, "cancelled")
        elif not task.state.terminal:
            self._finish(task, State.CANCELLED, event.reason)

    def reprioritise(self, event: PriorityChanged) -> None:
        """Change how urgent a task is; a queued one moves to its new place at once."""
        state, task = self._state, self._known(event.task_id)
        if task.state.terminal or task.priority == event.priority:
            return
        if task.state in COUNTED:
            state.by_priority[task.state, task.priority] -= 1
            state.by_priority[task.state, event.priority] += 1
        task.priority = event.priority
        state.changed[task.task_id] = task
        if task.entry is not None:
            line = state.line_of(task)
            line.discard(task)
            line.push(task, self._key(task))
            state.repost(line)

    def due(self, kind: Due, task: Task) -> None:
        """Do what a timer is for."""
        if kind is Due.RELEASE:
            self._queue(task, "due")
        elif kind is Due.TIMEOUT:
            # The limit counts from when the worker began, which it may have reported since.
            end = (task.started_at or 0.0) + (task.spec.timeout_s or 0.0)
            if end > self._state.now:
                self._state.timers.add(end, Due.TIMEOUT, task)
            else:
                self._stop(task, "timeout")
        elif task.state is State.RUNNING:
            self._stop(task, "deadline")
        else:
            self._finish(task, State.TIMED_OUT, "its deadline passed before it could run")

    def lost(self, task: Task, reason: str) -> None:
        """Note that the worker of a running task is gone."""
        self._failed(task, TaskFailed(task.task_id, task.attempt, "worker_lost", error=reason))

    # ------------------------------------------------------------------ towards running

    def _await_dependencies(self, task: Task) -> None:
        state = self._state
        unmet: list[str] = []
        for dependency in task.spec.dependencies:
            # One that is not known yet comes later in the same submission.
            known = state.tasks.get(dependency)
            if known is not None and known.state.terminal and known.state is not State.COMPLETED:
                self._finish(task, State.UPSTREAM_FAILED, f"its prerequisite {dependency} is {known.state}")
                return
            if known is None or known.state is not State.COMPLETED:
                unmet.append(dependency)
        if unmet:
            state.resolver.add_dependency(task.task_id, unmet)
        else:
            self._release(task, task.submitted_at)

    def _release(self, task: Task, since: float) -> None:
        """Let a task without unmet prerequisites queue, now or when its delay is over."""
        start = task.spec.not_before
        if start is not None and start > self._state.now:
            task.due_at = start
            self._to(task, State.DELAYED)
            self._state.timers.add(start, Due.RELEASE, task)
        else:
            task.eligible_at = since if start is None else max(since, start)
            self._queue(task)

    def _queue(self, task: Task, why: str = "") -> None:
        """Let a task stand in line; one that has stood there before gets its old place back."""
        state = self._state
        if task.eligible_at is None:
            task.eligible_at = task.due_at if task.due_at is not None else state.now
        task.due_at = None
        self._to(task, State.QUEUED, why)
        if task.spec.gang_id is not None:
            gang = state.gangs[task.spec.gang_id]
            gang.ready[task.task_id] = task
            if not gang.complete:
                return
            line = state.line_of(task)
            for member in gang.ready.values():
                line.push(member, self._key(member))
        else:
            line = state.line_of(task)
            line.push(task, self._key(task))
        state.repost(line)

    def start(self, task: Task, room: Room) -> None:
        """Let a queued task run in `room`, which holds it."""
        state = self._state
        self._leave_line(task)
        hold = state.ledger.take(task.task_id, room, task.shape)
        task.attempt += 1
        task.started_at = state.now
        task.node_id = room.node_id
        task.stop_reason = None
        state.preemptible_running += task.spec.preemptible
        self._to(task, State.RUNNING, f"attempt {task.attempt} on {room.node_id}")
        state.shares.charge(state.shares.account(task.spec.tenant), task.shape, 1)
        if task.spec.timeout_s is not None:
            state.timers.add(state.now + task.spec.timeout_s, Due.TIMEOUT, task)
        devices = tuple(index for index, _ in hold.devices)
        state.out.append(
            StartTask(
                task.task_id,
                task.attempt,
                room.node_id,
                devices,
                task.shape.demand,
                room.pool or None,
                task.spec.timeout_s,
            )
        )

    # ------------------------------------------------------------------ away from running

    def _started(self, task: Task, _event: AttemptEvent) -> None:
        task.started_at = self._state.now
        self._state.changed[task.task_id] = task

    def _finished(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, TaskFinished)
        state = self._state
        run_s = event.run_s if event.run_s is not None else state.now - (task.started_at or state.now)
        state.run_times.learn(task.spec.name, run_s)
        task.result = event.result
        self._finish(task, State.COMPLETED, "")

    def _refused(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, StartRefused)
        self._vacate(task)
        task.refusals += 1
        if self._ends_by_stop(task):
            return
        policy = self._state.policy
        wait_s = min(policy.refused_wait_max_s, policy.refused_wait_s * 2.0 ** min(task.refusals - 1, 62))
        self._retry(task, wait_s, f"start refused on {task.node_id}: {event.reason}")

    def _stopped(self, task: Task, _event: AttemptEvent) -> None:
        if task.stop_reason is None:
            self.lost(task, "stopped, though nobody asked for it")
        elif task.stop_reason == "timeout":
            text = f"ran for longer than {task.spec.timeout_s:g} s"
            self._failed(task, TaskFailed(task.task_id, task.attempt, "timeout", error=text, error_type="TimeoutError"))
        else:
            self._vacate(task)
            self._ends_by_stop(task)

    def _ends_by_stop(self, task: Task) -> bool:
        """Carry out what a stop was asked for, as the attempt is over; False if it goes on after all."""
        reason = task.stop_reason
        if reason == "cancelled":
            self._finish(task, State.CANCELLED, task.reason or "cancelled while it ran")
        elif reason == "deadline":
            self._finish(task, State.TIMED_OUT, "its deadline passed while it ran")
        elif reason in ("preempted", "gang"):
            task.preemptions += reason == "preempted"
            task.stop_reason = None
            self._restart_gang(task)
            self._queue(task, f"stopped: {reason}")
        else:
            return False
        return True

    def _failed(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, TaskFailed)
        self._vacate(task)
        task.error = {
            "kind": event.kind,
            "type": event.error_type,
            "message": event.error,
            "traceback": event.traceback,
        }
        if task.stop_reason != "timeout" and self._ends_by_stop(task):
            return
        kind = "timeout" if task.stop_reason == "timeout" else event.kind
        retry = task.spec.retry
        if kind == "worker_lost":
            task.losses += 1
            if not task.spec.idempotent:
                self._finish(task, State.FAILED, "its worker was lost and it may not run twice")
            elif task.losses > retry.lost:
                self._finish(task, State.FAILED, f"its worker was lost {task.losses} times")
            else:
                self._retry(task, retry.wait_s(task.task_id, task.losses), f"worker lost: {event.error}")
        elif kind == "out_of_memory":
            self._grow_memory(task, event)
        else:
            task.errors += 1
            if task.errors <= retry.errors:
                wait_s = retry.wait_s(task.task_id, task.errors)
                self._retry(task, wait_s, f"{kind} {task.errors}: {event.error_type} {event.error}")
            elif kind == "timeout":
                self._finish(task, State.TIMED_OUT, event.error or "timed out")
            else:
                self._finish(task, State.FAILED, f"raised {event.error_type or 'an error'}: {event.error}")

    def _grow_memory(self, task: Task, event: TaskFailed) -> None:
        state = self._state
        task.memory_kills += 1
        had = task.shape.memory
        most = task.spec.memory_limit_bytes or max(
            (room.capacity.memory_bytes for room in state.limits.values()), default=had
        )
        wanted = min(most, int(max(had, event.peak_memory_bytes or 0) * state.policy.memory_growth))
        if task.memory_kills > task.spec.retry.memory or wanted <= had:
            self._finish(task, State.FAILED, f"killed for memory with {had} bytes; at most {most} can be had")
            return
        demand = task.shape.demand
        task.shape = state.shape(
            Resources(demand.cpu_milli, wanted, demand.gpu_milli, demand.custom), task.spec.reservation
        )
        self._retry(task, 0.0, f"killed for memory: {had} -> {wanted} bytes")

    def _retry(self, task: Task, wait_s: float, why: str) -> None:
        state = self._state
        task.stop_reason = None
        task.due_at = state.now + wait_s
        self._to(task, State.RETRYING, why)
        state.timers.add(task.due_at, Due.RELEASE, task)
        self._restart_gang(task)

    def _vacate(self, task: Task) -> None:
        """Give back what a running task holds."""
        state = self._state
        state.ledger.give_back(task.task_id)
        state.preemptible_running -= task.spec.preemptible
        state.shares.charge(state.shares.account(task.spec.tenant), task.shape, -1)

    def _stop(self, task: Task, reason: str) -> None:
        """Ask for a running attempt to be stopped; a stronger reason replaces a weaker one."""
        if task.stop_reason is None:
            self._state.out.append(StopTask(task.task_id, task.attempt, reason))
            task.note(self._state.now, f"asked to stop: {reason}")
        elif reason not in ("cancelled", "deadline"):
            return
        task.stop_reason = reason
        self._state.changed[task.task_id] = task

    def preempt(self, task: Task) -> None:
        """Stop a running task for a more urgent one; it runs again later."""
        self._stop(task, "preempted")

    # ------------------------------------------------------------------ the end

    def _finish(self, task: Task, final: State, reason: str, error: dict[str, object] | None = None) -> None:
        """End a task, and with it all that wait for it."""
        state = self._state
        self._end(task, final, reason, error)
        if final is State.COMPLETED:
            for task_id in state.resolver.mark_completed(task.task_id):
                dependent = state.tasks[task_id]
                if dependent.state is State.WAITING:
                    self._release(dependent, state.now)
        else:
            for task_id in state.resolver.mark_failed(task.task_id):
                dependent = state.tasks[task_id]
                if not dependent.state.terminal:
                    self._end(dependent, State.UPSTREAM_FAILED, f"{task.task_id} is {final}", None)
                    state.resolver.forget(task_id)
        state.resolver.forget(task.task_id)
        while len(state.history) > state.policy.history_max:
            oldest, _ = state.history.popitem(last=False)
            self.forget(state.tasks[oldest])

    def _end(self, task: Task, final: State, reason: str, error: dict[str, object] | None) -> None:
        state = self._state
        if task.state is State.RUNNING and state.ledger.hold(task.task_id) is not None:
            self._vacate(task)
        self._leave_line(task)
        task.finished_at = state.now
        task.reason = reason
        task.due_at = None
        if error is not None:
            task.error = error
        elif final is State.COMPLETED:
            task.error = None
        self._to(task, final, reason)
        task.call = None
        state.history[task.task_id] = None
        state.out.append(FinishTask(task.task_id, final, task.attempt, task.result, task.error, reason))
        self._leave_gang(task)

    def forget(self, task: Task) -> None:
        """Drop a task that is over from memory."""
        state = self._state
        state.history.pop(task.task_id, None)
        state.count(task, -1)
        del state.tasks[task.task_id]

    # ------------------------------------------------------------------ gangs

    def _join_gang(self, task: Task) -> Gang | None:
        gang_id = task.spec.gang_id
        if gang_id is None:
            return None
        gang = self._state.gangs.get(gang_id)
        if gang is None:
            gang = self._state.gangs[gang_id] = Gang(gang_id, task.spec.gang_size)
        gang.join(task)
        return gang

    def _leave_gang(self, task: Task) -> None:
        state = self._state
        gang = state.gangs.get(task.spec.gang_id) if task.spec.gang_id is not None else None
        if gang is None:
            return
        gang.members.pop(task.task_id, None)
        if task.state is State.COMPLETED:
            gang.completed += 1
        elif gang.failed_by is None:
            gang.failed_by = task.task_id
            for member in list(gang.members.values()):
                member.reason = f"{task.task_id} of its gang is {task.state}"
                if member.state is State.RUNNING:
                    self._stop(member, "cancelled")
                elif not member.state.terminal:
                    self._finish(member, State.CANCELLED, member.reason)
        if not gang.members and gang.joined == gang.size:
            state.gangs.pop(gang.gang_id, None)

    def _restart_gang(self, task: Task) -> None:
        """Stop the others of a gang of which one member has to run again: they start together."""
        if task.spec.gang_id is None:
            return
        for member in list(self._state.gangs[task.spec.gang_id].members.values()):
            if member is not task and member.state is State.RUNNING:
                self._stop(member, "gang")

    # ------------------------------------------------------------------ helpers

    def _leave_line(self, task: Task) -> None:
        state = self._state
        if task.spec.gang_id is not None:
            state.gangs[task.spec.gang_id].ready.pop(task.task_id, None)
        if task.entry is not None:
            line = state.line_of(task)
            line.discard(task)
            state.repost(line)

    def _key(self, task: Task) -> float:
        eligible = task.eligible_at if task.eligible_at is not None else self._state.now
        return eligible + task.priority * self._state.policy.aging_step_s

    def _known(self, task_id: str) -> Task:
        task = self._state.tasks.get(task_id)
        if task is None:
            raise UnknownId("task", task_id, self._state.some_ids())
        return task

    def _to(self, task: Task, new: State, why: str = "") -> None:
        if why:
            task.note(self._state.now, f"{task.state} -> {new}: {why}")
        self._state.count(task, -1)
        task.state = new
        self._state.count(task, 1)
        self._state.changed[task.task_id] = task
