"""What happens to one task: how it moves from state to state, and what follows from it.

`Intake` takes tasks in and `Attempts` decides what a report of an executor means; this carries it out, as it
does for cancellations, changes of priority and what falls due.
"""

from __future__ import annotations

from balance.core.scheduler.chunk import Chunk
from balance.core.scheduler.events import PriorityChanged, TaskCancelRequested
from balance.core.scheduler.gang import Gang
from balance.core.scheduler.instructions import FinishTask, StartChunk, StartTask, StopTask
from balance.core.scheduler.room import Room
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.core.scheduler.timers import Due
from balance.errors import UnknownId


class Lifecycle:
    """Moves tasks from state to state and says what follows from it.

    Parameters
    ----------
    state : EngineState
        What it works on; instructions are appended to ``state.out``.
    """

    def __init__(self, state: EngineState) -> None:
        self._state = state

    # ------------------------------------------------------------------ facts

    def cancel(self, event: TaskCancelRequested) -> None:
        """Cancel a task: at once if it is not running, else as soon as it has been stopped."""
        task = self._known(event.task_id)
        if task.state is State.RUNNING:
            task.reason = event.reason
            self.stop(task, "cancelled")
        elif not task.state.terminal:
            self.finish(task, State.CANCELLED, event.reason)

    def reprioritise(self, event: PriorityChanged) -> None:
        """Change how urgent a task is; a queued one moves to its new place at once."""
        state, task = self._state, self._known(event.task_id)
        if task.state.terminal or task.priority == event.priority:
            return
        state.recount_priority(task, event.priority)
        state.changed[task.task_id] = task
        if task.entry is not None:
            line = state.line_of(task)
            line.discard(task)
            line.push(task, self._key(task))
            state.repost(line)

    def due(self, kind: Due, task: Task) -> None:
        """Do what a timer is for."""
        if kind is Due.RELEASE:
            self.queue(task, "due")
        elif kind is Due.TIMEOUT:
            self.stop(task, "timeout")
        elif task.state is State.RUNNING:
            self.stop(task, "deadline")
        else:
            self.finish(task, State.TIMED_OUT, "its deadline passed before it could run")

    # ------------------------------------------------------------------ towards running

    def release(self, task: Task, since: float) -> None:
        """Let a task without unmet prerequisites queue, now or when its delay is over."""
        start = task.spec.not_before
        if start is not None and start > self._state.now:
            task.due_at = start
            self._to(task, State.DELAYED)
            self._state.timers.add(start, Due.RELEASE, task)
        else:
            task.eligible_at = since if start is None else max(since, start)
            self.queue(task)

    def queue(self, task: Task, why: str = "") -> None:
        """Let a task stand in line; one that has stood there before gets its old place back."""
        state = self._state
        if task.eligible_at is None:
            task.eligible_at = task.due_at if task.due_at is not None else state.now
        task.due_at = None
        self._to(task, State.QUEUED, why)
        if task.spec.gang_id is not None:
            gang = state.gangs[task.spec.gang_id]
            gang.ready[task.task_id] = task
            self._line_up(gang)
        else:
            line = state.line_of(task)
            line.push(task, self._key(task))
            state.repost(line)

    def start(self, task: Task, room: Room) -> None:
        """Let a queued task run in `room`, which holds it."""
        self._leave_line(task)
        devices = self._begin(task, room)
        self.time_out(task)
        pool, timeout_s = room.pool or None, task.spec.timeout_s
        self._state.out.append(
            StartTask(task.task_id, task.attempt, room.node_id, devices, task.shape.demand, pool, timeout_s)
        )

    def start_chunk(self, chunk: Chunk, room: Room) -> None:
        """Let queued tasks that stand in line no more run one after another in `room`, which holds one of them."""
        state = self._state
        first, *others = members = list(chunk.members())
        state.chunks[first.shape] += 1
        devices = self._begin(first, room)
        for task in others:
            self._prepare(task, room)
            task.state = State.RUNNING
        state.count_started(first.shape, others)
        ids, attempts = tuple([task.task_id for task in members]), tuple([task.attempt for task in members])
        state.out.append(StartChunk(ids, attempts, room.node_id, devices, first.shape.demand, room.pool or None))

    def _begin(self, task: Task, room: Room) -> tuple[int, ...]:
        """Let a task that stands nowhere any more run and hold `room`; return on which devices."""
        state = self._state
        task.hold = hold = state.ledger.take(task.task_id, room, task.shape)
        self._prepare(task, room)
        self._to(task, State.RUNNING)
        state.count_preemptible(task, 1)
        state.shares.take(state.shares.account(task.spec.tenant), task.shape)
        return tuple(index for index, _ in hold.devices)

    def _prepare(self, task: Task, room: Room) -> None:
        task.attempt += 1
        task.started_at = self._state.now
        task.node_id = room.node_id
        task.stop_reason = None

    # ------------------------------------------------------------------ away from running

    def retry(self, task: Task, wait_s: float, why: str) -> None:
        """Let a task that holds nothing any more queue again after `wait_s` seconds."""
        state = self._state
        task.stop_reason = None
        task.due_at = state.now + wait_s
        self._to(task, State.RETRYING, why)
        state.timers.add(task.due_at, Due.RELEASE, task)
        self.restart_gang(task)

    def vacate(self, task: Task) -> None:
        """Give back what a running task holds; a member of a chunk leaves that to `settle`."""
        chunk, task.chunk = task.chunk, None
        hold, task.hold = task.hold, None
        if hold is None:
            return  # its turn had not come, or it was taken up after a restart without its node
        if chunk is None:
            began = self._state.now if task.started_at is None else task.started_at
            self._give_back(task, self._state.now - began)
        else:
            self._state.passing[chunk] = task

    def settle(self) -> None:
        """Pass the rooms of chunks on to those whose turn it is; give back those of chunks that are over.

        When many reports come at once, the room of a chunk passes on once.
        """
        state = self._state
        while state.passing:
            chunk, task = state.passing.popitem()
            heir = chunk.next()
            if heir is not None:
                state.pass_on(task, heir)
            else:
                state.chunks[task.shape] -= 1
                self._give_back(task, state.now - chunk.began_at)

    def _give_back(self, task: Task, held_s: float) -> None:
        state = self._state
        state.count_preemptible(task, -1)
        state.ledger.give_back(task.task_id)
        state.shares.give_back(state.shares.account(task.spec.tenant), task.shape, held_s)

    def stop(self, task: Task, reason: str) -> None:
        """Ask for a running attempt to be stopped; a stronger reason replaces a weaker one."""
        if task.stop_reason is None:
            self._state.out.append(StopTask(task.task_id, task.attempt, reason))
            task.note(self._state.now, f"asked to stop: {reason}")
        elif reason not in ("cancelled", "deadline"):
            return
        task.stop_reason = reason
        self._state.changed[task.task_id] = task

    def time_out(self, task: Task) -> None:
        """Limit how long a running task may run, counted from when it started."""
        if task.spec.timeout_s is not None and task.started_at is not None:
            self._state.timers.add(task.started_at + task.spec.timeout_s, Due.TIMEOUT, task)

    def preempt(self, task: Task) -> None:
        """Stop a running task, and those of its chunk, for a more urgent one; they run again later."""
        for member in list(task.chunk.members()) if task.chunk is not None else [task]:
            self.stop(member, "preempted")

    # ------------------------------------------------------------------ the end

    def finish(self, task: Task, final: State, reason: str, error: dict[str, object] | None = None) -> None:
        """End a task, and with it all that wait for it."""
        state = self._state
        self._end(task, final, reason, error)
        if state.resolver.involves(task.task_id):
            self._tell_dependents(task, final)
        while len(state.history) > state.policy.history_max:
            oldest, _ = state.history.popitem(last=False)
            self.forget(state.tasks[oldest])

    def _tell_dependents(self, task: Task, final: State) -> None:
        state = self._state
        if final is State.COMPLETED:
            for task_id in state.resolver.mark_completed(task.task_id):
                dependent = state.tasks[task_id]
                if dependent.state is State.WAITING:
                    self.release(dependent, state.now)
        else:
            for task_id in state.resolver.mark_failed(task.task_id):
                dependent = state.tasks[task_id]
                if not dependent.state.terminal:
                    self._end(dependent, State.UPSTREAM_FAILED, f"{task.task_id} is {final}", None)
                    state.resolver.forget(task_id)
        state.resolver.forget(task.task_id)

    def _end(self, task: Task, final: State, reason: str, error: dict[str, object] | None) -> None:
        state = self._state
        if task.state is State.RUNNING:
            self.vacate(task)
        else:
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
        if task.spec.gang_id is not None:
            self._leave_gang(task, task.spec.gang_id)

    def forget(self, task: Task) -> None:
        """Drop a task that is over from memory."""
        state = self._state
        state.history.pop(task.task_id, None)
        state.counts[task.state] -= 1
        del state.tasks[task.task_id]

    # ------------------------------------------------------------------ gangs

    def _leave_gang(self, task: Task, gang_id: str) -> None:
        state = self._state
        gang = state.gangs.get(gang_id)
        if gang is None:
            return
        gang.members.pop(task.task_id, None)
        if task.state is State.COMPLETED:
            gang.completed += 1
            self._line_up(gang)
        elif gang.failed_by is None:
            gang.failed_by = task.task_id
            for member in list(gang.members.values()):
                member.reason = f"{task.task_id} of its gang is {task.state}"
                if member.state is State.RUNNING:
                    self.stop(member, "cancelled")
                elif not member.state.terminal:
                    self.finish(member, State.CANCELLED, member.reason)
        if not gang.members and gang.joined == gang.size:
            state.gangs.pop(gang.gang_id, None)

    def _line_up(self, gang: Gang) -> None:
        """Let the ready members stand in line if they are all that have yet to run."""
        if gang.complete:
            line = self._state.line_of(next(iter(gang.ready.values())))
            for member in gang.ready.values():
                if member.entry is None:
                    line.push(member, self._key(member))
            self._state.repost(line)

    def restart_gang(self, task: Task) -> None:
        """Stop the others of a gang of which one member has to run again: they start together."""
        if task.spec.gang_id is None:
            return
        for member in list(self._state.gangs[task.spec.gang_id].members.values()):
            if member is not task and member.state is State.RUNNING:
                self.stop(member, "gang")

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
        state = self._state
        state.move(task, new)
        if new is not State.RUNNING or not task.spec.idempotent:
            state.changed[task.task_id] = task
