"""The scheduler's executor port on Ray: executor actors per node, and one run after another on each.

Instructions come in (`start`, `stop`), events go out (`deliver`).  A run is an asyncio task of the
scheduler's actor: cover the node with a lease, take a free executor, run the call there, say how it ended.
An executor that dies takes its own task with it (`worker_lost`) and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import NAMESPACE
from actors.executors import PREFIX, ExecutorActor
from actors.leases import Leases
from balance.client.wire import Answer, Call
from balance.core.scheduler.events import (
    Event,
    StartRefused,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    TaskStopped,
)
from balance.core.scheduler.instructions import StartTask

EXECUTORS_PER_CORE = 3
"""How many executors a node may have for each of its cores; more runs than that wait for a free one."""

PATIENCE_S = 0.1
"""How long a run waits for a free executor before another one is started, which takes half a second itself."""

log = logging.getLogger("balance.pool")


@dataclass(slots=True, eq=False)
class _Executor:
    name: str
    handle: Any
    knows: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Node:
    limit: int
    made: int = 0
    everyone: list[_Executor] = field(default_factory=list)
    free: deque[_Executor] = field(default_factory=deque)
    waiting: deque[asyncio.Future[_Executor]] = field(default_factory=deque)


@dataclass(slots=True)
class _Run:
    start: StartTask
    task: asyncio.Task[None] | None = None
    executor: _Executor | None = None
    begun: bool = False
    stopping: bool = False


class Pool:
    """Executors on every node.

    Parameters
    ----------
    deliver : callable
        Takes the events of how runs went.
    functions : callable
        Returns the pickle of a function by its hash.
    leases : Leases
        What covers the runs.
    epoch : int
        Of the scheduler; part of the executors' names, so that none takes the name of one that is just dying.
    """

    #: Tasks start as soon as they can.
    eager = True

    def __init__(
        self, deliver: Callable[..., None], functions: Callable[[str], bytes], leases: Leases, *, epoch: int
    ) -> None:
        self._epoch = epoch
        self._deliver = deliver
        self._functions = functions
        self._leases = leases
        self._nodes: dict[str, _Node] = {}
        self._runs: dict[str, _Run] = {}
        self._start_s: deque[float] = deque(maxlen=20)
        self._measuring: set[asyncio.Task[None]] = set()

    def join(self, node_id: str, cores: float, *, warm: int = 0) -> None:
        """Learn of a node, and start `warm` executors there."""
        if node_id not in self._nodes:
            self._nodes[node_id] = _Node(limit=max(2, int(cores * EXECUTORS_PER_CORE)))
            for _ in range(warm):
                executor = self._make(node_id)
                self._nodes[node_id].free.append(executor)

    def _make(self, node_id: str) -> _Executor:
        node = self._nodes[node_id]
        node.made += 1
        name = f"{PREFIX}{node_id[:8]}-{self._epoch}-{node.made}"
        handle = (
            ray.remote(ExecutorActor)
            .options(
                name=name,
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=0,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(name)
        )
        executor = _Executor(name, handle)
        node.everyone.append(executor)
        measuring = asyncio.get_running_loop().create_task(self._measure_start(handle))
        self._measuring.add(measuring)
        measuring.add_done_callback(self._measuring.discard)
        return executor

    async def _measure_start(self, handle: Any) -> None:
        """Measure how long a new executor takes until it answers: the cold start that the balancer plans with."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(Exception):
            await handle.ping.remote()
            self._start_s.append(loop.time() - began)

    def start(self, instruction: StartTask, call: object) -> None:
        """Begin one attempt of a task; how it goes comes back as events."""
        run = _Run(instruction)
        self._runs[instruction.task_id] = run
        run.task = asyncio.get_running_loop().create_task(self._run(run, call))

    def wait(self, timeout_s: float | None) -> list[Event]:
        """Return nothing: events come through `deliver`."""
        del timeout_s
        return []

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        """End one attempt: its executor is ended if it runs already, and another takes its place."""
        run = self._runs.get(task_id)
        if run is None or run.start.attempt != attempt:
            return
        run.stopping = True
        log.info("event=task_stopped task_id=%s attempt=%d reason=%s", task_id, attempt, reason)
        if run.executor is not None:
            self._discard(run.start.node_id, run.executor)
        elif run.task is not None and run.begun:
            run.task.cancel()  # one that has not begun would end without a word; it looks for itself

    async def _run(self, run: _Run, call: object) -> None:
        """Carry one attempt through; its executor and its lease are free again before its end is told."""
        start = run.start
        covered = False
        run.begun = True
        event: Event
        try:
            if run.stopping:
                raise asyncio.CancelledError
            refused = "" if start.reservation else await self._leases.cover(start.node_id, start.demand)
            if refused:
                event = StartRefused(start.task_id, start.attempt, refused)
            else:
                covered = not start.reservation
                run.executor = await self._take(start.node_id, call)
                self._deliver(TaskStarted(start.task_id, start.attempt))
                event = await self._outcome(run, call)
        except asyncio.CancelledError:
            event = TaskStopped(start.task_id, start.attempt)
        except Exception as error:
            log.exception("event=run_failed task_id=%s", start.task_id)
            event = TaskFailed(start.task_id, start.attempt, kind="worker_lost", error=repr(error))
        if self._runs.get(start.task_id) is run:
            del self._runs[start.task_id]
        if covered:
            self._leases.uncover(start.node_id, start.demand)
        if run.executor is not None:
            self._give_back(start.node_id, run.executor)
        self._deliver(event)

    async def _outcome(self, run: _Run, call: object) -> TaskFinished | TaskFailed | TaskStopped:
        start, executor = run.start, run.executor
        assert executor is not None
        if not isinstance(call, Call):
            return TaskFailed(start.task_id, start.attempt, error="the call was not kept; submit the task again")
        blob = None if call.function in executor.knows else self._functions(call.function)
        try:
            answer: Answer = await executor.handle.run.options(name=f"task:{call.name}").remote(call, blob)
            if answer.missing:
                answer = await executor.handle.run.remote(call, self._functions(call.function))
        except RayActorError as error:
            self._discard(start.node_id, executor)
            if run.stopping:
                return TaskStopped(start.task_id, start.attempt)
            return TaskFailed(start.task_id, start.attempt, kind="worker_lost", error=f"the executor died: {error}")
        executor.knows.add(call.function)
        if answer.ok:
            return TaskFinished(start.task_id, start.attempt, result=answer, run_s=answer.run_s)
        return TaskFailed(
            start.task_id,
            start.attempt,
            error=answer.error,
            error_type=answer.error_type,
            traceback=answer.traceback + (f"\nIt had printed:\n{answer.output}" if answer.output else ""),
            run_s=answer.run_s,
        )

    async def _take(self, node_id: str, call: object) -> _Executor:
        """Return a free executor, best one that has run the function before: what it loaded is there already."""
        node = self._nodes[node_id]
        if node.free:
            function = call.function if isinstance(call, Call) else ""
            best = next((each for each in node.free if function in each.knows), None)
            best = best or min(node.free, key=lambda each: len(each.knows))
            node.free.remove(best)
            return best
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[_Executor] = loop.create_future()
        node.waiting.append(turn)
        loop.call_later(PATIENCE_S if node.everyone else 0.0, self._grow, node_id)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(node_id, turn.result())  # it came in the moment in which the run was stopped
            raise

    def _grow(self, node_id: str) -> None:
        """Start another executor if a run still waits for one and the node may have more."""
        node = self._nodes.get(node_id)
        if node is not None and len(node.everyone) < node.limit and any(not turn.done() for turn in node.waiting):
            self._give_back(node_id, self._make(node_id))

    def _give_back(self, node_id: str, executor: _Executor) -> None:
        node = self._nodes.get(node_id)
        if node is None:
            return
        if executor not in node.everyone:
            if not node.waiting:
                return
            executor = self._make(node_id)
        while node.waiting:
            turn = node.waiting.popleft()
            if not turn.done():
                turn.set_result(executor)
                return
        node.free.appendleft(executor)

    def _discard(self, node_id: str, executor: _Executor) -> None:
        node = self._nodes.get(node_id)
        if node is not None and executor in node.everyone:
            node.everyone.remove(executor)
            with contextlib.suppress(Exception):
                ray.kill(executor.handle, no_restart=True)

    def lose(self, node_id: str) -> None:
        """Forget a node that is gone; its runs end as Ray reports their executors' death."""
        node = self._nodes.pop(node_id, None)
        self._leases.lose(node_id)
        for turn in node.waiting if node else ():
            turn.cancel()
        for executor in node.everyone if node else ():
            with contextlib.suppress(Exception):
                ray.kill(executor.handle, no_restart=True)

    @staticmethod
    def end_leftovers() -> int:
        """End the executors of an earlier scheduler, which may still run attempts that nobody awaits."""
        ended = 0
        for entry in ray.util.list_named_actors(all_namespaces=True):
            if entry["namespace"] == NAMESPACE and entry["name"].startswith(PREFIX):
                with contextlib.suppress(Exception):
                    ray.kill(ray.get_actor(entry["name"], namespace=NAMESPACE), no_restart=True)
                    ended += 1
        return ended

    def stats(self) -> dict[str, Any]:
        """Return ``executors`` by node, ``free`` ones, ``runs`` under way, ``executor_start_s`` (measured mean)."""
        return {
            "executors": {name: len(node.everyone) for name, node in sorted(self._nodes.items())},
            "free": sum(len(node.free) for node in self._nodes.values()),
            "runs": len(self._runs),
            "executor_start_s": sum(self._start_s) / len(self._start_s) if self._start_s else None,
        }
