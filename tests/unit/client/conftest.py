"""A scheduler in this process, behind the same desk, journal and store as on a cluster; only Ray is left out.

Calls and answers are pickled on their way, as Ray does.  `Office.crash` is ``kill -9``: all that is in memory
goes, and the next incarnation takes up the store; as with Ray, calls under way are made again there.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from actors.announcer import Announcer
from actors.desk import Desk
from actors.function_store import FunctionStore
from actors.task_journal import TaskJournal
from actors.task_list import list_tasks
from balance.client.wire import Answer, Call
from balance.clock import SystemClock
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import Event, NodeJoined, TaskFailed, TaskFinished, TaskStopped
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.core.scheduler.policy import SchedulingPolicy
from balance.errors import ClusterError
from balance.storage import GroupCommit, Store
from balance.types import Resources

CALL_S = 20.0
LOOK_EVERY_S = 0.02


class Hands:
    """An executor that runs calls in the loop's own thread; while `idle` is set it only keeps them."""

    eager = True

    def __init__(self, office: Office) -> None:
        self._office = office
        self.kept: dict[str, tuple[int, Call]] = {}

    def start(self, instruction: StartTask, call: object) -> None:
        assert isinstance(call, Call)
        self._take(instruction.task_id, instruction.attempt, call)

    def start_chunk(self, instruction: StartChunk, calls: list[object]) -> None:
        for task_id, attempt, call in zip(instruction.task_ids, instruction.attempts, calls, strict=True):
            assert isinstance(call, Call)
            self._take(task_id, attempt, call)

    def _take(self, task_id: str, attempt: int, call: Call) -> None:
        self.kept[task_id] = (attempt, call)
        asyncio.get_running_loop().call_soon(self.work)

    def work(self) -> None:
        """Run what is there, unless the office is idle."""
        events: list[Event] = []
        while self.kept and not self._office.idle:
            task_id = next(iter(self.kept))
            attempt, call = self.kept.pop(task_id)
            events.append(self._run(task_id, attempt, call))
        if events:
            self._office.scheduler.deliver(*events)

    def _run(self, task_id: str, attempt: int, call: Call) -> Event:
        try:
            args, kwargs = pickle.loads(call.arguments)
            function = pickle.loads(self._office.functions.blob(call.function))
            value = pickle.dumps(function(*args, **kwargs))
            return TaskFinished(task_id, attempt, result=Answer(value), run_s=0.0)
        except Exception as error:  # noqa: BLE001 (a task may raise anything)
            trace = traceback.format_exc()
            return TaskFailed(task_id, attempt, error=str(error), error_type=type(error).__name__, traceback=trace)

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        self.kept.pop(task_id, None)
        asyncio.get_running_loop().call_soon(self._office.scheduler.deliver, TaskStopped(task_id, attempt))

    def wait(self, timeout_s: float | None) -> list[Event]:
        return []


class Office:
    """The scheduler's side, in a loop of its own; also the way to it."""

    def __init__(self, state_dir: Path) -> None:
        self.idle = False
        self.calls: list[str] = []
        self.unreachable = 0
        self.path = state_dir / "state.db"
        self._url = f"sqlite:///{self.path}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="office")
        self._thread.start()
        self._up = asyncio.Event()
        self._do(self._open())

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    async def _open(self) -> None:
        self.clock = SystemClock()
        self.store = Store(self._url, clock=self.clock)
        fence = self.store.acquire("scheduler")
        self.commits = GroupCommit(self.store, fence)
        self.journal = TaskJournal(self.store, self.commits)
        self.functions = FunctionStore(self.store, self._commit)
        self.hands = Hands(self)
        policy = SchedulingPolicy(chunk_s=0.005, history_max=50)
        node = NodeJoined("n1", Resources.capacity(cpu=2, memory=2**30))
        self.scheduler = TaskScheduler(
            clock=self.clock, executor=self.hands, journal=self.journal, nodes=[node], policy=policy
        )
        self.epoch = fence.epoch
        self.desk = Desk(
            self.scheduler, self.journal, self.functions, clock=self.clock, epoch=fence.epoch, entered=lambda: None
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self.scheduler.on_finish(Announcer(self.journal.durable, self.desk.tell, self._spawn).finished)
        self.scheduler.recover()
        self._up.set()

    async def _commit(self, write: Callable[[Any], None]) -> None:
        await asyncio.wrap_future(self.commits.submit(write))

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        self._up.clear()
        self.hands.kept.clear()
        self.scheduler.pause()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.to_thread(self.commits.close)
        self.store.close()

    def crash(self) -> None:
        """End this incarnation and begin the next one on the same store."""

        async def again() -> None:
            await self._end()
            await self._open()

        self._do(again())

    def close(self) -> None:
        """End everything; also what a client does when it lets go."""

    def end(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def work(self) -> None:
        """Run what was kept."""
        self.idle = False
        self._loop.call_soon_threadsafe(self.hands.work)

    # -- the way to it -----------------------------------------------------------------------------

    async def _answer(self, method: str, sent: bytes) -> bytes:
        await self._up.wait()
        arguments = pickle.loads(sent)
        if method == "tasks":
            state, tenant, name, limit = arguments
            answer: Any = await list_tasks(self.scheduler, state=state, tenant=tenant, name=name, limit=limit)
        elif method == "status":
            answer = (await self.desk.status(*arguments)).to_dict()
        elif method == "leave":
            answer = self.desk.leave(*arguments)
        elif method == "explain":
            answer = (await self.desk.explain(*arguments)).to_dict()
        else:
            answer = await getattr(self.desk, method)(*arguments)
        return pickle.dumps(answer)

    def _send(self, method: str, arguments: tuple[Any, ...]) -> Future[bytes]:
        if self.unreachable:
            self.unreachable -= 1
            raise ClusterError("the scheduler is not there")
        return asyncio.run_coroutine_threadsafe(self._answer(method, pickle.dumps(arguments)), self._loop)

    def call(self, method: str, *arguments: Any, wanted: Callable[[], bool] | None = None) -> Any:
        self.calls.append(method)
        under_way = self._send(method, arguments)
        while wanted is None or wanted():
            try:
                return pickle.loads(under_way.result(LOOK_EVERY_S))
            except CancelledError:  # its process was killed: Ray makes the call again
                under_way = self._send(method, arguments)
            except TimeoutError:
                if under_way.done():
                    raise
        return None

    async def acall(self, method: str, *arguments: Any) -> Any:
        self.calls.append(method)
        while True:
            under_way = self._send(method, arguments)
            with contextlib.suppress(CancelledError):
                while not under_way.done():
                    await asyncio.sleep(0.001)
                return pickle.loads(under_way.result())


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A scheduler that starts tasks at once; ``office.idle = True`` has it keep them."""
    office = Office(tmp_path)
    yield office
    office.end()
