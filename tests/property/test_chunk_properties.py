"""Chunks against the same tasks one by one, on executors that run what they are given.

Safety: what runs at one moment fits on its node, whoever is promised to whom.  Order: a line starts in its
order.  Equivalence: every task ends as it would have ended without chunks.  Liveness: all of them end, though
executors die and hand back what they did not run.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import (
    ClockAdvanced,
    Event,
    NodeJoined,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskSubmitted,
)
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.types import Resources

DEMANDS = [Resources.demand(cpu=1), Resources.demand(cpu=0.5, memory=100), Resources.demand(cpu=1, gpu=0.5)]
RUN_S = {"quick": 0.001, "short": 0.02, "long": 3.0}


@dataclass
class Job:
    """A task and what happens when it runs."""

    spec: TaskSpec
    raises: bool
    kills: bool


@dataclass
class World:
    """Executors that run what the engine says, on a clock of events."""

    jobs: dict[str, Job]
    engine: Engine
    now: float = 0.0
    promised: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    agenda: list[tuple[float, int, list[Event], str, int]] = field(default_factory=list)
    ticks: count = field(default_factory=count)

    def tell(self, *events: Event) -> None:
        for instruction in self.engine.handle(*events, now=self.now):
            if isinstance(instruction, StartTask):
                self.run([(instruction.task_id, instruction.attempt)], instruction)
            elif isinstance(instruction, StartChunk):
                self.run(list(zip(instruction.task_ids, instruction.attempts, strict=True)), instruction)
        self.engine.validate()

    def run(self, members: list[tuple[str, int]], start: StartTask | StartChunk) -> None:
        """Run members one after another; the executor is one, and reports when it is done or dead."""
        cpu = start.demand.cpu_milli
        self.held[start.node_id] = self.held.get(start.node_id, 0) + cpu
        assert self.held[start.node_id] <= 2000, "more runs on the node than it has cores"
        self.promised += [task_id for task_id, _ in members]
        at, reports = self.now, []
        for place, (task_id, attempt) in enumerate(members):
            job = self.jobs[task_id]
            run_s = RUN_S[job.spec.name]
            at += run_s
            if job.kills and len(members) > 1:
                # The report of who had ended before is lost with it: all are suspects.
                reports += [TaskReturned(*member, solo=True) for member in members[place:]]
                break
            if job.kills:
                reports.append(TaskFailed(task_id, attempt, "worker_lost", "killed"))
            elif job.raises:
                reports.append(TaskFailed(task_id, attempt, "error", "it broke", "Oops", run_s=run_s))
            else:
                reports.append(TaskFinished(task_id, attempt, task_id.upper(), run_s))
        heapq.heappush(self.agenda, (at, next(self.ticks), reports, start.node_id, cpu))

    def finish(self) -> None:
        """Let everything run."""
        for _ in range(10_000):
            due = self.engine.next_due()
            if self.agenda and (due is None or self.agenda[0][0] <= due):
                self.now, _, reports, node_id, cpu = heapq.heappop(self.agenda)
                self.held[node_id] -= cpu
                self.tell(*reports)
            elif due is not None:
                self.now = max(self.now, due)
                self.tell(ClockAdvanced())
            else:
                return
        raise AssertionError("it does not come to an end")


@st.composite
def workloads(draw) -> list[Job]:
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, 40))):
        ids = [job.spec.task_id for job in jobs]
        spec = TaskSpec(
            f"t{number}",
            name=draw(st.sampled_from(["quick", "quick", "short", "long"])),
            demand=draw(st.sampled_from(DEMANDS)),
            priority=draw(st.integers(1, 5)),
            tenant=draw(st.sampled_from(["a", "b"])),
            idempotent=draw(st.sampled_from([True, True, True, False])),
            dependencies=tuple(draw(st.lists(st.sampled_from(ids), max_size=1))) if ids else (),
            retry=RetryPolicy(errors=draw(st.integers(0, 1)), lost=1, base_s=0.1),
        )
        what = draw(st.sampled_from(["ends"] * 8 + ["raises", "kills"]))
        jobs.append(Job(spec, what == "raises", what == "kills"))
    return jobs


def played(jobs: list[Job], **policy) -> World:
    world = World({job.spec.task_id: job for job in jobs}, Engine(policy=SchedulingPolicy(**policy)))
    for name, run_s in RUN_S.items():
        world.engine.state.run_times.learn(name, run_s)
    world.tell(*(TaskSubmitted(job.spec) for job in jobs))
    for number in range(2):
        world.tell(NodeJoined(f"n{number}", Resources.capacity(cpu=2, memory=1000, gpu=1)))
    world.finish()
    return world


@given(workloads(), st.sampled_from([0.01, 0.1, 10.0]))
@settings(max_examples=80, deadline=None)
def test_every_task_ends_as_it_would_by_itself(jobs, chunk_s):
    """Completed, failed, or failed upstream: the same with chunks as without, with the same result."""
    alone, chunked = played(jobs), played(jobs, chunk_s=chunk_s, chunk_max=8)
    for job in jobs:
        one, other = (world.engine.task(job.spec.task_id) for world in (alone, chunked))
        ends = [(each.state, each.result, each.errors, each.losses) for each in (one, other)]
        assert one.state.terminal and ends[0] == ends[1]
    assert not any(chunked.held.values())


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["a", "b"])), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_line_starts_in_its_order(rows):
    """Whoever is more urgent was promised before; first come, first served among equals."""
    jobs = [Job(TaskSpec(f"t{n}", name="quick", priority=p, tenant=t), False, False) for n, (p, t) in enumerate(rows)]
    world = played(jobs, chunk_s=0.01, chunk_max=8)
    for tenant in ("a", "b"):
        mine = [job.spec for job in jobs if job.spec.tenant == tenant]
        order = [spec.task_id for spec in sorted(mine, key=lambda spec: spec.priority)]
        assert [task_id for task_id in world.promised if world.jobs[task_id].spec.tenant == tenant] == order
