"""What executors report about attempts, and whether the task runs again.

A fact about an attempt that is over is *late*, not wrong (a worker that was thought lost may still
answer) and is ignored; a fact about an attempt that was never started raises `InvalidTransition` with the
task's story.
"""

from __future__ import annotations

from collections.abc import Callable

from balance.core.scheduler.events import (
    StartRefused,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskStarted,
    TaskStopped,
)
from balance.core.scheduler.lifecycle import Lifecycle
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.errors import InvalidTransition
from balance.types import Resources

AttemptEvent = TaskStarted | TaskFinished | TaskFailed | TaskStopped | TaskReturned | StartRefused
ATTEMPT_EVENTS = frozenset(AttemptEvent.__args__)

_EXPONENT_MAX = 62


class Attempts:
    """Takes in what became of attempts.

    Parameters
    ----------
    state : EngineState
        What it works on.
    lifecycle : Lifecycle
        Moves the tasks.
    """

    def __init__(self, state: EngineState, lifecycle: Lifecycle) -> None:
        self._state = state
        self._life = lifecycle
        self._handlers: dict[type, Callable[[Task, AttemptEvent], None]] = {
            TaskStarted: self._started,
            TaskFinished: self._finished,
            TaskFailed: self._failed,
            TaskStopped: self._stopped,
            TaskReturned: self._returned,
            StartRefused: self._refused,
        }

    def reported(self, event: AttemptEvent) -> None:
        """Take in what an executor reports about an attempt; `Lifecycle.settle` is to follow, after several of them."""
        task = self._state.tasks.get(event.task_id)
        if task is None:
            return  # forgotten since: it was over
        if task.state is State.RUNNING and event.attempt == task.attempt:
            kind = type(event)
            if kind is not TaskFinished:
                self._life.settle()
            self._handlers[kind](task, event)
        elif event.attempt > task.attempt or event.attempt < 1:
            raise InvalidTransition(
                task.task_id, task.state, f"{type(event).__name__} of attempt {event.attempt}", task.told()
            )

    def lost(self, task: Task, reason: str) -> None:
        """Note that the worker of a running task is gone; those behind it in a chunk have not begun."""
        behind = list(task.chunk.members()) if task.chunk is not None else []
        self._failed(task, TaskFailed(task.task_id, task.attempt, "worker_lost", error=reason))
        for member in behind:
            if member is not task:
                self._returned(member, TaskReturned(member.task_id, member.attempt, reason=reason))
        self._life.settle()

    def _started(self, task: Task, _event: AttemptEvent) -> None:
        task.started_at = self._state.now
        self._life.time_out(task)
        if not task.spec.idempotent:
            self._state.changed[task.task_id] = task

    def _finished(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, TaskFinished)
        state = self._state
        assert task.started_at is not None, "what runs has started"
        run_s = event.run_s
        if run_s is None:
            run_s = state.now - task.started_at
        elif task.chunk is not None:  # it may have waited for its turn
            task.started_at = max(task.started_at, state.now - run_s)
        state.run_times.learn(task.spec.name, max(0.0, run_s), task.spec.expected_run_s)
        if event.peak_memory_bytes is not None:
            state.memory_peaks.learn(task.spec.name, event.peak_memory_bytes)
        task.result = event.result
        self._life.finish(task, State.COMPLETED, "")

    def _refused(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, StartRefused)
        self._life.vacate(task)
        task.refusals += 1
        if self._ends_by_stop(task):
            return
        policy = self._state.policy
        wait_s = min(policy.refused_wait_max_s, policy.refused_wait_s * 2.0 ** min(task.refusals - 1, _EXPONENT_MAX))
        self._life.retry(task, wait_s, f"start refused on {task.node_id}: {event.reason}")

    def _stopped(self, task: Task, _event: AttemptEvent) -> None:
        if task.stop_reason is None:
            self.lost(task, "stopped, though nobody asked for it")
        elif task.stop_reason == "timeout":
            text = f"ran for longer than {task.spec.timeout_s:g} s"
            self._failed(task, TaskFailed(task.task_id, task.attempt, "timeout", error=text, error_type="TimeoutError"))
        else:
            self._life.vacate(task)
            self._ends_by_stop(task)

    def _returned(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, TaskReturned)
        self._life.vacate(task)
        task.solo = task.solo or event.solo
        if task.stop_reason in ("cancelled", "deadline"):
            self._ends_by_stop(task)
            return
        task.stop_reason = None
        self._life.restart_gang(task)
        self._life.queue(task, f"handed back: {event.reason}" if event.reason else "handed back")

    def _ends_by_stop(self, task: Task) -> bool:
        """Carry out what a stop was asked for, as the attempt is over; False if it goes on after all."""
        reason = task.stop_reason
        if reason == "cancelled":
            self._life.finish(task, State.CANCELLED, task.reason or "cancelled while it ran")
        elif reason == "deadline":
            self._life.finish(task, State.TIMED_OUT, "its deadline passed while it ran")
        elif reason == "gang" and not task.spec.idempotent:
            self._life.finish(task, State.FAILED, "its gang has to start again and it may not run twice")
        elif reason in ("preempted", "gang"):
            task.preemptions += reason == "preempted"
            task.stop_reason = None
            self._life.restart_gang(task)
            self._life.queue(task, f"stopped: {reason}")
        else:
            return False
        return True

    def _failed(self, task: Task, event: AttemptEvent) -> None:
        assert isinstance(event, TaskFailed)
        self._life.vacate(task)
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
                self._life.finish(task, State.FAILED, "its worker was lost and it may not run twice")
            elif task.losses > retry.lost:
                self._life.finish(task, State.FAILED, f"its worker was lost {task.losses} times")
            else:
                self._life.retry(task, retry.wait_s(task.task_id, task.losses), f"worker lost: {event.error}")
        elif kind == "out_of_memory":
            self._grow_memory(task, event)
        else:
            task.errors += 1
            if task.errors <= retry.errors:
                wait_s = retry.wait_s(task.task_id, task.errors)
                self._life.retry(task, wait_s, f"{kind} {task.errors}: {event.error_type} {event.error}")
            elif kind == "timeout":
                self._life.finish(task, State.TIMED_OUT, event.error or "timed out")
            else:
                self._life.finish(task, State.FAILED, f"raised {event.error_type or 'an error'}: {event.error}")

    def _grow_memory(self, task: Task, event: TaskFailed) -> None:
        state = self._state
        task.memory_kills += 1
        had = task.shape.memory
        most = task.spec.memory_limit_bytes or max(
            (room.capacity.memory_bytes for room in state.limits.values()), default=had
        )
        seen = state.memory_peaks.suggest(task.spec.name)["memory_bytes"] or 0
        wanted = min(most, max(int(max(had, event.peak_memory_bytes or 0) * state.policy.memory_growth), seen))
        if task.memory_kills > task.spec.retry.memory or wanted <= had:
            self._life.finish(task, State.FAILED, f"killed for memory with {had} bytes; at most {most} can be had")
            return
        demand = task.shape.demand
        self._life.settle()  # by the shape for which the room was taken
        task.shape = state.shape(
            Resources(demand.cpu_milli, wanted, demand.gpu_milli, demand.custom), task.spec.reservation
        )
        self._life.retry(task, 0.0, f"killed for memory: {had} -> {wanted} bytes")
