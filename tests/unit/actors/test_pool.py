"""The pool of executors: one run after another on each, and every member of a run ends in exactly one event."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from actors.chunk import Chunk, Note, Reply
from actors.crew import Executor
from actors.executors import ExecutorActor
from actors.pool import Pool
from balance.client.wire import Answer, Function, LargeAnswer
from balance.core.scheduler.events import (
    Event,
    StartRefused,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskStarted,
    TaskStopped,
)
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.types import Resources

FUNCTION = Function.of(len)
ONE = Resources.demand(cpu=1)
BIG = Resources.demand(cpu=1, memory=2**20)


class Method:
    """A method of an actor's handle: Ray's way to call it."""

    def __init__(self, call: Callable[..., asyncio.Future[Any]]) -> None:
        self.remote = call

    def options(self, **_how: Any) -> Method:
        return self


class Handle:
    """An executor actor's handle, whose runs end when the test says so; what they answer is the real executor's."""

    def __init__(self, name: str) -> None:
        self.executor = ExecutorActor(name, devices=None)
        self.chunks: list[Chunk] = []
        self.packed: list[bytes] = []
        self.pending: list[asyncio.Future[Any]] = []
        self.recalled: Reply | None = None
        self.recalls = 0
        self.watched: asyncio.Future[int | None] | None = None
        self.run = Method(self._run)
        self.recall = Method(self._recall)
        self.guard = Method(self._guard)
        self.large = Method(lambda *where: _answered(self.executor.large(*where)))
        self.ping = Method(lambda: _answered(self.executor.ping()))
        self.abide = Method(lambda: asyncio.get_running_loop().create_future())

    def _run(self, packed: bytes) -> asyncio.Future[Any]:
        self.chunks.append(Chunk.unpacked(packed))
        self.packed.append(packed)
        self.pending.append(asyncio.get_running_loop().create_future())
        return self.pending[-1]

    def _recall(self, _number: int) -> asyncio.Future[Any]:
        self.recalls += 1
        return _answered(None if self.recalled is None else self.recalled.packed())

    def _guard(self, _number: int, _limit: int) -> asyncio.Future[Any]:
        self.watched = asyncio.get_running_loop().create_future()
        return self.watched

    def finish(self, reply: Reply | None = None) -> None:
        """Let the last run end: with what the executor makes of it, or with this reply."""
        answer = self.executor.run(self.packed[-1]) if reply is None else reply.packed()
        self.pending[-1].set_result(answer)

    def die(self, error: Exception | None = None) -> None:
        """Let the executor die under its run."""
        if self.pending and not self.pending[-1].done():
            self.pending[-1].set_exception(error or ActorDiedError())


def _answered(value: object) -> asyncio.Future[Any]:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    done.set_result(value)
    return done


class Leases:
    """Covers everything, unless it is told to refuse or to take its time; counts what is covered."""

    def __init__(self) -> None:
        self.refuses = ""
        self.at_once = True
        self.covered = 0

    def cover_now(self, _node: str, _demand: Resources, _devices: tuple[int, ...]) -> bool:
        now = self.at_once and not self.refuses
        self.covered += now
        return now

    async def cover(self, _node: str, _demand: Resources, _devices: tuple[int, ...]) -> str:
        await asyncio.sleep(0)
        self.covered += not self.refuses
        return self.refuses

    def uncover(self, _node: str, _demand: Resources, _devices: tuple[int, ...]) -> None:
        self.covered -= 1

    def lose(self, _node: str) -> None:
        self.covered = 0


class Bench(Pool):
    """A pool whose executors are `Handle` objects."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.deliveries = 0
        self.leases = Leases()
        self.handles: list[Handle] = []
        super().__init__(self._take, lambda _: FUNCTION.blob, self.leases, epoch=1)  # type: ignore[arg-type]
        self._crew._make = self._make  # type: ignore[method-assign]

    def _take(self, *events: Event) -> None:
        self.deliveries += 1
        self.events.extend(events)

    def _make(self, node_id: str, devices: tuple[int, ...]) -> Executor:
        handle = Handle(f"executor-{len(self.handles) + 1}")
        self.handles.append(handle)
        executor = Executor(handle.executor.name, node_id, devices, handle, lived=True)
        self._crew._nodes[node_id].place(devices).everyone.append(executor)
        return executor

    def begin(self, task_id: str, attempt: int = 1, reservation: str | None = None, demand: Resources = ONE) -> None:
        instruction = StartTask(task_id, attempt, "n1", (), demand, reservation, None)
        self.start(instruction, FUNCTION.call([1]))

    def begin_chunk(self, names: str, argument: object = (1,), demand: Resources = ONE) -> None:
        instruction = StartChunk(tuple(names), (1,) * len(names), "n1", (), demand)
        self.start_chunk(instruction, [FUNCTION.call(argument) for _ in names])

    async def settle(self) -> None:
        """Let every run go as far as it can without anything from outside."""
        for _ in range(30):
            await asyncio.sleep(0)

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def told(self) -> dict[str, str]:
        """Return the last event of each task, by id, and see that none ended twice."""
        ends = [event for event in self.events if not isinstance(event, TaskStarted)]
        ids = [event.task_id for event in ends]  # type: ignore[attr-defined]
        assert len(ids) == len(set(ids)), f"told twice: {ends}"
        return {task_id: type(event).__name__ for task_id, event in zip(ids, ends, strict=True)}


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.crew.ray.kill", lambda handle, no_restart: handle.die())
    monkeypatch.setattr("actors.crew.PATIENCE_S", 0.0)


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
            assert not bench._runs
            for node in bench._crew._nodes.values():
                for place in node.places.values():
                    assert len(place.free) == len(place.everyone), "every executor is free again"

        asyncio.run(main())

    return run


def test_a_run_is_covered_sent_at_once_and_told(play: Any) -> None:
    """The function travels with the first call on an executor and not with the next; a failure tells what it said."""

    async def scenario(bench: Bench) -> None:
        bench.begin("a")
        [chunk] = bench.handles[0].chunks
        assert chunk.blobs == {FUNCTION.digest: FUNCTION.blob} and bench.leases.covered == 1
        assert chunk.task_ids == ("a",) and chunk.share.cpu == 1.0 and chunk.overrun_s is None
        bench.handles[0].finish()
        await bench.settle()
        [finished] = bench.events
        assert isinstance(finished, TaskFinished) and isinstance(finished.result, Answer)
        assert pickle.loads(finished.result.value or b"") == 1 and finished.run_s == finished.result.run_s
        bench.begin("b")
        assert bench.handles[0].chunks[-1].blobs == {}
        bench.handles[0].finish(Reply(1, [None], [0.5], {0: Note("error", "bad", "E", "tb", "said")}))
        await bench.settle()
        failed = bench.events[-1]
        assert isinstance(failed, TaskFailed) and (failed.kind, failed.error_type, failed.run_s) == ("error", "E", 0.5)
        assert failed.traceback == "tb\nIt had printed:\nsaid"

    play(scenario)


def test_a_run_that_had_to_wait_says_when_it_began(play: Any) -> None:
    """Timeouts count from the beginning: `TaskStarted` is told where lease or executor were not there at once."""

    async def scenario(bench: Bench) -> None:
        bench.leases.at_once = False
        bench.begin("a")
        assert not bench.handles[0].chunks
        await bench.settle()
        assert bench.events == [TaskStarted("a", 1)]
        bench.handles[0].finish()

    play(scenario)


def test_an_executor_that_forgot_gets_the_function_again(play: Any) -> None:
    """A run that was answered with ``missing`` is sent once more, with the function."""

    async def scenario(bench: Bench) -> None:
        bench._crew._nodes["n1"].place(()).everyone[0].knows.add(FUNCTION.digest)
        bench.begin("a")
        bench.handles[0].finish()
        await bench.settle()
        assert [bool(chunk.blobs) for chunk in bench.handles[0].chunks] == [False, True]
        bench.handles[0].finish()
        await bench.settle()
        assert bench.told() == {"a": "TaskFinished"}

    play(scenario)


def test_a_chunk_is_one_call_and_one_delivery(play: Any) -> None:
    """However many members: they are sent together and told together, in their order."""

    async def scenario(bench: Bench) -> None:
        bench.begin_chunk("abcdef")
        [chunk] = bench.handles[0].chunks
        assert chunk.task_ids == tuple("abcdef") and chunk.functions == (FUNCTION.digest,) and not chunk.which
        bench.handles[0].finish()
        await bench.settle()
        assert bench.deliveries == 1 and [event.task_id for event in bench.events] == list("abcdef")  # type: ignore[attr-defined]
        assert set(bench.names()) == {"TaskFinished"}

    play(scenario)


def test_a_large_result_is_called_for(play: Any) -> None:
    """What is too large for the reply comes by itself, before the end is told."""

    async def scenario(bench: Bench) -> None:
        function = Function.of(bytes)
        bench._functions = lambda _: function.blob  # type: ignore[method-assign, assignment]
        bench.start(StartTask("a", 1, "n1", (), ONE), function.call(200_000))
        bench.handles[0].finish()
        await bench.settle()
        [finished] = bench.events
        assert isinstance(finished, TaskFinished) and isinstance(finished.result, LargeAnswer)
        assert pickle.loads(finished.result.value or b"") == bytes(200_000)
        assert await finished.result.reference == finished.result.value, "clients get the reference"
        assert bench.handles[0].executor.large(1, 0) is None, "the executor keeps no copy"

    play(scenario)


def test_a_large_result_is_called_for_once(play: Any) -> None:
    """A recall and the reply that crosses it both know of it: it is given away once, and arrives."""

    async def scenario(bench: Bench) -> None:
        bench.begin_chunk("abc")
        handle = bench.handles[0]
        handle.executor._larges = (1, {0: b"large"})
        handle.recalled = Reply(2, [None], [0.1], {0: Note(large=True)})
        bench.stop("c", 1, "cancelled")
        await asyncio.sleep(0)
        handle.finish(Reply(2, [None, b"2"], [0.1, 0.1], {0: Note(large=True)}))
        await bench.settle()
        assert bench.told() == {"a": "TaskFinished", "b": "TaskFinished", "c": "TaskStopped"}
        large = next(event for event in bench.events if isinstance(event, TaskFinished) and event.task_id == "a")
        assert isinstance(large.result, LargeAnswer) and large.result.value == b"large"

    play(scenario)


def test_what_was_not_begun_is_handed_back(play: Any) -> None:
    """A chunk that stopped early tells the ends that there are and returns the others, which may run anywhere."""

    async def scenario(bench: Bench) -> None:
        bench.begin_chunk("abcd")
        bench.handles[0].finish(Reply(2, [b"1", b"2"], [0.1, 0.1], {}))
        await bench.settle()
        assert list(bench.told().values()) == ["TaskFinished"] * 2 + ["TaskReturned"] * 2
        assert not any(event.solo for event in bench.events if isinstance(event, TaskReturned))

    play(scenario)


def test_a_dead_executor_makes_its_chunk_suspects_that_run_alone(play: Any) -> None:
    """None of the members is lost, since one of them at most is guilty; each runs by itself from now on."""

    async def scenario(bench: Bench) -> None:
        bench.begin_chunk("abc")
        await bench.settle()
        bench.handles[0].die()
        await bench.settle()
        assert set(bench.told().values()) == {"TaskReturned"}
        assert all(event.solo for event in bench.events if isinstance(event, TaskReturned))

    play(scenario)


def test_a_stuck_chunk_is_called_back(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a member that takes for ever nobody waits: those before it are told, those behind it handed back."""
    monkeypatch.setattr("actors.pool.STUCK_S", 0.0)

    async def scenario(bench: Bench) -> None:
        bench.handles[0].recalled = Reply(2, [b"1"], [0.1], {})
        bench.begin_chunk("abcd")
        await bench.settle()
        assert bench.told() == {"a": "TaskFinished", "c": "TaskReturned", "d": "TaskReturned"}
        assert bench.stats()["runs"] == 1 and bench.leases.covered == 1, "b runs on"
        bench.handles[0].finish(Reply(2, [b"1", b"2"], [0.1, 9.0], {}))
        await bench.settle()
        assert bench.told()["b"] == "TaskFinished"

    play(scenario)


def test_what_kills_its_executor_after_a_recall_is_guilty(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are known to be elsewhere, so that this loss is its own."""
    monkeypatch.setattr("actors.pool.STUCK_S", 0.0)

    async def scenario(bench: Bench) -> None:
        bench.handles[0].recalled = Reply(2, [b"1"], [0.1], {})
        bench.begin_chunk("abc")
        await bench.settle()
        bench.handles[0].die()
        await bench.settle()
        assert bench.told() == {"a": "TaskFinished", "b": "TaskFailed", "c": "TaskReturned"}

    play(scenario)


@pytest.mark.parametrize(("stopped", "ends"), [("b", "FSR"), ("c", "FFS"), ("a", "FFR")])
def test_stopping_a_member_of_a_chunk(play: Any, stopped: str, ends: str) -> None:
    """One that is over stays over; for one that runs the executor is ended; one that has not begun never does."""

    async def scenario(bench: Bench) -> None:
        bench.begin_chunk("abc")
        await bench.settle()
        bench.handles[0].recalled = Reply(2, [b"1"], [0.1], {})
        bench.stop(stopped, 7, "of another attempt: ignored")
        bench.stop(stopped, 1, "cancelled")
        await bench.settle()
        if stopped != "b":
            bench.handles[0].finish(Reply(2, [b"1", b"2"], [0.1, 0.1], {}))
        await bench.settle()
        words = {"F": "TaskFinished", "S": "TaskStopped", "R": "TaskReturned"}
        assert bench.told() == {name: words[end] for name, end in zip("abc", ends, strict=True)}
        assert bench.handles[0].recalls == 1

    play(scenario)


@pytest.mark.parametrize("order", ["recall first", "reply first"])
def test_a_recall_and_the_reply_may_cross(play: Any, order: str) -> None:
    """Whichever comes first, each member is told once."""

    async def scenario(bench: Bench) -> None:
        bench.begin_chunk("abcd")
        await bench.settle()
        bench.handles[0].recalled = Reply(2, [b"1"], [0.1], {})
        bench.stop("d", 1, "cancelled")
        if order == "recall first":
            await bench.settle()
        bench.handles[0].finish(Reply(2, [b"1", b"2"], [0.1, 0.1], {}))
        await bench.settle()
        assert bench.told() == {"a": "TaskFinished", "b": "TaskFinished", "c": "TaskReturned", "d": "TaskStopped"}

    play(scenario)


def test_an_executor_that_does_not_answer_a_recall_is_ended(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that keeps the interpreter to itself keeps nobody else: all run by themselves from now on."""
    monkeypatch.setattr("actors.pool.STUCK_S", 0.0)
    monkeypatch.setattr("actors.pool.SILENT_S", 0.0)

    async def scenario(bench: Bench) -> None:
        bench.handles[0].recall = Method(lambda _: asyncio.get_running_loop().create_future())
        bench.begin_chunk("abc")
        await bench.settle()
        await asyncio.sleep(0.01)
        await bench.settle()
        assert [event.solo for event in bench.events if isinstance(event, TaskReturned)] == [True] * 3

    play(scenario)


@pytest.mark.parametrize("killer", ["the guard", "the kernel"])
def test_a_run_that_takes_too_much_memory_is_told_as_such(play: Any, killer: str) -> None:
    """Whether the executor's own guard or Ray's memory monitor saw it: the engine asks for more the next time."""

    async def scenario(bench: Bench) -> None:
        bench.begin("a", demand=BIG)
        await bench.settle()
        watched = bench.handles[0].watched
        assert watched is not None, "a memory request is watched"
        if killer == "the guard":
            watched.set_result(5 * 2**30)
        else:
            bench.handles[0].die(OutOfMemoryError("the node ran out of memory"))
        await bench.settle()
        [failed] = bench.events
        assert isinstance(failed, TaskFailed) and failed.kind == "out_of_memory"
        assert failed.peak_memory_bytes == (5 * 2**30 if killer == "the guard" else None)

    play(scenario)


def test_a_refused_lease_starts_nothing(play: Any) -> None:
    """The engine hears why, and an attempt that it starts at once is not forgotten by the end of the former."""

    async def scenario(bench: Bench) -> None:
        bench.leases.refuses = "another program holds it"
        bench.begin("a")
        bench.begin_chunk("bc")
        await bench.settle()
        assert bench.events == [StartRefused(name, 1, "another program holds it") for name in "abc"]
        bench.leases.refuses = ""
        bench.begin("a", attempt=2, reservation="model:m")
        await bench.settle()
        assert bench.leases.covered == 0, "a reservation is covered by its holder"
        bench.stop("a", 2, "cancelled")
        await bench.settle()
        assert bench.events[3:] == [TaskStopped("a", 2)]

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
        second.finish()
        await bench.settle()
        assert bench.names().count("TaskFinished") == 1

    play(scenario)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("steps", range(8))
def test_a_stop_at_any_moment_leaks_nothing(play: Any, steps: int, size: int) -> None:
    """Stopped while it waits for its lease, for an executor or for its end: one end is told, all is free again."""

    async def scenario(bench: Bench) -> None:
        bench.leases.at_once = False
        bench.begin("busy")
        await bench.settle()
        bench._crew._nodes["n1"].place(()).limit = 1
        if size == 1:
            bench.begin("a")
        else:
            bench.begin_chunk("abc")
        for step in range(steps):
            if step == 3:
                bench.handles[0].finish()
            await asyncio.sleep(0)
        bench.handles[0].recalled = Reply(1, [], [], {})
        bench.stop("a", 1, "cancelled")
        bench.stop("a", 7, "of another attempt: ignored")
        if steps <= 3:
            bench.handles[0].finish()
        await bench.settle()
        told = bench.told()
        assert told.pop("a") == "TaskStopped"
        assert told.pop("busy") == "TaskFinished"
        assert set(told.values()) <= {"TaskReturned"} and len(told) == size - 1

    play(scenario)


def test_an_attempt_that_was_given_up_does_not_hide_its_successor(play: Any) -> None:
    """Where the engine has started a task anew, the end of the former attempt takes nothing from the new one."""

    async def scenario(bench: Bench) -> None:
        bench.begin("a")
        await bench.settle()
        bench.begin("a", attempt=2)
        await bench.settle()
        await asyncio.sleep(0.01)
        bench.handles[0].finish()
        await bench.settle()
        bench.stop("a", 2, "cancelled")
        await bench.settle()
        assert bench.events[-1] == TaskStopped("a", 2)

    play(scenario)


def test_a_call_that_was_not_kept_fails_by_itself(play: Any) -> None:
    """Of a chunk, the others are handed back."""

    async def scenario(bench: Bench) -> None:
        instruction = StartChunk(("a", "b"), (1, 1), "n1", (), ONE)
        bench.start_chunk(instruction, [None, FUNCTION.call([1])])
        await bench.settle()
        assert bench.told() == {"a": "TaskFailed", "b": "TaskReturned"}

    play(scenario)


def test_a_lost_node_ends_its_runs(play: Any) -> None:
    """What waits there is handed back, what runs there ends as Ray reports it; nothing raises."""

    async def scenario(bench: Bench) -> None:
        bench._crew._nodes["n1"].place(()).limit = 1
        bench.begin("runs")
        bench.begin("waits")
        await bench.settle()
        bench.lose("n1")
        await bench.settle()
        assert bench.told() == {"runs": "TaskFailed", "waits": "TaskReturned"}
        bench.begin("late")
        await bench.settle()
        assert bench.told()["late"] == "StartRefused"
        bench.leases.covered = 0

    play(scenario)


def test_no_more_executors_than_the_node_may_have(play: Any) -> None:
    """Runs beyond the limit wait for a free executor, in their order."""

    async def scenario(bench: Bench) -> None:
        bench._crew._nodes["n1"].place(()).limit = 2
        for name in "abcd":
            bench.begin(name)
        await bench.settle()
        await asyncio.sleep(0.01)
        assert len(bench.handles) == 2
        while bench.stats()["runs"]:
            for handle in bench.handles:
                if handle.pending and not handle.pending[-1].done():
                    handle.finish()
            await bench.settle()
        assert [chunk.task_ids[0] for handle in bench.handles for chunk in handle.chunks] == ["a", "c", "b", "d"]

    play(scenario)


def test_a_free_executor_that_knows_the_function_goes_first(play: Any) -> None:
    """What an executor has loaded is used again."""

    async def scenario(bench: Bench) -> None:
        place = bench._crew._nodes["n1"].place(())
        place.free.append(bench._make("n1", ()))
        place.everyone[1].knows.add(FUNCTION.digest)
        bench.begin("a")
        assert bench.handles[1].chunks and not bench.handles[0].chunks
        bench.handles[1].finish(Reply(1, [b"1"], [0.1], {}))

    play(scenario)
