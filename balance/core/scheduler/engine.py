"""The scheduler as a pure state machine: facts in, commands out.

`Engine.handle` is the one door.  It has no clock, no chance, no I/O: the same facts at the same moments
give the same commands, in a process, in a Ray actor and in a simulation (the design of dask's worker
state machine).  Its parts, each a reader's page long:

* `admission` and `intake` what may enter; `lifecycle` what happens to a task, `attempts` to its attempts, `cluster`
  to nodes;
* `cycle` who starts next and where, out of `lines` (priority with aging), `fair_share` (tenants),
  `placement` over the `ledger` (devices), `backfill` (reservations), `preemption`, `gang`;
* `timers` what falls due, `run_times` how long things take.

It does *not* run anything, wait, store or log: `TaskScheduler` and the Ray actor around it do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from balance.core.scheduler import restore
from balance.core.scheduler.attempts import ATTEMPT_EVENTS, Attempts
from balance.core.scheduler.cluster import Cluster
from balance.core.scheduler.cycle import Cycle
from balance.core.scheduler.events import (
    CapacityChanged,
    ClockAdvanced,
    Event,
    NodeJoined,
    NodeLost,
    Paused,
    PriorityChanged,
    ReservationAdded,
    ReservationRemoved,
    Resumed,
    TaskCancelRequested,
    TaskSubmitted,
)
from balance.core.scheduler.instructions import Instruction, StopTask, WakeAt
from balance.core.scheduler.intake import Intake
from balance.core.scheduler.lifecycle import Lifecycle
from balance.core.scheduler.placement import Score, strand_score
from balance.core.scheduler.placement_learner import Lesson
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.restore import EngineSnapshot
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage
from balance.core.scheduler.validate import validate
from balance.errors import InvalidValue, UnknownId
from balance.types import check_number


class Engine:
    """Decides what runs when and where.

    Parameters
    ----------
    policy : SchedulingPolicy, optional
        The knobs.
    score : callable, optional
        Which room is best, see `balance.core.scheduler.placement`.

    Examples
    --------
    >>> from balance.core.scheduler.spec import TaskSpec
    >>> from balance.types import Resources
    >>> engine = Engine()
    >>> _ = engine.handle(NodeJoined("n1", Resources.capacity(cpu=1)), now=0.0)
    >>> low, high = TaskSpec("low", priority=5), TaskSpec("high", priority=1)
    >>> engine.handle(TaskSubmitted(low), TaskSubmitted(high), now=1.0)
    [StartTask(task_id='high', attempt=1, node_id='n1', devices=(), ...)]
    >>> from balance.core.scheduler.events import TaskFinished
    >>> for instruction in engine.handle(TaskFinished("high", 1, result=42), now=3.0):
    ...     print(type(instruction).__name__, instruction.task_id)
    FinishTask high
    StartTask low
    """

    def __init__(self, *, policy: SchedulingPolicy | None = None, score: Score = strand_score) -> None:
        self.state = EngineState(policy or SchedulingPolicy(), score)
        self._lifecycle = Lifecycle(self.state)
        self._intake = Intake(self.state, self._lifecycle)
        self._attempts = Attempts(self.state, self._lifecycle)
        self._cluster = Cluster(self.state, self._attempts)
        self._cycle = Cycle(self.state, self._lifecycle)
        self._wake_at: float | None = None
        self._handlers: dict[type[Event], Callable[..., None]] = {
            TaskCancelRequested: self._lifecycle.cancel,
            PriorityChanged: self._lifecycle.reprioritise,
            NodeJoined: self._cluster.joined,
            NodeLost: self._cluster.lost,
            CapacityChanged: self._cluster.resized,
            ReservationAdded: self._cluster.reserved,
            ReservationRemoved: self._cluster.unreserved,
            Paused: self._paused,
            Resumed: self._resumed,
            ClockAdvanced: self._advanced,
        }

    def handle(self, *events: Event, now: float, starts: int | None = None) -> list[Instruction]:
        """Take in what has happened, in order, and return what is to be done.

        Parameters
        ----------
        *events : Event
            The facts.  All submissions among them are accepted together or not at all.
        now : float
            POSIX seconds; a reading before the last one counts as the last one.
        starts : int, optional
            How many tasks (gangs) may be started now; all that can be when left out.

        Returns
        -------
        list of Instruction
            To be carried out in this order.

        Raises
        ------
        Conflict, UnknownId, DependencyCycle
            A submission can't be accepted, or an id is unknown; that event has changed nothing.
        InvalidTransition
            A fact that nothing explains.  What the events before it led to is returned by the next call.

        Notes
        -----
        A start costs O(log n) for n queued tasks, plus the lines that are looked at in vain.
        """
        state = self.state
        state.now = max(state.now, check_number("now", now))
        state.shares.advance(state.now)
        submissions = [event for event in events if type(event) is TaskSubmitted]
        if submissions:
            self._intake.check(submissions)
        if len(submissions) == len(events):
            self._intake.submitted(submissions)
        else:
            for event in events:
                self._take_in(event)
        self._lifecycle.settle()
        while (due := state.timers.pop_due(state.now)) is not None:
            self._lifecycle.due(*due)
        self._cycle.run(starts)
        return self._taken()

    def _take_in(self, event: Event) -> None:
        kind = type(event)
        if kind in ATTEMPT_EVENTS:
            self._attempts.reported(event)  # type: ignore[arg-type]
            return
        self._lifecycle.settle()
        if kind is TaskSubmitted:
            self._intake.submitted([event])  # type: ignore[list-item]
        elif kind in self._handlers:
            self._handlers[kind](event)
        else:
            raise InvalidValue("event", event, "an event of balance.core.scheduler.events")

    def _taken(self) -> list[Instruction]:
        # A stop that was asked for and then overtaken, in this very call, by the attempt's end is dropped.
        out = [each for each in self.state.out if not isinstance(each, StopTask) or self._runs(each)]
        self.state.out = []
        when = self.state.timers.next_due()
        if when is not None and when != self._wake_at:
            out.append(WakeAt(when))
        self._wake_at = when
        return out

    def _runs(self, stop: StopTask) -> bool:
        task = self.state.tasks.get(stop.task_id)
        return task is not None and task.state is State.RUNNING and task.attempt == stop.attempt

    def _paused(self, _event: Event) -> None:
        self.state.paused = True

    def _resumed(self, _event: Event) -> None:
        self.state.paused = False

    def _advanced(self, _event: Event) -> None:
        """Nothing: timers and the cycle run after every event."""

    # ------------------------------------------------------------------ reading

    def next_due(self) -> float | None:
        """Return the next moment at which time alone changes something, in POSIX seconds."""
        return self.state.timers.next_due()

    def task(self, task_id: str) -> Task:
        """Return a task as it is now (not to be changed); `UnknownId` if it is not, or no longer, known."""
        task = self.state.tasks.get(task_id)
        if task is None:
            raise UnknownId("task", task_id, self.state.some_ids())
        return task

    def image(self, task_id: str) -> TaskImage:
        """Return a task as it is now, frozen."""
        return self.task(task_id).image()

    def forget(self, task_id: str) -> bool:
        """Drop a finished task from memory; say whether it was finished."""
        task = self.task(task_id)
        if not task.state.terminal:
            return False
        self._lifecycle.forget(task)
        return True

    def take_changes(self) -> dict[str, Task]:
        """Return every task of which something durable has changed since the last call, by id, in that order.

        That a task runs is durable only where it may not run twice: any other is queued again after a crash.
        """
        changed, self.state.changed = self.state.changed, {}
        return changed

    # ------------------------------------------------------------------ learning where to place

    def placement_lesson(self) -> Lesson | None:
        """Return what placement should learn from now; None while what it knows is good enough."""
        return self.state.learner.lesson(self.state.ledger.rooms(""))

    def place_by(self, score: Score) -> None:
        """Rank rooms, and devices if it has a say on them, by another score from now on."""
        self.state.placement.use(score)

    # ------------------------------------------------------------------ keeping and checking

    def snapshot(self) -> EngineSnapshot:
        """Return everything that decisions depend on; `restore` goes on from it."""
        return restore.take(self.state)

    def restore(self, snapshot: EngineSnapshot) -> None:
        """Go on from a snapshot; only a fresh engine may."""
        restore.put(self.state, snapshot)

    def learnt(self) -> dict[str, Any]:
        """Return what was measured of tasks that are over, for an engine that starts anew: see `relearn`.

        Returns
        -------
        dict
            ``run_times`` (seconds by name, see `RunTimes.snapshot`) and ``memory_peaks`` (bytes by name): JSON types.
        """
        return {"run_times": self.state.run_times.snapshot(), "memory_peaks": self.state.memory_peaks.snapshot()}

    def relearn(self, learnt: Mapping[str, Any]) -> None:
        """Know what `learnt` returned, in place of what was learnt since; what is missing in it stays as it is."""
        if "run_times" in learnt:
            self.state.run_times.restore(learnt["run_times"])
        if "memory_peaks" in learnt:
            self.state.memory_peaks.restore(learnt["memory_peaks"])

    def adopt(self, images: Iterable[TaskImage], *, now: float) -> list[str]:
        """Take in tasks from a journal; nodes must have joined before.

        Returns
        -------
        list of str
            Those that ran on a node that is not there: report them lost.
        """
        self.state.now = max(self.state.now, check_number("now", now))
        return restore.adopt(self.state, images)

    def validate(self) -> None:
        """Check every invariant by recounting; for tests, O(everything)."""
        validate(self.state)
