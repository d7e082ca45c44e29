"""The pool of executors: one run after another on each, and every run ends in exactly one event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from actors.pool import Pool, _Executor
from balance.client.wire import Answer, Call, Function
from balance.core.scheduler.events import Event, StartRefused, TaskFailed, TaskFinished, TaskStarted, TaskStopped
from balance.core.scheduler.instructions import StartTask
from balance.types import Resources

FUNCTION = Function.of(len)
ONE = Resources.demand(cpu=1)


class Handle:
    """An executor actor's handle, whose runs end when the test says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs: list[tuple[Call, bytes | None, asyncio.Future[Answer]]] = []
        self.run = self

    def options(self, **_how: Any) -> Handle:
        return self

    def remote(self, call: Call, blob: bytes | None) -> asyncio.Future[Answer]:
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.runs.append((call, blob, done))
        return done

    def die(self) -> None:
        self.runs[-1][2].set_exception(ActorDiedError())


class Leases:
    """Covers everything, unless it is told to refuse; counts what is covered."""

    def __init__(self) -> None:
        self.refuses = ""
        self.covered = 0

    async def cover(self, _node: str, _demand: Resources) -> str:
        await asyncio.sleep(0)
        self.covered += not self.refuses
        return self.refuses

    def uncover(self, _node: str, _demand: Resources) -> None:
        self.covered -= 1

    def lose(self, _node: str) -> None:
        self.covered = 0


class Bench(Pool):
    """A pool whose executors are `Handle` objects."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.leases = Leases()
        self.handles: list[Handle] = []
        super().__init__(lambda *events: self.events.extend(events), lambda _: FUNCTION.blob, self.leases, epoch=1)  # type: ignore[arg-type]

    def _make(self, node_id: str) -> _Executor:
        node = self._nodes[node_id]
        node.made += 1
        handle = Handle(f"executor-{node.made}")
        self.handles.append(handle)
        executor = _Executor(handle.name, handle)
        node.everyone.append(executor)
        return executor

    def begin(self, task_id: str, attempt: int = 1, reservation: str | None = None) -> None:
        instruction = StartTask(task_id, attempt, "n1", (), ONE, reservation, None)
        self.start(instruction, FUNCTION.call([1]))

    async def settle(self) -> None:
        """Let every run go as far as it can without anything from outside."""
        for _ in range(20):
            await asyncio.sleep(0)

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.pool.ray.kill", lambda handle, no_restart: handle.die() if handle.runs else None)
    monkeypatch.setattr("actors.pool.PATIENCE_S", 0.0)


@pytest.fixture
def play() -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    """Play a scenario on a pool with one node, and see in the end that nothing is held."""

    def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            bench = Bench()
            bench.join("n1", 1.0, warm=1)
            await scenario(bench)
            await bench.settle()
            assert bench.stats()["runs"] == 0 and bench.leases.covered == 0
            for node in bench._nodes.values():
                assert len(node.free) == len(node.everyone), "every executor is free again"

        asyncio.run(main())

    return run


def answered(**fields: Any) -> Answer:
    return Answer(True, **fields)


def test_a_run_is_covered_started_and_told(play: Any) -> None:
    """The function travels with the first call on an executor and not with the next; a failure tells what it said."""

    async def scenario(bench: Bench) -> None:
        bench.begin("a")
        await bench.settle()
        assert bench.events == [TaskStarted("a", 1)] and bench.leases.covered == 1
        [(_call, blob, done)] = bench.handles[0].runs
        assert blob == FUNCTION.blob
        done.set_result(answered(value=b"x", run_s=0.5))
        await bench.settle()
        assert bench.events[1:] == [TaskFinished("a", 1, result=answered(value=b"x", run_s=0.5), run_s=0.5)]
        bench.begin("b")
        await bench.settle()
        [_, (_call, blob, done)] = bench.handles[0].runs
        assert blob is None
        done.set_result(Answer(False, error="bad", error_type="E", traceback="tb", output="said"))
        await bench.settle()
        failed = bench.events[-1]
        assert isinstance(failed, TaskFailed) and (failed.kind, failed.error_type) == ("error", "E")
        assert failed.traceback == "tb\nIt had printed:\nsaid"

    play(scenario)


def test_an_executor_that_forgot_gets_the_function_again(play: Any) -> None:
    """A call that was answered with ``missing`` is made once more, with the function."""

    async def scenario(bench: Bench) -> None:
        bench._nodes["n1"].everyone[0].knows.add(FUNCTION.digest)
        bench.begin("a")
        await bench.settle()
        bench.handles[0].runs[0][2].set_result(Answer(False, missing=True))
        await bench.settle()
        assert [blob for _, blob, _ in bench.handles[0].runs] == [None, FUNCTION.blob]
        bench.handles[0].runs[1][2].set_result(answered())
        await bench.settle()
        assert bench.names() == ["TaskStarted", "TaskFinished"]

    play(scenario)


def test_a_refused_lease_starts_nothing(play: Any) -> None:
    """The engine hears why, and an attempt that it starts at once is not forgotten by the end of the former."""

    async def scenario(bench: Bench) -> None:
        bench.leases.refuses = "another program holds it"
        bench.begin("a")
        await bench.settle()
        assert bench.events == [StartRefused("a", 1, "another program holds it")]
        bench.leases.refuses = ""
        bench.begin("a", attempt=2, reservation="model:m")
        await bench.settle()
        assert bench.leases.covered == 0, "a reservation is covered by its holder"
        bench.stop("a", 2, "cancelled")
        await bench.settle()
        assert bench.events[1:] == [TaskStarted("a", 2), TaskStopped("a", 2)]

    play(scenario)


def test_a_dead_executor_takes_its_task_along_and_nothing_else(play: Any) -> None:
    """The run is lost, its neighbour is not, and whoever waits gets a new executor."""

    async def scenario(bench: Bench) -> None:
        bench.begin("a")
        bench.begin("b")
        await bench.settle()
        await asyncio.sleep(0.01)
        first, second = bench.handles
        first.die()
        await bench.settle()
        lost = next(event for event in bench.events if isinstance(event, TaskFailed))
        assert (lost.task_id, lost.kind) == ("a", "worker_lost")
        second.runs[0][2].set_result(answered())
        await bench.settle()
        assert bench.names().count("TaskFinished") == 1
        assert len(bench._nodes["n1"].everyone) == 1

    play(scenario)


@pytest.mark.parametrize("steps", range(8))
def test_a_stop_at_any_moment_leaks_nothing(play: Any, steps: int) -> None:
    """Stopped while it waits for its lease, for an executor or for its end: one end is told, all is free again."""

    async def scenario(bench: Bench) -> None:
        bench.begin("busy")
        await bench.settle()
        bench._nodes["n1"].limit = 1
        bench.begin("a")
        for step in range(steps):
            if step == 3:
                bench.handles[0].runs[0][2].set_result(answered())
            await asyncio.sleep(0)
        bench.stop("a", 1, "cancelled")
        bench.stop("a", 7, "of another attempt: ignored")
        if steps <= 3:
            bench.handles[0].runs[0][2].set_result(answered())
        await bench.settle()
        ends = [event for event in bench.events if event.task_id == "a" and not isinstance(event, TaskStarted)]  # type: ignore[attr-defined]
        assert ends == [TaskStopped("a", 1)]

    play(scenario)


def test_an_attempt_that_was_given_up_does_not_hide_its_successor(play: Any) -> None:
    """Where the engine has started a task anew, the end of the former attempt takes nothing from the new one."""

    async def scenario(bench: Bench) -> None:
        bench.begin("a")
        await bench.settle()
        bench.begin("a", attempt=2)
        await bench.settle()
        await asyncio.sleep(0.01)
        bench.handles[0].runs[0][2].set_result(answered())
        await bench.settle()
        bench.stop("a", 2, "cancelled")
        await bench.settle()
        assert bench.events[-1] == TaskStopped("a", 2)

    play(scenario)


def test_a_lost_node_ends_its_runs(play: Any) -> None:
    """What waits there stops waiting, what runs there ends as Ray reports it; nothing raises."""

    async def scenario(bench: Bench) -> None:
        bench._nodes["n1"].limit = 1
        bench.begin("runs")
        bench.begin("waits")
        await bench.settle()
        bench.lose("n1")
        await bench.settle()
        assert sorted(bench.names()) == ["TaskFailed", "TaskStarted", "TaskStopped"]
        bench.begin("late")
        await bench.settle()
        assert isinstance(bench.events[-1], TaskFailed)
        bench.leases.covered = 0

    play(scenario)


def test_no_more_executors_than_the_node_may_have(play: Any) -> None:
    """Runs beyond the limit wait for a free executor, in their order."""

    async def scenario(bench: Bench) -> None:
        bench._nodes["n1"].limit = 2
        for name in "abcd":
            bench.begin(name)
        await bench.settle()
        await asyncio.sleep(0.01)
        assert len(bench.handles) == 2
        while bench.stats()["runs"]:
            for handle in bench.handles:
                if handle.runs and not handle.runs[-1][2].done():
                    handle.runs[-1][2].set_result(answered())
            await bench.settle()
        started = [event.task_id for event in bench.events if isinstance(event, TaskStarted)]
        assert started == ["a", "b", "c", "d"]

    play(scenario)


def test_a_free_executor_that_knows_the_function_goes_first(play: Any) -> None:
    """What an executor has loaded is used again."""

    async def scenario(bench: Bench) -> None:
        node = bench._nodes["n1"]
        node.free.append(bench._make("n1"))
        node.everyone[1].knows.add(FUNCTION.digest)
        bench.begin("a")
        await bench.settle()
        assert bench.handles[1].runs and not bench.handles[0].runs
        bench.handles[1].runs[0][2].set_result(answered())

    play(scenario)
