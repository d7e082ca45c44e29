"""The scheduler that people call: the engine, a clock, an executor and a journal, tied together.

All decisions are the engine's; this class gives it the time, writes down what has changed before
anything is acknowledged or started, carries its instructions out and hands outcomes back to it.  It is
made for one thread: in a Ray actor that is the actor's event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Callable, Dict, List

from balance.clock import Clock
from balance.core.scheduler.driver import Driver, Listener
from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import (
    ClockAdvanced,
    Event,
    NodeJoined,
    Paused,
    PriorityChanged,
    Resumed,
    TaskCancelRequested,
    TaskFailed,
    TaskSubmitted,
)
from balance.core.scheduler.explain import explain
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.ports import Call, Executor, Journal
from balance.core.scheduler.priority_manager import PriorityManager
from balance.core.scheduler.queue_stats import queue_stats
from balance.core.scheduler.spec import DEFAULT_TENANT, ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.status import Outcome, TaskStatus
from balance.defaults import default
from balance.errors import InvalidValue, NotReady
from balance.types import Priority, Resources, check_number, check_priority


class TaskScheduler:
    """Queues tasks and runs them in the right order, on the right resources.

    Among the tasks that are due, whose prerequisites are completed and whose resources fit, the smallest
    effective priority number runs first, first in first out within one; waiting makes a task more urgent.

    Parameters
    ----------
    clock : Clock, optional
        The system's when left out.
    executor : Executor, optional
        What runs the tasks; by default the caller's own thread.
    journal : Journal, optional
        Where tasks are kept for after a crash; nowhere when left out.
    nodes : sequence of NodeJoined, optional
        The nodes to start with; this host when left out.
    policy : SchedulingPolicy, optional
        The knobs.
    priorities : PriorityManager, optional
        Whose changes re-order queued tasks.
    engine : Engine, optional
        What decides; a new one with `policy` when left out.

    Examples
    --------
    >>> scheduler = TaskScheduler()
    >>> done = []
    >>> scheduler.schedule_task(done.append, 5, 0, "low")
    >>> scheduler.schedule_task(done.append, 1, 0, "high")
    >>> [task["priority"] for task in scheduler.get_scheduled_tasks()]
    [1, 5]
    >>> scheduler.execute_next_task(), done
    (True, ['high'])
    >>> scheduler.run_scheduler()
    >>> done
    ['high', 'low']
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        executor: Executor | None = None,
        journal: Journal | None = None,
        nodes: Sequence[NodeJoined] | None = None,
        policy: SchedulingPolicy | None = None,
        priorities: PriorityManager | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._clock: Clock = clock if clock is not None else default("clock")
        self._executor: Executor = executor if executor is not None else default("inline_executor")
        self._journal = journal
        self._engine = engine if engine is not None else Engine(policy=policy)
        self._priorities = priorities
        self._driver = Driver(self._engine, self._clock, self._executor, journal)
        self._draining = False
        self._stopping = False
        self._numbered = 0
        if priorities is not None:
            priorities.subscribe(self._priority_changed)
        if nodes is None:
            nodes = [NodeJoined(node.node_id, node.capacity, node.devices) for node in default("host_probe").nodes()]
        self._driver.decide(*nodes, starts=0)

    # ------------------------------------------------------------------ the contract

    def schedule_task(self, task: Callable, priority: int = 1, delay: float = 0, *args, **kwargs) -> None:  # type: ignore[no-untyped-def,type-arg]
        """Queue ``task(*args, **kwargs)`` to run after `delay` seconds.

        Parameters
        ----------
        task : callable
            What to run.
        priority : int
            1 CRITICAL ... 5 BACKGROUND; the smaller number runs first.
        delay : float
            Seconds before it may run.

        Raises
        ------
        InvalidValue
            If `task` can't be called, or `priority` or `delay` is out of range.
        """
        self.submit(task, args, kwargs, priority=priority, delay=delay)

    def execute_next_task(self) -> bool:
        """Start the task that is first now, if one can start, and say whether one did.

        With the default executor it has run when this returns.  A task that raises is recorded as failed
        and retried as its policy says; nothing is raised here.
        """
        self._driver.decide(*self._executor.wait(0.0), starts=0)
        started = self._driver.decide(ClockAdvanced(), starts=1)
        self._driver.decide(*self._executor.wait(0.0), starts=0)
        return started > 0

    def run_scheduler(self) -> None:
        """Run tasks until none is left that could run, or `stop` is called.

        It sleeps until something falls due or a running task reports; it does not poll.  It returns with
        tasks still queued when nothing runs, nothing will fall due, and none of them fits.
        """
        self._stopping = False
        while not self._stopping:
            if self.execute_next_task():
                continue
            due = self.next_due()
            if self._engine.state.counts[State.RUNNING]:
                events = self._executor.wait(None if due is None else max(0.0, due - self.now()))
                self._driver.decide(*events, starts=0)
            elif due is None:
                return
            else:
                self._clock.sleep(due - self.now())

    def get_scheduled_tasks(self) -> List[Dict[str, Any]]:
        """Return every task that has not started, in the order in which they would run as things are.

        First those that are queued, then delayed and retrying ones by the time they fall due, then those
        that wait for others.

        Returns
        -------
        list of dict
            The keys of `TaskStatus`.
        """
        state = self._engine.state
        waiting = [task for task in state.tasks.values() if task.state in _PENDING]
        step_s = state.policy.aging_step_s
        now = self.now()
        waiting.sort(
            key=lambda task: (
                _PENDING[task.state],
                task.due_at or 0.0,
                (task.eligible_at or 0.0) + task.priority * step_s,
                task.seq,
            )
        )
        return [TaskStatus.of(task, now, step_s).to_dict() for task in waiting]

    # ------------------------------------------------------------------ submitting

    def submit(
        self,
        task: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        name: str | None = None,
        demand: Resources = ONE_CPU,
        priority: int = Priority.MEDIUM,
        tenant: str = DEFAULT_TENANT,
        delay: float = 0.0,
        not_before: float | None = None,
        deadline: float | None = None,
        dependencies: Iterable[str] = (),
        **options: Any,
    ) -> str:
        """Queue ``task(*args, **kwargs)`` and return its id.

        Parameters
        ----------
        task, args, kwargs
            The callable and its arguments.
        task_id : str, optional
            Made up from the name when left out.
        name : str, optional
            The kind of work; the callable's own name when left out.
        delay : float
            Seconds before it may run; `not_before` says the same as a moment.
        demand, priority, tenant, not_before, deadline, dependencies, **options
            As in `TaskSpec`.

        Raises
        ------
        InvalidValue, Conflict, UnknownId, DependencyCycle
            As `submit_many`.
        """
        if not callable(task):
            raise InvalidValue("task", task, "a callable")
        if check_number("delay", delay, minimum=0) > 0:
            not_before = max(self.now() + delay, not_before or 0.0)
        call = Call(task, tuple(args), dict(kwargs or {}))
        label = name or call.name
        spec = TaskSpec(
            task_id if task_id is not None else self._new_id(label),
            name=label,
            demand=demand,
            priority=priority,
            tenant=tenant,
            not_before=not_before,
            deadline=deadline,
            dependencies=tuple(dependencies),
            **options,
        )
        return self.submit_many([(spec, call)])[0]

    def submit_many(self, tasks: Iterable[tuple[TaskSpec, object]]) -> list[str]:
        """Queue many tasks, all or none; they may depend on one another in any order.

        Parameters
        ----------
        tasks : iterable of (TaskSpec, call)
            `call` is what the executor understands.

        Returns
        -------
        list of str
            The ids.  They are in the journal when this returns.

        Raises
        ------
        NotReady
            While the scheduler drains.
        Conflict
            An id exists already.
        UnknownId
            A dependency is not known.
        DependencyCycle
            The tasks wait for one another.
        """
        if self._draining:
            raise NotReady("the scheduler drains: it finishes what it has and takes no new tasks; resume() ends that")
        events = [TaskSubmitted(self._with_priority(spec), call) for spec, call in tasks]
        self._driver.decide(*events, starts=self._eager_starts())
        for event in events if self._priorities is not None else ():
            assert self._priorities is not None
            if not self._priorities.knows(event.spec.task_id):
                self._priorities.set_priority(event.spec.task_id, event.spec.priority)
        return [event.spec.task_id for event in events]

    # ------------------------------------------------------------------ steering

    def deliver(self, *events: Event) -> None:
        """Take in facts (outcomes, nodes, capacity, the time) and carry out what follows from them."""
        self._driver.decide(*events, starts=self._eager_starts())

    def cancel(self, task_id: str, reason: str = "cancelled by request") -> bool:
        """Cancel a task; a running one is stopped.  Say whether it was not over already."""
        if self._engine.task(task_id).state.terminal:
            return False
        self.deliver(TaskCancelRequested(task_id, reason))
        return True

    def set_priority(self, task_id: str, priority: int) -> None:
        """Change how urgent a task is; a queued one moves to its new place."""
        self.deliver(PriorityChanged(task_id, check_priority(priority)))

    def pause(self) -> None:
        """Start nothing until `resume`; what runs runs on."""
        self.deliver(Paused())

    def resume(self) -> None:
        """End `pause` and `drain`."""
        self._draining = False
        self.deliver(Resumed())

    def drain(self) -> None:
        """Take no new tasks; finish those there are."""
        self._draining = True

    def stop(self) -> None:
        """Let `run_scheduler` return once the task that it runs is done."""
        self._stopping = True

    def on_finish(self, listener: Listener) -> None:
        """Call ``listener(instruction)`` for every task that is over from now on."""
        self._driver.on_finish(listener)

    def recover(self, alive: Collection[tuple[str, int]] = ()) -> int:
        """Go on from the journal after a restart; return how many tasks were found.

        Parameters
        ----------
        alive : collection of (task_id, attempt)
            The attempts that still run somewhere.  Of the others that ran, one that may run twice is queued
            again, at its old place, and one that may not is reported lost.
        """
        if self._journal is None:
            return 0
        images = [
            image.requeued() if image.may_run_again and (image.task_id, image.attempt) not in alive else image
            for image in self._journal.load()
        ]
        homeless = set(self._engine.adopt(images, now=self.now()))
        self._engine.take_changes()
        lost = [
            TaskFailed(image.task_id, image.attempt, "worker_lost", error="the scheduler was restarted")
            for image in images
            if image.state is State.RUNNING
            and (image.task_id in homeless or (image.task_id, image.attempt) not in alive)
        ]
        self._driver.decide(*lost, starts=self._eager_starts())
        return len(images)

    # ------------------------------------------------------------------ reading

    def now(self) -> float:
        """Return the scheduler's time: POSIX seconds that never step."""
        return self._driver.now()

    def next_due(self) -> float | None:
        """Return the next moment (as `now`) at which to `deliver` `ClockAdvanced`; None if time changes nothing."""
        return self._engine.next_due()

    def status(self, task_id: str) -> Dict[str, Any]:
        """Return how a task stands: the keys of `TaskStatus`.  `UnknownId` if it is not, or no longer, known."""
        return self._status(task_id).to_dict()

    def outcome(self, task_id: str) -> Outcome:
        """Return how a task stands, and its result once it is completed."""
        return Outcome(self._status(task_id), self._engine.task(task_id).result)

    def explain(self, task_id: str) -> Dict[str, Any]:
        """Return why a task does not run yet and when it may: the keys of `Explanation`."""
        return explain(self._engine.state, self._engine.task(task_id), self.now()).to_dict()

    def queue_stats(self) -> Dict[str, Any]:
        """Return how many tasks wait and run: the keys of `QueueStats`.  O(states + priorities)."""
        return queue_stats(self._engine.state, self.now()).to_dict()

    def suggest_memory(self, name: str) -> Dict[str, Any]:
        """Return the memory request that measured peaks suggest for tasks of this name, see `MemoryPeaks.suggest`."""
        return self._engine.state.memory_peaks.suggest(name)

    def forget(self, task_id: str) -> bool:
        """Drop a task that is over from memory; say whether it was over."""
        if self._priorities is not None and self._engine.task(task_id).state.terminal:
            self._priorities.forget(task_id)
        return self._engine.forget(task_id)

    @property
    def engine(self) -> Engine:
        """What decides: for snapshots, simulations and tests."""
        return self._engine

    # ------------------------------------------------------------------ inside

    def _eager_starts(self) -> int | None:
        return None if self._executor.eager else 0

    def _priority_changed(self, task_id: str, priority: int) -> None:
        task = self._engine.state.tasks.get(task_id)
        if task is not None and not task.state.terminal and task.priority != priority:
            self.deliver(PriorityChanged(task_id, priority))

    def _with_priority(self, spec: TaskSpec) -> TaskSpec:
        """A priority that was set by id before the task came goes before the one it came with."""
        if self._priorities is None or not self._priorities.knows(spec.task_id):
            return spec
        return TaskSpec.from_dict({**spec.to_dict(), "priority": self._priorities.get_priority(spec.task_id)})

    def _new_id(self, label: str) -> str:
        while True:
            self._numbered = max(self._numbered, self._engine.state.seq) + 1
            task_id = f"{label}-{self._numbered}"
            if task_id not in self._engine.state.tasks:
                return task_id

    def _status(self, task_id: str) -> TaskStatus:
        return TaskStatus.of(self._engine.task(task_id), self.now(), self._engine.state.policy.aging_step_s)


_PENDING = {State.QUEUED: 0, State.RETRYING: 1, State.DELAYED: 1, State.WAITING: 2}
