"""The actor around `TaskScheduler`: it keeps time, runs the pool of executors, and answers those who wait.

The scheduler's decisions are made in this process, in microseconds, on the capacity that the resource
allocator has told it.  What it acknowledges is in the store.  After a restart it goes on from there: the
executors of the former incarnation are ended first, so that no attempt runs beside its successor.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from actors.announcer import Announcer
from actors.base import Shell, ask, call_id
from actors.bulks import task_spec
from actors.crew import KEEP_S as EXECUTORS_KEPT_S
from actors.desk import Desk
from actors.function_store import FunctionStore
from actors.leases import IDLE_S, Leases
from actors.node_view import node_events, warm_executors
from actors.pool import WARM_EVERY_S, Pool
from actors.task_journal import TaskJournal
from actors.task_list import list_tasks
from actors.warmth import SERVICES
from balance.client.wire import Answer, Bulk, Call, Function, PlainOutcome
from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import (
    ClockAdvanced,
    Event,
    NodeLost,
)
from balance.core.scheduler.instructions import FinishTask
from balance.core.scheduler.policy import SchedulingPolicy, tenants_of
from balance.core.scheduler.spec import ONE_CPU
from balance.errors import InvalidValue
from balance.types import Priority, Resources, check_number, check_priority

CHUNKS = SchedulingPolicy(chunk_s=0.005, chunk_max=256)
"""Tasks that are short together go to an executor together: long enough to be worth it, short enough to wait for."""

FORGET_EVERY_S = 600.0
"""How often tasks are looked for that are over for longer than they are to be remembered."""

LEARN_EVERY_S = 30.0
"""How often placement looks whether what is asked for has told it enough to learn from, and what was measured of
tasks is put into the store for the next start."""

COLLECT_AFTER = 50_000
"""How many objects come into being before Python looks for cycles among them."""


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
        self.functions = FunctionStore(self.store, self.commit)
        self.pool = Pool(
            self.deliver,
            self.functions.blob,
            self.leases,
            epoch=self.fence.epoch,
            result_limit_bytes=self.settings.result_limit_bytes,
        )
        self.scheduler = TaskScheduler(
            clock=self.clock,
            executor=self.pool,
            journal=self.journal,
            nodes=(),
            policy=replace(CHUNKS, tenants=tenants_of(self.settings.tenants)),
        )
        self.desk = Desk(
            self.scheduler,
            self.journal,
            self.functions,
            clock=self.clock,
            epoch=self.fence.epoch,
            entered=self._entered,
        )
        announcer = Announcer(lambda: self.insist(self.journal.durable), self._tell, self.spawn)
        self.scheduler.on_finish(announcer.finished)
        self._learnt: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._view: dict[str, Any] = {"version": -1, "nodes": []}
        self._timer: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self.spawn(self._begin())

    async def _begin(self) -> None:
        """Learn of the cluster, then take up what was queued and what was running."""
        await self.cluster_changed(await self.insist(self._view_of_allocator))
        self.pool.warmth.restore(self.store.scan(SERVICES), self.functions.blob)
        self._learnt = self.store.get("scheduler", "learnt") or {}
        self.scheduler.engine.relearn(self._learnt)
        found = self.scheduler.recover()
        if found:
            self.log.info("event=tasks_taken_up count=%d", found)
        # Tasks come and go by the thousand and form no cycles: without this, a fifth of the time of a busy scheduler
        # goes to a collector that looks through them, and through all of Ray's modules, in vain.
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 20, 100)
        self._ready.set()
        self._arm()
        self.spawn(self.every(IDLE_S, self.leases.give_back_idle))
        self.spawn(self.every(LEARN_EVERY_S, self._learn_placement))
        self.spawn(self.every(LEARN_EVERY_S, self._keep_learnt))
        self.spawn(self.every(WARM_EVERY_S, self.pool.keep_warm))
        self.spawn(self.every(60.0, self.desk.forget_absent))
        self.spawn(self.every(FORGET_EVERY_S, self._forget_old))
        self.spawn(self.every(EXECUTORS_KEPT_S, self.pool.tidy))

    async def _view_of_allocator(self) -> dict[str, Any]:
        view: dict[str, Any] = await ask("resource_allocator", "scheduler_view", self.leases.prefix)
        return view

    async def _learn_placement(self) -> None:
        engine = self.scheduler.engine
        lesson = engine.placement_lesson()
        if lesson is not None:
            engine.place_by(await asyncio.to_thread(lesson.learn))

    async def _keep_learnt(self) -> None:
        learnt = self.scheduler.engine.learnt()
        if learnt != self._learnt:
            await self.commit(lambda tx: tx.put("scheduler", "learnt", learnt))
            self._learnt = learnt

    async def closed(self) -> None:
        """End the executors; queued and running tasks are taken up by the next start."""
        self.scheduler.pause()
        await self._keep_learnt()
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
            if node_id not in before:
                limit = Resources.from_dict(node["total"])
                warm = warm_executors(node, autoscaling=self.settings.autoscaling)
                self.pool.join(node_id, limit.cpu, gpus=limit.gpu, warm=warm)
            events += node_events(node, before.get(node_id))
        if events:
            self.deliver(*events)
        self.pool.warmth.look(view["nodes"])

    async def serve(self, reservation: str, function: Function | None, demand: Mapping[str, Any]) -> None:
        """As `Warmth.serve`; it is remembered."""
        if function is not None:
            await self.functions.keep({function.digest: function.blob})
        await self.commit(self.pool.warmth.serve(reservation, function, demand))

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
        spec = task_spec(task_id, {"name": name or call.name, "demand": demand, "priority": priority, **options})
        if blob is not None:
            await self.functions.keep({call.function: blob})
        new = await self.desk.submit(spec, call)
        return {"status": "accepted" if new else "known", "task_id": task_id}

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
        await self._ready.wait()
        await self.desk.wait(task_id)
        return await self.outcome(task_id)

    async def outcome(self, task_id: str) -> dict[str, Any]:
        """Return how a task stands (the keys of `TaskStatus`), ``over`` and ``answer``; `UnknownId` if unknown."""
        await self._ready.wait()
        found = await self.desk.find(task_id)
        answer = found.result if isinstance(found.result, Answer) else None
        return {**(await self.desk.status(task_id)).to_dict(), "over": found.state.terminal, "answer": answer}

    async def cancel(self, task_id: str) -> bool:
        """As `TaskScheduler.cancel`."""
        return (await self.cancel_many([task_id]))[0]

    async def cancel_many(self, ids: Sequence[str]) -> list[bool]:
        """As `Desk.cancel_many`."""
        await self._ready.wait()
        return await self.desk.cancel_many(ids)

    async def leave(self, client_id: str) -> None:
        """As `Desk.leave`."""
        self.desk.leave(client_id)

    async def status(self, task_id: str) -> dict[str, Any]:
        """Return how a task stands: the keys of `TaskStatus`."""
        await self._ready.wait()
        return (await self.desk.status(task_id)).to_dict()

    async def tasks(
        self, state: str | None = None, tenant: str | None = None, name: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """As `list_tasks`."""
        await self._ready.wait()
        return await list_tasks(self.scheduler, state=state, tenant=tenant, name=name, limit=limit)

    async def explain(self, task_id: str) -> dict[str, Any]:
        """Return why a task is where it is: the keys of `Explanation`."""
        await self._ready.wait()
        return (await self.desk.explain(task_id)).to_dict()

    async def submit_bulk(self, client_id: str, bulk: Bulk) -> dict[str, Any]:
        """As `Desk.submit_bulk`."""
        await self._ready.wait()
        return await self.desk.submit_bulk(client_id, bulk)

    async def collect(self, client_id: str, after: int, wait_s: float = 0.0, limit: int = 5000) -> dict[str, Any]:
        """As `Desk.collect`."""
        await self._ready.wait()
        return await self.desk.collect(client_id, after, wait_s, limit)

    async def follow(self, client_id: str, ids: Sequence[str]) -> dict[str, Any]:
        """As `Desk.follow`."""
        await self._ready.wait()
        return await self.desk.follow(client_id, ids)

    async def results(self, ids: Sequence[str]) -> list[PlainOutcome]:
        """As `Desk.results`."""
        await self._ready.wait()
        return await self.desk.results(ids)

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
        await self.desk.close()
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

    async def _forget_old(self) -> None:
        """Forget, in memory and on disk, what is over for longer than it is to be remembered."""
        before, engine = self.clock.wall() - self.settings.tasks_kept_s, self.scheduler.engine
        for task in [engine.task(task_id) for task_id in engine.state.history]:
            if task.finished_at is not None and task.finished_at < before:
                engine.forget(task.task_id)
        gone = await self.journal.forget(before)
        if gone:
            self.log.info("event=tasks_forgotten count=%d", gone)

    def _entered(self) -> None:
        self._changed.set()
        self._arm()

    def _tell(self, ended: Sequence[FinishTask]) -> None:
        self.desk.tell(ended)
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
