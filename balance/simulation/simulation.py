"""The scheduler on a simulated clock and cluster: traces in, histories out.

The very same `Engine` decides; only time, nodes and run times are simulated.  The loop jumps from one
moment at which something happens to the next (a discrete-event simulation; A. Law, "Simulation Modeling
and Analysis", ch. 1): nothing is polled, so an idle cluster of ten thousand nodes costs nothing.  At one
moment, what has ended is told first, then what happened to nodes, then what has arrived.

The same jobs, cluster and policy give the same history, to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from balance.clock import Clock, FakeClock
from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import Event, TaskSubmitted
from balance.core.scheduler.instructions import FinishTask, StartChunk, StartTask, StopTask
from balance.core.scheduler.placement import Score, strand_score
from balance.core.scheduler.policy import SchedulingPolicy
from balance.defaults import default
from balance.errors import InvalidValue
from balance.simulation.cluster import Cluster
from balance.simulation.history import History
from balance.simulation.job import Job
from balance.simulation.records import Records
from balance.simulation.workers import Workers

ARRIVALS_MAX = 4096  # submissions told in one call
Observer = Callable[[Engine, float], None]


class Simulation:
    """One run of a workload on a cluster.

    Parameters
    ----------
    cluster : Cluster
        The nodes.
    jobs : iterable of Job
        The workload, in order of time; read as time goes on, so it may be endless.
    policy : SchedulingPolicy, optional
        The scheduler's knobs.
    score : callable, optional
        Which room is best, see `balance.core.scheduler.placement`.
    stopwatch : Clock, optional
        The real clock, with which the scheduler's own time is measured; it decides nothing.

    Examples
    --------
    >>> from balance.core.scheduler.spec import TaskSpec
    >>> from balance.simulation.stream import Stream
    >>> history = Simulation(Cluster.parse("2x2cpu"), Stream(TaskSpec("small"), count=8)).run()
    >>> history.makespan_s, history.mean_utilisation("cpu")
    (2.0, 1.0)
    """

    def __init__(
        self,
        cluster: Cluster,
        jobs: Iterable[Job],
        *,
        policy: SchedulingPolicy | None = None,
        score: Score = strand_score,
        stopwatch: Clock | None = None,
    ) -> None:
        self.engine = Engine(policy=policy, score=score)
        self._clock = FakeClock()
        self._records = Records()
        self._workers = Workers(self._clock, self._records)
        self._jobs = iter(jobs)
        self._next_job: Job | None = None
        self._changes = list(reversed(cluster.changes))
        self._capacities = dict(cluster.nodes)
        self._first = list(cluster.events())
        self._stopwatch: Clock = stopwatch if stopwatch is not None else default("clock")
        self._decisions = 0
        self._engine_s = 0.0
        self._over = False

    def run(
        self,
        *,
        until_s: float = math.inf,
        observer: Observer | None = None,
        observe_every_s: float = math.inf,
        on_progress: Callable[[float, int], None] | None = None,
    ) -> History:
        """Simulate until nothing more can happen, or until `until_s`; a simulation runs once.

        Parameters
        ----------
        until_s : float
            When to end, in simulated seconds.
        observer : callable, optional
            ``observer(engine, now)``, called every `observe_every_s` simulated seconds while work is left.
            It must change nothing.
        on_progress : callable, optional
            ``on_progress(now, submitted)``, called after each moment.

        Raises
        ------
        InvalidValue
            The jobs are not in order of time, or the simulation has run already.
        Conflict, UnknownId, DependencyCycle
            A job can't be accepted, see `Engine.handle`.
        """
        if self._over:
            raise InvalidValue("run", "a second run", "a new Simulation for each run")
        self._over = True
        self._records.resize(self._capacities.values(), 0.0)
        self._tell(self._first)
        self._pull_job()
        observe_at = observe_every_s if observer is not None else math.inf
        while (now := self._next_moment()) <= until_s and now != math.inf:
            while observer is not None and observe_at < now:
                observer(self.engine, observe_at)
                observe_at += observe_every_s
            self._clock.advance_to(now)
            self._step()
            if on_progress is not None:
                on_progress(now, len(self._records.task_ids))
        if until_s != math.inf:
            self._clock.advance_to(until_s)
        return self._history()

    def _next_moment(self) -> float:
        arrival = self._next_job.at_s if self._next_job is not None else math.inf
        change = self._changes[-1].at_s if self._changes else math.inf
        due = self.engine.next_due()
        moment = min(self._workers.next_at(), arrival, change, math.inf if due is None else due)
        return max(moment, self._clock.now())

    def _step(self) -> None:
        now = self._clock.now()
        events: list[Event] = self._workers.ended()
        self._change_nodes(now, events)
        self._arrive(now, events)
        self._tell(events)

    def _change_nodes(self, now: float, events: list[Event]) -> None:
        changed = False
        while self._changes and self._changes[-1].at_s <= now:
            change = self._changes.pop()
            if change.capacity is None:
                self._workers.lose(change.node_id)
                self._capacities.pop(change.node_id, None)
            else:
                self._capacities[change.node_id] = change.capacity
            events.append(change.event())
            changed = True
        if changed:
            self._records.resize(self._capacities.values(), now)

    def _arrive(self, now: float, events: list[Event]) -> None:
        left = ARRIVALS_MAX
        while left and self._next_job is not None and self._next_job.at_s <= now:
            self._records.submit(self._next_job)
            events.append(TaskSubmitted(self._next_job.spec, self._next_job.run_s))
            self._pull_job()
            left -= 1

    def _pull_job(self) -> None:
        last_s = self._next_job.at_s if self._next_job is not None else 0.0
        self._next_job = next(self._jobs, None)
        if self._next_job is not None and self._next_job.at_s < last_s:
            raise InvalidValue("at_s", self._next_job.at_s, f"jobs in order of time, so at least {last_s:g}")

    def _tell(self, events: list[Event]) -> None:
        engine, now = self.engine, self._clock.now()
        begun = self._stopwatch.now()
        instructions = engine.handle(*events, now=now)
        self._engine_s += self._stopwatch.now() - begun
        engine.state.changed.clear()
        tasks = engine.state.tasks
        for instruction in instructions:
            if isinstance(instruction, StartTask):
                self._started(instruction.task_id)
                self._workers.start(instruction, tasks[instruction.task_id].call)
            elif isinstance(instruction, FinishTask):
                self._records.finish(instruction.task_id, instruction.state, now)
            elif isinstance(instruction, StartChunk):
                for task_id in instruction.task_ids:
                    self._started(task_id)
                self._workers.start_chunk(instruction, [tasks[task_id].call for task_id in instruction.task_ids])
            elif isinstance(instruction, StopTask):
                self._workers.stop(instruction.task_id, instruction.attempt, instruction.reason)

    def _started(self, task_id: str) -> None:
        self._decisions += 1
        eligible = self.engine.state.tasks[task_id].eligible_at
        assert eligible is not None, "what starts was eligible"
        self._records.became_eligible(task_id, eligible)

    def _history(self) -> History:
        for task in self.engine.state.tasks.values():
            if not task.state.terminal:
                self._records.leave(task.task_id, task.state)
                if task.eligible_at is not None:
                    self._records.became_eligible(task.task_id, task.eligible_at)
        return History.of(self._records, end_s=self._clock.now(), decisions=self._decisions, engine_s=self._engine_s)
