"""The actor around `TaskScheduler`: it keeps time, runs the pool of executors, and answers those who wait.

The scheduler's decisions are made in this process, in microseconds, on the capacity that the resource
allocator has told it.  What it acknowledges is in the store.  After a restart it goes on from there: the
executors of the former incarnation are ended first, so that no attempt runs beside its successor.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

from ray import cloudpickle

from actors.base import Shell, ask, call_id
from actors.leases import IDLE_S, Leases
from actors.pool import Pool
from actors.task_journal import TaskJournal
from balance.client.wire import Answer, Call, Function
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import (
    CapacityChanged,
    ClockAdvanced,
    Event,
    NodeJoined,
    NodeLost,
    ReservationAdded,
    ReservationRemoved,
)
from balance.core.scheduler.instructions import FinishTask
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.errors import BalanceError, Conflict, InvalidValue, UnknownId
from balance.types import Priority, Resources, check_number, check_priority

FUNCTIONS_KEPT = 1000
"""How many functions are kept in memory; the store has them all."""


class SchedulerActor(Shell):
    """Queues tasks and runs them on executors, in the right order."""

    role: ClassVar[str] = "scheduler"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        ended = Pool.end_leftovers()
        if ended:
            self.log.info("event=executors_ended count=%d reason=restart", ended)
        self.journal = TaskJournal(self.store, self.commits)
        self.leases = Leases(self._look_again)
        self.pool = Pool(self.deliver, self._function, self.leases, epoch=self.fence.epoch)
        self.scheduler = TaskScheduler(clock=self.clock, executor=self.pool, journal=self.journal, nodes=())
        self.scheduler.on_finish(self._on_finish)
        self._functions: OrderedDict[str, bytes] = OrderedDict()
        self._over: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Event()
        self._view: dict[str, Any] = {"version": -1, "nodes": []}
        self._timer: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self.spawn(self._begin())

    async def _begin(self) -> None:
        """Learn of the cluster, then take up what was queued and what was running."""
        await self.cluster_changed(await self.insist(self._view_of_allocator))
        found = self.scheduler.recover()
        if found:
            self.log.info("event=tasks_taken_up count=%d", found)
        self._ready.set()
        self._arm()
        self.spawn(self.every(IDLE_S, self.leases.give_back_idle))

    async def _view_of_allocator(self) -> dict[str, Any]:
        view: dict[str, Any] = await ask("resource_allocator", "scheduler_view", self.leases.prefix)
        return view

    async def closed(self) -> None:
        """End the executors; queued and running tasks are taken up by the next start."""
        self.scheduler.pause()
        await self.journal.durable()
        Pool.end_leftovers()

    # -- facts in ----------------------------------------------------------------------------------

    def deliver(self, *events: Event) -> None:
        """Take in what happened, carry out what follows, and set the timer for what falls due next."""
        self.scheduler.deliver(*events)
        self._changed.set()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.scheduler.next_due()
        if due is not None:
            wait = max(0.0, due - self.scheduler.now())
            self._timer = asyncio.get_running_loop().call_later(wait, self.deliver, ClockAdvanced())

    def _look_again(self) -> None:
        asyncio.get_running_loop().call_soon(self.deliver, ClockAdvanced())

    async def cluster_changed(self, view: dict[str, Any]) -> None:
        """Take in which nodes there are and how much of each tasks may use; older views are ignored."""
        if view["version"] <= self._view["version"]:
            return
        before = {node["node_id"]: node for node in self._view["nodes"]}
        now = {node["node_id"]: node for node in view["nodes"]}
        self._view = view
        events: list[Event] = [NodeLost(node_id) for node_id in sorted(before.keys() - now.keys())]
        for node_id in sorted(before.keys() - now.keys()):
            self.pool.lose(node_id)
        for node_id, node in sorted(now.items()):
            events += self._node_events(node, before.get(node_id))
        if events:
            self.deliver(*events)

    def _node_events(self, node: dict[str, Any], before: dict[str, Any] | None) -> list[Event]:
        node_id, capacity, devices = node["node_id"], Resources.from_dict(node["capacity"]), _devices(node["devices"])
        events: list[Event] = []
        if before is None:
            limit = Resources.from_dict(node["total"])
            self.pool.join(node_id, limit.cpu, warm=max(1, round(limit.cpu)))
            events.append(NodeJoined(node_id, capacity, devices, limit))
        elif (node["capacity"], node["devices"]) != (before["capacity"], before["devices"]):
            events.append(CapacityChanged(node_id, capacity, devices))
        held = {entry["name"]: entry for entry in before["reservations"]} if before else {}
        for entry in node["reservations"]:
            if held.pop(entry["name"], None) != entry:
                amount = Resources.from_dict(entry["capacity"])
                events.append(ReservationAdded(entry["name"], node_id, amount, _devices(entry["devices"])))
        return [*(ReservationRemoved(name) for name in sorted(held)), *events]

    # -- the contract ------------------------------------------------------------------------------

    async def schedule_task(
        self, task: Callable[..., Any], priority: int = 1, delay: float = 0, *args: Any, **kwargs: Any
    ) -> None:
        """As `TaskScheduler.schedule_task`; the task runs on an executor of the cluster."""
        await self._ready.wait()
        if not callable(task):
            raise InvalidValue("task", task, "a callable")
        wait_s = check_number("delay", delay, minimum=0, what="number of seconds")
        function = Function.of(task)
        await self.submit_call(
            f"{function.name}-{call_id()}",
            function.call(*args, **kwargs),
            function.blob,
            demand=ONE_CPU.to_dict(),
            priority=check_priority(priority),
            not_before=self.scheduler.now() + wait_s if wait_s else None,
        )

    async def execute_next_task(self) -> bool:
        """As `TaskScheduler.execute_next_task`; what can start is usually running already."""
        started = self.scheduler.execute_next_task()
        self._arm()
        return started

    async def run_scheduler(self) -> None:
        """Return when no task is left that could run: the executors work by themselves."""
        await self._until_idle()

    async def get_scheduled_tasks(self) -> list[dict[str, Any]]:
        """As `TaskScheduler.get_scheduled_tasks`."""
        return self.scheduler.get_scheduled_tasks()

    # -- for the other actors and for clients -------------------------------------------------------------

    async def submit_call(
        self,
        task_id: str,
        call: Call,
        blob: bytes | None = None,
        *,
        demand: Mapping[str, Any],
        priority: int = Priority.MEDIUM,
        name: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Queue one call; the same id with the same call again is the same task.

        Raises
        ------
        Conflict
            The id stands for another call.
        """
        await self._ready.wait()
        spec = _spec(task_id, name or call.name, demand, priority, options)
        if blob is not None:
            await self._keep_function(call, blob)
        known = await self._known(task_id)
        if known is None:
            self.scheduler.submit_many([(spec, call)])
        elif known != call.function:
            raise Conflict(f"task {task_id!r} exists already and runs another function", task_id=task_id)
        await self._acknowledge()
        return {"status": "known" if known else "accepted", "task_id": task_id}

    async def run_call(self, task_id: str, call: Call, blob: bytes | None = None, **options: Any) -> dict[str, Any]:
        """Queue one call and wait for its end; see `submit_call` and `wait`."""
        await self.submit_call(task_id, call, blob, **options)
        return await self.wait(task_id)

    async def wait(self, task_id: str) -> dict[str, Any]:
        """Wait until a task is over.

        Returns
        -------
        dict
            The keys of `TaskStatus`, and ``answer``: the executor's `Answer` where it completed.
        """
        while True:
            outcome = await self.outcome(task_id)
            if outcome["over"]:
                await self.journal.durable()
                return outcome
            await self._over[task_id].wait()

    async def outcome(self, task_id: str) -> dict[str, Any]:
        """Return how a task stands (the keys of `TaskStatus`), ``over`` and ``answer``; `UnknownId` if unknown."""
        await self._ready.wait()
        try:
            found = self.scheduler.outcome(task_id)
        except UnknownId:
            return self._stored(task_id)
        if found.status.status == State.COMPLETED and found.result is None:
            return self._stored(task_id)  # taken up after a restart, without its result
        status = found.to_dict()
        answer = status.pop("result")
        return {**status, "over": found.done, "answer": answer if isinstance(answer, Answer) else None}

    def _stored(self, task_id: str) -> dict[str, Any]:
        with self.store.reading() as tx:
            row = tx.tasks.get(task_id)
        if row is None:
            raise UnknownId("task", task_id)
        kept = row["spec"]
        return {
            "task_id": task_id,
            "name": kept["spec"]["name"],
            "status": row["state"],
            "priority": row["priority"],
            "attempt": row["attempt"],
            "node_id": row["node"],
            "submitted_at": row["submitted_at"],
            "started_at": row["started_at"],
            "finished_at": row["finished_at"],
            "queued_s": max(0.0, (row["started_at"] or row["finished_at"] or 0.0) - row["submitted_at"]),
            "run_s": (row["finished_at"] or 0.0) - row["started_at"] if row["started_at"] else None,
            "reason": kept["reason"],
            "error": kept["error"],
            "over": True,
            "answer": None if row["result"] is None else cloudpickle.loads(row["result"]),
        }

    async def cancel(self, task_id: str) -> bool:
        """As `TaskScheduler.cancel`."""
        done = self.scheduler.cancel(task_id)
        self._arm()
        return done

    async def explain(self, task_id: str) -> dict[str, Any]:
        """As `TaskScheduler.explain`."""
        return self.scheduler.explain(task_id)

    async def recall_idle(self, node_id: str | None = None) -> list[str]:
        """Give up the leases that no task needs now; the allocator, which asks, releases them."""
        return self.leases.recall(node_id)

    async def drain(self, timeout_s: float) -> dict[str, Any]:
        """Take no new tasks and wait, at most `timeout_s` seconds, for those there are.

        Returns
        -------
        dict
            ``status`` (``drained | timed_out``) and the scheduler's ``queue``.
        """
        self.scheduler.drain()
        try:
            await asyncio.wait_for(self._until_idle(), timeout_s)
        except TimeoutError:
            return {"status": "timed_out", "queue": self.scheduler.queue_stats()}
        return {"status": "drained", "queue": self.scheduler.queue_stats()}

    async def stats(self) -> dict[str, Any]:
        """Return ``queue`` (see `QueueStats`, and ``queued``, ``running``), ``leases`` and ``pool``."""
        queue = self.scheduler.queue_stats()
        states = queue["by_state"]
        return {
            "queue": {
                **queue,
                "queued": sum(states.get(name, 0) for name in ("queued", "waiting", "delayed", "retrying")),
                "running": states.get("running", 0),
            },
            "leases": self.leases.to_dict(),
            "pool": self.pool.stats(),
        }

    # -- inside ------------------------------------------------------------------------------------

    async def _known(self, task_id: str) -> str | None:
        """Return the function of a task that exists, None if there is none."""
        task = self.scheduler.engine.state.tasks.get(task_id)
        if task is not None and isinstance(task.call, Call):
            return task.call.function
        if task is not None:
            await self.journal.durable()  # it is over, and which call it was is in the store alone
        with self.store.reading() as tx:
            row = tx.tasks.get(task_id)
        return None if row is None else str(row["function_hash"])

    async def _keep_function(self, call: Call, blob: bytes) -> None:
        if call.function not in self._functions:
            await self.commit(lambda tx: tx.tasks.put_functions({call.function: blob}))
            self._remember(call.function, blob)

    def _function(self, digest: str) -> bytes:
        if digest not in self._functions:
            with self.store.reading() as tx:
                self._remember(digest, tx.tasks.functions([digest])[digest])
        return self._functions[digest]

    def _remember(self, digest: str, blob: bytes) -> None:
        self._functions[digest] = blob
        while len(self._functions) > FUNCTIONS_KEPT:
            self._functions.popitem(last=False)

    async def _acknowledge(self) -> None:
        self._changed.set()
        self._arm()
        await self.journal.durable()

    def _on_finish(self, finished: FinishTask) -> None:
        self.spawn(self._announce(finished))

    async def _announce(self, finished: FinishTask) -> None:
        """Tell those who wait, once the end is on disk."""
        await self.insist(self.journal.durable)
        level = "info" if finished.state == "completed" else "warning"
        getattr(self.log, level)(
            "event=task_over task_id=%s state=%s attempt=%d %s",
            finished.task_id,
            finished.state,
            finished.attempt,
            finished.reason,
        )
        waiting = self._over.pop(finished.task_id, None)
        if waiting is not None:
            waiting.set()
        self._changed.set()

    async def _until_idle(self) -> None:
        await self._ready.wait()
        while True:
            self._changed.clear()
            states = self.scheduler.queue_stats()["by_state"]
            if not any(states.get(name, 0) for name in ("queued", "delayed", "retrying", "running")):
                await self.journal.durable()
                return
            await self._changed.wait()


def _spec(task_id: str, name: str, demand: Mapping[str, Any], priority: int, options: Mapping[str, Any]) -> TaskSpec:
    """Return the spec of a task whose options came as JSON values from a client."""
    unknown = sorted(options.keys() - {field.name for field in fields(TaskSpec)})
    if unknown:
        raise InvalidValue("options", unknown, "names of attributes of balance.core.scheduler.spec.TaskSpec")
    given = {"task_id": task_id, "name": name, "demand": demand, "priority": priority, **options}
    try:
        return TaskSpec.from_dict(given)
    except BalanceError:
        raise
    except TypeError as error:
        raise InvalidValue("options", dict(options), f"values that a task can have ({error})") from None


def _devices(devices: Sequence[Sequence[int]] | None) -> tuple[tuple[int, int], ...] | None:
    return None if devices is None else tuple((int(index), int(amount)) for index, amount in devices)
