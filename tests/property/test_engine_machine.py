"""The engine under random histories.

Safety: after every step all invariants hold (`Engine.validate`): no device, core or byte is handed out
twice, a task has one running attempt at most, queues and counts agree.  Liveness: when faults stop and
what runs is let end, everything that could run has run.  Restart: a restored engine decides as the
original does.  All of it with chunks and without.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import (
    CapacityChanged,
    ClockAdvanced,
    NodeJoined,
    NodeLost,
    Paused,
    PriorityChanged,
    ReservationAdded,
    ReservationRemoved,
    Resumed,
    StartRefused,
    TaskCancelRequested,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskStarted,
    TaskStopped,
    TaskSubmitted,
)
from balance.core.scheduler.instructions import FinishTask, Instruction, StartChunk, StartTask, StopTask
from balance.core.scheduler.policy import SchedulingPolicy, Tenant
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.types import Resources

GIB = 2**30
NODES = ("n1", "n2", "n3")
POLICY = SchedulingPolicy(
    aging_step_s=10.0,
    earmarks_max=2,
    history_max=400,
    tenants=(
        Tenant("small", weight=1.0, quota=Resources.capacity(cpu=1, memory=GIB)),
        Tenant("large", weight=3.0),
        Tenant("capped", limit=Resources.capacity(cpu=2, memory=4 * GIB, gpu=1)),
    ),
)
DEMANDS = [
    Resources.demand(cpu=cpu, memory=memory, gpu=gpu)
    for cpu, memory, gpu in [
        (1, 0, 0),
        (0.5, GIB // 2, 0),
        (2, 2 * GIB, 0),
        (1, GIB, 0.4),
        (0, 0, 0.5),
        (0.5, 0, 0.7),
        (1, 0, 1),
        (1, GIB, 2),
        (4, 4 * GIB, 0),
        (0, 0, 0),
    ]
]


class EngineMachine(RuleBasedStateMachine):
    """Plays shell, cluster and users; keeps its own book of what runs."""

    policy = POLICY
    node = Resources.capacity(cpu=4, memory=4 * GIB, gpu=2)
    run_s: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(policy=self.policy)
        self.now = 0.0
        self.running: dict[str, StartTask] = {}
        self.stopping: dict[str, StopTask] = {}
        self.over: dict[str, FinishTask] = {}
        self.submitted: list[str] = []
        self.nodes: set[str] = set()
        self.reservations: set[tuple[str, str]] = set()

    @initialize()
    def begin(self) -> None:
        for node_id in NODES[:2]:
            self.join(node_id)

    def tell(self, *events: object) -> None:
        twin = Engine(policy=self.policy)
        twin.restore(self.engine.snapshot())
        out = self.engine.handle(*events, now=self.now)  # type: ignore[arg-type]
        same = twin.handle(*events, now=self.now)  # type: ignore[arg-type]
        assert _acts(out) == _acts(same), ("a restored engine decides otherwise", _acts(out), _acts(same))
        self.carry_out(out)

    def carry_out(self, out: list[Instruction]) -> None:
        for instruction in out:
            if isinstance(instruction, StartTask):
                assert instruction.task_id not in self.running, "two attempts of one task run"
                assert instruction.task_id not in self.over
                self.running[instruction.task_id] = instruction
            elif isinstance(instruction, StartChunk):
                assert len(instruction.task_ids) == len(instruction.attempts) > 1
                for task_id, attempt in zip(instruction.task_ids, instruction.attempts, strict=True):
                    assert task_id not in self.running and task_id not in self.over
                    node_id, devices, demand = instruction.node_id, instruction.devices, instruction.demand
                    self.running[task_id] = StartTask(task_id, attempt, node_id, devices, demand)
            elif isinstance(instruction, StopTask):
                assert self.running[instruction.task_id].attempt == instruction.attempt
                self.stopping[instruction.task_id] = instruction
            elif isinstance(instruction, FinishTask):
                assert instruction.task_id not in self.over, "a task ended twice"
                self.over[instruction.task_id] = instruction
                self.ended(instruction.task_id)

    def ended(self, task_id: str) -> None:
        self.running.pop(task_id, None)
        self.stopping.pop(task_id, None)

    def join(self, node_id: str) -> None:
        self.nodes.add(node_id)
        self.tell(NodeJoined(node_id, self.node))

    # ---------------------------------------------------------------- users

    @rule(
        demand=st.sampled_from(DEMANDS),
        priority=st.integers(1, 5),
        tenant=st.sampled_from(["default", "small", "large", "capped"]),
        delay=st.sampled_from([None, 0.5, 5.0]),
        deadline=st.sampled_from([None, None, None, 3.0, 20.0]),
        timeout=st.sampled_from([None, None, 4.0]),
        errors=st.integers(0, 1),
        preemptible=st.booleans(),
        idempotent=st.booleans(),
        after=st.lists(st.integers(0, 200), max_size=2),
        reservation=st.sampled_from([None, None, "held"]),
        expected=st.sampled_from([None, 1.0, 3.0]),
    )
    def submit(  # noqa: PLR0917 (Hypothesis passes one argument for each thing that varies)
        self,
        demand,
        priority,
        tenant,
        delay,
        deadline,
        timeout,
        errors,
        preemptible,
        idempotent,
        after,
        reservation,
        expected,
    ) -> None:
        known = [task_id for task_id in self.submitted if task_id in self.engine.state.tasks]
        task_id = f"t{len(self.submitted)}"
        spec = TaskSpec(
            task_id,
            demand=demand,
            priority=priority,
            tenant=tenant,
            not_before=None if delay is None else self.now + delay,
            deadline=None if deadline is None else self.now + deadline,
            timeout_s=timeout,
            retry=RetryPolicy(errors=errors, base_s=0.5),
            preemptible=preemptible,
            idempotent=idempotent or preemptible,
            dependencies=tuple(dict.fromkeys(known[index % len(known)] for index in after)) if known else (),
            reservation=reservation,
            expected_run_s=expected,
        )
        self.submitted.append(task_id)
        self.tell(TaskSubmitted(spec))

    @rule(
        count=st.integers(3, 12),
        demand=st.sampled_from(DEMANDS[:5]),
        tenant=st.sampled_from(["default", "small", "capped"]),
        priorities=st.lists(st.integers(1, 5), min_size=12, max_size=12),
        preemptible=st.booleans(),
        deadline=st.sampled_from([None, None, 6.0]),
    )
    def submit_alike(  # noqa: PLR0917 (as above)
        self, count, demand, tenant, priorities, preemptible, deadline
    ) -> None:
        """Many of one line at once: what chunks are made of."""
        specs = [
            TaskSpec(
                f"t{len(self.submitted) + n}",
                demand=demand,
                tenant=tenant,
                priority=priorities[n],
                preemptible=preemptible,
                deadline=None if deadline is None else self.now + deadline,
            )
            for n in range(count)
        ]
        self.submitted += [spec.task_id for spec in specs]
        self.tell(*map(TaskSubmitted, specs))

    @rule(
        size=st.integers(1, 3),
        demand=st.sampled_from(DEMANDS),
        priority=st.integers(1, 5),
        lacking=st.sampled_from([0, 0, 1]),
    )
    def submit_gang(self, size, demand, priority, lacking) -> None:
        gang_id = f"g{len(self.submitted)}"
        specs = [
            TaskSpec(
                f"t{len(self.submitted) + n}",
                demand=demand,
                priority=priority,
                gang_id=gang_id,
                gang_size=size + lacking,
            )
            for n in range(size)
        ]
        self.submitted += [spec.task_id for spec in specs]
        self.tell(*map(TaskSubmitted, specs))

    @rule(which=st.integers(0, 200))
    def cancel(self, which) -> None:
        known = [task_id for task_id in self.submitted if task_id in self.engine.state.tasks]
        if known:
            self.tell(TaskCancelRequested(known[which % len(known)]))

    @rule(which=st.integers(0, 200), priority=st.integers(1, 5))
    def reprioritise(self, which, priority) -> None:
        known = [task_id for task_id in self.submitted if task_id in self.engine.state.tasks]
        if known:
            self.tell(PriorityChanged(known[which % len(known)], priority))

    @rule()
    def pause(self) -> None:
        self.tell(Paused())

    @rule()
    def resume(self) -> None:
        self.tell(Resumed())

    # ---------------------------------------------------------------- executors

    def pick(self, which: int) -> StartTask:
        return self.running[sorted(self.running)[which % len(self.running)]]

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def started(self, which) -> None:
        start = self.pick(which)
        self.tell(TaskStarted(start.task_id, start.attempt))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def finished(self, which) -> None:
        start = self.pick(which)
        self.ended(start.task_id)
        self.tell(TaskFinished(start.task_id, start.attempt, "done", self.run_s, GIB // 4))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50), kind=st.sampled_from(["error", "worker_lost", "out_of_memory", "timeout"]))
    def failed(self, which, kind) -> None:
        start = self.pick(which)
        self.ended(start.task_id)
        self.tell(TaskFailed(start.task_id, start.attempt, kind, "it did not work", "Oops"))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def refused(self, which) -> None:
        start = self.pick(which)
        self.ended(start.task_id)
        self.tell(StartRefused(start.task_id, start.attempt, "no lease"))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50), solo=st.booleans())
    def returned(self, which, solo) -> None:
        start = self.pick(which)
        self.ended(start.task_id)
        self.tell(TaskReturned(start.task_id, start.attempt, solo))

    @precondition(lambda self: self.stopping)
    @rule(which=st.integers(0, 50))
    def stopped(self, which) -> None:
        stop = self.stopping[sorted(self.stopping)[which % len(self.stopping)]]
        self.ended(stop.task_id)
        self.tell(TaskStopped(stop.task_id, stop.attempt))

    @precondition(lambda self: self.over)
    @rule(which=st.integers(0, 50))
    def late_report(self, which) -> None:
        over = self.over[sorted(self.over)[which % len(self.over)]]
        if over.attempt:
            self.tell(TaskFinished(over.task_id, over.attempt, "late"))

    # ---------------------------------------------------------------- the cluster

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0, 60.0]))
    def time_passes(self, seconds) -> None:
        self.now += seconds
        self.tell(ClockAdvanced())

    @rule(node_id=st.sampled_from(NODES))
    def node_joins(self, node_id) -> None:
        self.join(node_id)

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(which=st.integers(0, 2))
    def node_is_lost(self, which) -> None:
        node_id = sorted(self.nodes)[which % len(self.nodes)]
        self.nodes.discard(node_id)
        self.reservations = {pair for pair in self.reservations if pair[1] != node_id}
        for task_id, start in list(self.running.items()):
            if start.node_id == node_id:
                self.ended(task_id)
        self.tell(NodeLost(node_id))

    @precondition(lambda self: self.nodes)
    @rule(which=st.integers(0, 2), cpu=st.sampled_from([1, 2, 4]), gpu=st.sampled_from([0, 1, 2]))
    def capacity_changes(self, which, cpu, gpu) -> None:
        node_id = sorted(self.nodes)[which % len(self.nodes)]
        self.tell(CapacityChanged(node_id, Resources.capacity(cpu=cpu, memory=4 * GIB, gpu=gpu)))

    @precondition(lambda self: self.nodes)
    @rule(which=st.integers(0, 2))
    def reserve(self, which) -> None:
        node_id = sorted(self.nodes)[which % len(self.nodes)]
        self.reservations.add(("held", node_id))
        self.tell(ReservationAdded("held", node_id, Resources.capacity(cpu=1, memory=GIB, gpu=0.5), ((0, 500),)))

    @precondition(lambda self: self.nodes)
    @rule(which=st.integers(0, 2))
    def unreserve(self, which) -> None:
        node_id = sorted(self.nodes)[which % len(self.nodes)]
        self.reservations.discard(("held", node_id))
        self.tell(ReservationRemoved("held", node_id))

    # ---------------------------------------------------------------- promises

    @invariant()
    def holds_together(self) -> None:
        self.engine.validate()
        state = self.engine.state
        assert {t.task_id for t in state.tasks.values() if t.state is State.RUNNING} == set(self.running)

    def teardown(self) -> None:
        """Let the weather clear: everything that can run does, and nothing is left hanging."""
        for node_id in NODES:
            self.join(node_id)
        self.tell(Resumed())
        for _ in range(400 + 20 * len(self.submitted)):
            if self.stopping:
                stop = next(iter(self.stopping.values()))
                self.ended(stop.task_id)
                self.tell(TaskStopped(stop.task_id, stop.attempt))
            elif self.running:
                start = next(iter(self.running.values()))
                self.now += 0.5
                self.ended(start.task_id)
                self.tell(TaskFinished(start.task_id, start.attempt))
            elif (due := self.engine.next_due()) is not None:
                self.now = max(self.now, due)
                self.tell(ClockAdvanced())
            else:
                break
        self.engine.validate()
        for task in self.engine.state.tasks.values():
            if not task.state.terminal:
                self.check_left(task)
        super().teardown()

    def check_left(self, task) -> None:
        """Only members of gangs that never became complete, and what waits for them, may be left."""
        tasks = self.engine.state.tasks
        gang = self.engine.state.gangs.get(task.spec.gang_id or "")
        upstream = any(not tasks[other].state.terminal for other in task.spec.dependencies if other in tasks)
        unplaceable = gang is not None and sum(t.shape.cpu for t in gang.members.values()) > 12_000
        assert upstream or unplaceable or (gang is not None and gang.joined < gang.size), task.told()


def _acts(out: list[Instruction]) -> list[Instruction]:
    kinds = StartTask | StartChunk | StopTask | FinishTask
    return [instruction for instruction in out if isinstance(instruction, kinds)]


EngineMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestEngineMachine = EngineMachine.TestCase


class ChunkMachine(EngineMachine):
    """The same with chunks, on nodes that are soon full: of tasks that are said to be over in no time, in any order."""

    policy = replace(POLICY, chunk_s=5.0, chunk_max=4)
    node = Resources.capacity(cpu=1, memory=GIB, gpu=1)
    run_s = 0.01

    @initialize()
    def begin(self) -> None:
        self.engine.state.run_times.learn("task", self.run_s)
        super().begin()


ChunkMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestChunkMachine = ChunkMachine.TestCase
