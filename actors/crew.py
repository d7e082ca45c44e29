"""The executors of every node: who is free, who waits for one, when another is started or ended.

Executors that see the same devices of one node are interchangeable, and make up one *place*.  Each runs
one thing at a time.  They are started when someone has waited for one (a start takes half a second), up to a
limit for each place, and ended when nobody has needed them for a while, or when their node has many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import NAMESPACE
from actors.executors import CONTROL, CONTROL_THREADS, PREFIX, ExecutorActor

PER_CORE = 3
"""How many executors that see no GPU a node may have for each core; more runs than that wait for a free one."""

PER_DEVICE = 8
"""How many executors may share the same devices."""

PATIENCE_S = 0.1
"""How long a run waits for a free executor before another one is started, which takes half a second itself."""

STARTS_KEPT = 20
"""Of how many starts it is remembered how long they took."""

KEEP_S = 60.0
"""How long an executor that nobody needs is kept, beyond those that were started when the node joined."""

Devices = tuple[int, ...]

log = logging.getLogger("balance.crew")


@dataclass(slots=True, eq=False)
class Executor:
    """One executor, as the scheduler knows it.

    Attributes
    ----------
    name, node_id : str
        Who and where.
    devices : tuple of int
        The GPUs that it sees.
    handle : object
        Of its actor.
    knows : set of str
        The functions that have been sent to it, by hash.
    free_since : float
        When it was last given back, in seconds of the event loop's clock.
    lived : bool
        Whether it has ever answered.
    keeps : set of str
        The functions for which it is kept ready: see `Crew.keep_ready`.
    ended : bool
        Whether it was given up.
    """

    name: str
    node_id: str
    devices: Devices
    handle: Any
    knows: set[str] = field(default_factory=set)
    free_since: float = 0.0
    lived: bool = False
    keeps: set[str] = field(default_factory=set)
    ended: bool = False


@dataclass(slots=True)
class _Place:
    limit: int
    warm: int
    everyone: list[Executor] = field(default_factory=list)
    free: deque[Executor] = field(default_factory=deque)
    waiting: deque[asyncio.Future[Executor]] = field(default_factory=deque)

    def next_waiting(self) -> asyncio.Future[Executor] | None:
        """Return who has waited longest and still does."""
        while self.waiting and self.waiting[0].done():
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


@dataclass(slots=True)
class _Node:
    cores: float
    gpus: float
    warm: int
    made: int = 0
    places: dict[Devices, _Place] = field(default_factory=dict)

    def place(self, devices: Devices) -> _Place:
        if devices not in self.places:
            limit = PER_DEVICE if devices else max(2, int(self.cores * PER_CORE))
            self.places[devices] = _Place(limit, 0 if devices else self.warm)
        return self.places[devices]

    @property
    def many(self) -> bool:
        """Whether there are as many executors as all devices and cores, used singly, could have."""
        limit = self.place(()).limit + PER_DEVICE * int(self.gpus)
        return sum(len(place.everyone) for place in self.places.values()) >= limit


class Crew:
    """Executors on every node.

    Parameters
    ----------
    epoch : int
        Of the scheduler; part of the executors' names, so that none takes the name of one that is just dying.
    result_limit_bytes : int
        The most that a task may return.
    """

    def __init__(self, *, epoch: int, result_limit_bytes: int) -> None:
        self._epoch = epoch
        self._result_limit_bytes = result_limit_bytes
        self._nodes: dict[str, _Node] = {}
        self._start_s: deque[float] = deque(maxlen=STARTS_KEPT)
        self._ready_s: dict[str, deque[float]] = {}
        self._watching: set[asyncio.Task[None]] = set()

    def __contains__(self, node_id: str) -> bool:
        """Say whether a node is known."""
        return node_id in self._nodes

    # -- nodes -------------------------------------------------------------------------------------

    def join(self, node_id: str, cores: float, *, gpus: float = 0.0, warm: int = 0) -> None:
        """Learn of a node, and start `warm` executors there that see no GPU."""
        if node_id not in self._nodes:
            self._nodes[node_id] = _Node(cores, gpus, warm)
            for _ in range(warm):
                self._put_free(self._make(node_id, ()))

    def lose(self, node_id: str) -> None:
        """Forget a node that is gone; who waits there waits no more."""
        node = self._nodes.pop(node_id, None)
        for place in node.places.values() if node else ():
            for turn in place.waiting:
                turn.cancel()
            for executor in list(place.everyone):
                self._drop(place, executor)

    # -- taking turns ------------------------------------------------------------------------------

    def take_free(self, node_id: str, devices: Devices, functions: Iterable[str]) -> Executor | None:
        """Return an executor that is free now; best one that has run these functions before, which it has loaded."""
        node = self._nodes.get(node_id)
        place = node.places.get(devices) if node is not None else None
        if place is None or not place.free or place.next_waiting() is not None:
            return None
        best = place.free[0]
        if not best.knows.issuperset(functions):
            wanted = set(functions)
            knowing = (each for each in place.free if each.knows >= wanted)
            best = next(knowing, None) or min(place.free, key=lambda each: (len(each.keeps), len(each.knows)))
        place.free.remove(best)
        return best

    async def take(self, node_id: str, devices: Devices, functions: Iterable[str]) -> Executor:
        """Return an executor as soon as one is free; who came first is served first.

        Raises
        ------
        KeyError
            The node is gone.
        """
        free = self.take_free(node_id, devices, functions)
        if free is not None:
            return free
        place = self._nodes[node_id].place(devices)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Executor] = loop.create_future()
        place.waiting.append(turn)
        loop.call_later(PATIENCE_S if place.everyone else 0.0, self._grow, node_id, devices)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(turn.result())  # it came in the moment in which the run was stopped
            raise

    def give_back(self, executor: Executor) -> None:
        """Let the next one have an executor; one that was discarded meanwhile is replaced if someone waits."""
        node = self._nodes.get(executor.node_id)
        if node is None:
            return
        if not executor.ended:
            self._put_free(executor)
        else:
            self._grow(executor.node_id, executor.devices)

    def discard(self, executor: Executor) -> None:
        """End an executor, and whatever runs on it; where few are left, another takes its place."""
        node = self._nodes.get(executor.node_id)
        if node is None or executor.ended:
            return
        place = node.place(executor.devices)
        self._drop(place, executor)
        # One that never lived has no successor: what kept it from starting may keep the next one, too.
        if executor.lived and len(place.everyone) < place.warm:
            self._put_free(self._make(executor.node_id, executor.devices))

    def end_idle(self, now: float) -> int:
        """End executors that nobody has needed for `KEEP_S` seconds; return how many."""
        idle = [
            executor
            for node in self._nodes.values()
            for place in node.places.values()
            for executor in list(place.free)[place.warm :]
            if not executor.keeps and now - executor.free_since > KEEP_S
        ]
        for executor in idle:
            self.discard(executor)
        return len(idle)

    # -- ready ahead of time -----------------------------------------------------------------------

    def keep_ready(self, node_id: str, devices: Devices, digest: str, blob: bytes, count: int) -> None:
        """Let `count` executors have a function loaded before anybody calls it; fewer if their place has no room.

        They are those of a node that see these devices.  Free ones load it, else new ones are started.  What is ready
        stays until a smaller count is told.
        """
        node = self._nodes.get(node_id)
        if node is None:
            return
        place = node.place(devices)
        keeping = [executor for executor in place.everyone if digest in executor.keeps]
        for executor in keeping[count:]:
            executor.keeps.discard(digest)
        known = [executor for executor in place.everyone if digest in executor.knows and digest not in executor.keeps]
        for executor in known[: max(0, count - len(keeping))]:
            executor.keeps.add(digest)
            keeping.append(executor)
        for _ in range(count - len(keeping)):
            idle = [executor for executor in place.free if not executor.keeps]
            if idle:
                executor = min(idle, key=lambda each: len(each.knows))
                place.free.remove(executor)
            elif len(place.everyone) < place.limit:
                executor = self._make(node_id, devices)
            else:
                return
            executor.keeps.add(digest)
            self._beside(self._prepare(executor, digest, blob))

    async def _prepare(self, executor: Executor, digest: str, blob: bytes) -> None:
        """Let an executor, which nobody else has, load a function; so long is the start of a replica."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            failed = await executor.handle.prepare.remote(digest, blob)
        except Exception as error:  # its death is noticed by `_watch`
            log.info("event=not_prepared name=%s reason=%r", executor.name, error)
            return
        if failed:
            log.warning("event=not_prepared name=%s reason=%s", executor.name, failed)
        else:
            executor.knows.add(digest)
            self._ready_s.setdefault(digest, deque(maxlen=STARTS_KEPT)).append(loop.time() - began)
        self.give_back(executor)

    def ready_s(self, digest: str) -> list[float]:
        """Return how long the last executors took from the decision until they had this function loaded, in seconds."""
        return list(self._ready_s.get(digest, ()))

    def ready(self, digest: str) -> int:
        """Return how many executors have this function loaded, and are kept for it."""
        return sum(
            digest in executor.keeps and digest in executor.knows
            for node in self._nodes.values()
            for place in node.places.values()
            for executor in place.everyone
        )

    def _put_free(self, executor: Executor) -> None:
        """Hand an executor to who has waited longest, or keep it: the one used last is used first."""
        place = self._nodes[executor.node_id].place(executor.devices)
        turn = place.next_waiting()
        if turn is not None:
            place.waiting.popleft()
            turn.set_result(executor)
        else:
            executor.free_since = asyncio.get_running_loop().time()
            place.free.appendleft(executor)

    def _grow(self, node_id: str, devices: Devices) -> None:
        """Start another executor if someone still waits for one and the node may have more."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        place = node.place(devices)
        if place.next_waiting() is None or len(place.everyone) >= place.limit:
            return
        if node.many:
            idle = [(each.free_since, other, each) for other in node.places.values() for each in other.free]
            if idle:
                _since, other, longest = min(idle, key=lambda entry: (entry[0], entry[2].name))
                self._drop(other, longest)
        self._put_free(self._make(node_id, devices))

    @staticmethod
    def _drop(place: _Place, executor: Executor) -> None:
        executor.ended = True
        place.everyone.remove(executor)
        with contextlib.suppress(ValueError):
            place.free.remove(executor)
        with contextlib.suppress(Exception):
            ray.kill(executor.handle, no_restart=True)

    # -- their lives -------------------------------------------------------------------------------

    def _make(self, node_id: str, devices: Devices) -> Executor:
        node = self._nodes[node_id]
        node.made += 1
        name = f"{PREFIX}{node_id[:8]}-{self._epoch}-{node.made}"
        handle = self._start(name, node_id, devices)
        executor = Executor(name, node_id, devices, handle)
        node.place(devices).everyone.append(executor)
        self._beside(self._watch(executor))
        return executor

    def _beside(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _start(self, name: str, node_id: str, devices: Devices) -> Any:
        actor = ray.remote(concurrency_groups={CONTROL: CONTROL_THREADS})(ExecutorActor)
        where = NodeAffinitySchedulingStrategy(node_id, soft=False)
        detached = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "max_restarts": 0, "num_cpus": 0}
        return actor.options(**detached, scheduling_strategy=where).remote(name, devices, self._result_limit_bytes)

    async def _watch(self, executor: Executor) -> None:
        """Measure how long a new executor takes until it answers, and notice when it dies while it is free."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await executor.handle.ping.remote()
            self._start_s.append(loop.time() - began)
            executor.lived = True
            await executor.handle.abide.remote()
        except Exception as error:  # however Ray says it, it is gone
            if not executor.ended:
                log.info("event=executor_lost name=%s reason=%r", executor.name, error)
                self.discard(executor)

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
        """Return ``executors`` by node, ``free`` ones, and ``executor_start_s`` (the measured mean)."""
        return {
            "executors": {
                name: sum(len(place.everyone) for place in node.places.values())
                for name, node in sorted(self._nodes.items())
            },
            "free": sum(len(place.free) for node in self._nodes.values() for place in node.places.values()),
            "executor_start_s": sum(self._start_s) / len(self._start_s) if self._start_s else None,
        }
