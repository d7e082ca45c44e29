"""However writes fail and whenever the process ends, what was acknowledged is on disk in its last form."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from actors.task_journal import TaskJournal
from actors.task_rows import Rows, images_of
from balance.client.wire import Answer, Function
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.errors import StorageError
from balance.storage import GroupCommit, Store
from balance.storage.tasks import Unfinished
from balance.types import Resources

CALL = Function.of(len, "task").call([])
SHAPE = Shape(ONE_CPU)
OVER = (State.COMPLETED, State.FAILED, State.CANCELLED)


class FailingCommits:
    """A group commit some of whose writes fail: before they have begun, or after they have done their work."""

    def __init__(self, store: Store) -> None:
        self.real = GroupCommit(store, store.acquire("scheduler"))
        self.failures: list[str] = []

    def submit(self, write: Any) -> Any:
        how = self.failures.pop(0) if self.failures else ""

        def broken(tx: Any) -> None:
            if how == "late":
                write(tx)
            raise StorageError("the disk is full")

        return self.real.submit(broken if how else write)


class Journals(RuleBasedStateMachine):
    """Submit, go on, end, fail and restart in any order; what `durable` returned for is what a restart reads."""

    @initialize()
    def start(self):
        self.store = Store()
        self.commits = FailingCommits(self.store)
        self.journal = TaskJournal(self.store, self.commits)
        self.tasks: dict[str, Task] = {}
        self.numbers = 0

    def live(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.finished_at is None]

    @rule(count=st.integers(1, 40), end_one=st.booleans())
    def submit(self, count, end_one):
        new = []
        for _ in range(count):
            self.numbers += 1
            task = Task(TaskSpec(f"t{self.numbers}"), CALL, SHAPE, self.numbers, 1.0)
            task.state, task.eligible_at = State.QUEUED, 1.0
            new.append(task)
        if end_one:
            self.over(new[-1], State.CANCELLED)
        self.tasks.update((task.task_id, task) for task in new)
        self.journal.record(new)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), errors=st.integers(1, 3))
    def go_on(self, data, errors):
        some = data.draw(st.lists(st.sampled_from(self.live()), max_size=5, unique_by=id))
        for task in some:
            task.state, task.errors, task.due_at = State.RETRYING, errors, 9.0
            task.note(2.0, "failed")
        self.journal.record(some)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), state=st.sampled_from(OVER))
    def end(self, data, state):
        some = data.draw(st.lists(st.sampled_from(self.live()), max_size=20, unique_by=id))
        for task in some:
            self.over(task, state)
        self.journal.record(some)

    def over(self, task, state):
        task.state, task.finished_at, task.call, task.due_at = state, 3.0, None, None
        task.result = Answer(b"value") if state is State.COMPLETED else None

    @rule(failures=st.lists(st.sampled_from(["early", "late"]), min_size=1, max_size=3))
    def fail(self, failures):
        self.commits.failures += failures

    @rule(restart=st.booleans())
    def acknowledge(self, restart):
        while True:  # each attempt uses up a failure
            with contextlib.suppress(StorageError):
                asyncio.run(self.journal.durable())
                break
        self.commits.failures.clear()
        successor = TaskJournal(self.store, self.commits)
        found = {image.task_id: image for image in successor.load()}
        assert found == {task.task_id: replace(task.image(), result=None) for task in self.tasks.values()}
        if restart:
            self.journal = successor

    def teardown(self):
        if hasattr(self, "store"):
            self.commits.real.close()
            self.store.close()


def test_what_was_acknowledged_is_what_a_restart_reads():
    """In any order of submissions, changes, ends, failures and restarts."""
    run_state_machine_as_test(Journals, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(str.strip)
SPECS = st.builds(
    TaskSpec,
    TEXT,
    name=TEXT,
    demand=st.builds(Resources.demand, cpu=st.floats(0, 64), memory=st.integers(0, 2**40), gpu=st.integers(0, 8)),
    priority=st.integers(1, 9),
    tenant=TEXT,
    not_before=st.none() | st.floats(0, 2e9),
    deadline=st.none() | st.integers(0, 2**31),
    dependencies=st.lists(st.sampled_from(["any", "a", "b"]), max_size=3, unique=True).map(tuple),
    retry=st.builds(RetryPolicy, errors=st.integers(0, 9), base_s=st.floats(0, 60)),
    timeout_s=st.none() | st.floats(0.001, 1e6),
    idempotent=st.booleans(),
    reservation=st.none() | TEXT,
    expected_run_s=st.none() | st.floats(0, 1e6),
    memory_limit_bytes=st.none() | st.integers(1, 2**50),
).filter(lambda spec: spec.task_id not in spec.dependencies)


@given(specs=st.lists(SPECS, max_size=6, unique_by=lambda spec: spec.task_id), alike=st.booleans())
@settings(max_examples=50, deadline=None)
def test_any_spec_comes_back(specs, alike):
    """Whatever a submitter may say, also where many tasks say nearly the same, and whatever their ids are."""
    if alike:
        specs += [replace(spec, task_id=f"{spec.task_id}+") for spec in specs]
        specs = list({spec.task_id: spec for spec in specs if spec.task_id not in spec.dependencies}.values())
    rows = Rows()
    rows.take([Task(spec, CALL, Shape(spec.demand), n, 1.0) for n, spec in enumerate(specs, 1)], 0)
    read = [Unfinished(*new, *opened[1:]) for new, opened in zip(rows.new, rows.opened.values(), strict=True)]
    assert {image.seq: image.spec for image in images_of(read)} == dict(enumerate(specs, 1))
