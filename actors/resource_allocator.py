"""The actor around `ResourceAllocator`: it makes allocations real in Ray and repairs what has come apart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import NAMESPACE
from actors.base import Shell, peer
from actors.node_view import node_view, watched_nodes
from balance.adapters.host import HostProbe
from balance.adapters.ray_places import RayPlaces, RayProbe
from balance.core.scheduler import ResourceAllocator
from balance.core.scheduler.allocation import Allocation, Denied, Repair
from balance.core.scheduler.node_facts import NodeUse
from balance.errors import ClusterError, UnknownId
from balance.storage import StoreJournal
from balance.types import Resources

SCHEDULER = "scheduler"
JANITOR_S = 5.0
COLLECTION = "allocations"


class _Journal:
    """Keeps allocations as documents of the store."""

    def __init__(self, journal: StoreJournal) -> None:
        self._journal = journal

    def record(self, changes: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
        for name, body in changes:
            if body is None:
                self._journal.delete(COLLECTION, name)
            else:
                self._journal.put(COLLECTION, name, body)

    def load(self) -> Iterable[dict[str, Any]]:
        return [body for _name, body in self._journal.scan(COLLECTION)]


def _asked(demand: Mapping[str, Any]) -> Resources:
    """Return what a caller asks for; `InvalidValue` for what nobody could have, such as 1.5 devices.

    Examples
    --------
    >>> _asked({"gpu": 0.5}).gpu_milli
    500
    """
    return Resources.demand(demand.get("cpu", 0), demand.get("memory", 0), demand.get("gpu", 0), demand.get("custom"))


class _NodeProbe:
    """Measures another node of the cluster, from there."""

    def __init__(self) -> None:
        self._probe = HostProbe()

    def __repr__(self) -> str:
        return "Balance<probe>"

    def measure(self) -> NodeUse:
        [facts] = self._probe.nodes()
        return facts.used


class ResourceAllocatorActor(Shell):
    """Who holds which part of the cluster; each allocation is a placement group of Ray."""

    role: ClassVar[str] = "resource_allocator"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.places = RayPlaces(clock=self.clock)
        self.probe = RayProbe()
        self.allocator = ResourceAllocator(
            probe=self.probe,
            places=self.places,
            clock=self.clock,
            journal=_Journal(StoreJournal(self.store, self.fence)),
        )
        found = self.allocator.recover()
        if found:
            self.log.info("event=allocations_taken_up count=%d", found)
        self._version = int(self.clock.wall() * 1e6)
        self._nodes: tuple[str, ...] = ()
        self._probes: dict[str, Any] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.repairs = 0
        self.spawn(self.every(JANITOR_S, self._reconcile))

    async def closed(self) -> None:
        """Give everything back: who needs it after the next start asks again."""
        for allocation in self.allocator.list_allocations():
            await self.release_allocation(allocation.allocation_id)

    # -- the contract ------------------------------------------------------------------------------

    async def get_system_resources(self) -> dict[str, Any]:
        """As `ResourceAllocator.get_system_resources`."""
        found = self.allocator.get_system_resources()
        self._tell_if_nodes_changed(found)
        return found

    async def can_allocate_resources(self, cpu_demand: float, memory_demand: float, gpu_demand: float = 0.0) -> bool:
        """As `ResourceAllocator.can_allocate_resources`."""
        return self.allocator.can_allocate_resources(cpu_demand, memory_demand, gpu_demand)

    @ray.method(max_task_retries=0)  # type: ignore[untyped-decorator]
    async def allocate_resources(
        self, cpu_demand: float, memory_demand: float, gpu_demand: float = 0.0
    ) -> dict[str, Any]:
        """As `ResourceAllocator.allocate_resources`; the allocation shows in ``ray status``."""
        made = await self._allocate(Resources.demand(cpu_demand, memory_demand, gpu_demand), holder="anonymous")
        return made.to_dict()

    # -- beside the contract -----------------------------------------------------------------------

    async def allocate(
        self, demand: Mapping[str, Any], holder: str, allocation_id: str | None = None
    ) -> dict[str, Any]:
        """Allocate for a named holder; asking again under the same id returns what was given."""
        return (await self._allocate(_asked(demand), holder=holder, allocation_id=allocation_id)).to_dict()

    async def reserve(self, name: str, demand: Mapping[str, Any], replicas: int = 1) -> dict[str, Any]:
        """As `ResourceAllocator.reserve`; idle leases of the scheduler make way."""
        wanted = _asked(demand)
        async with self._turn(name):
            denied = await self._change(name, wanted, replicas)
            if denied is not None and not denied.permanent:
                await self._recall_leases()
                denied = await self._change(name, wanted, replicas)
            made = await asyncio.gather(*map(self._locked, self.allocator.reservation(name)))
            refused = [each for each in made if isinstance(each, Denied)]
            answer = self.allocator.reservation_answer(name, wanted, next(iter(refused), denied))
        self._tell_scheduler()
        return answer

    async def _change(self, name: str, demand: Resources, replicas: int) -> Denied | None:
        """Decide about a reservation, and remove the places of what it gives back."""
        change = self.allocator.decide_reservation(name, demand, replicas)
        await asyncio.gather(*map(self._remove, change.given_back))
        return change.denied

    async def allocate_many(
        self, demands: Sequence[Mapping[str, Any]], holder: str, ids: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Allocate as many as possible of `demands` (``cpu``, ``memory``, ``gpu``) at once.

        As `ResourceAllocator.allocate_many`, as dicts, in the order of `demands`.  Asking again under the same
        `ids` returns what was given.
        """
        wanted = [_asked(each) for each in demands]
        if ids is not None and all(self._known(each) is not None for each in ids):
            known = zip(wanted, ids, strict=True)
            return [(await self._allocate(each, holder=holder, allocation_id=name)).to_dict() for each, name in known]
        await self._recall_leases()
        decided = self.allocator.decide_allocations(wanted, holder=holder, ids=ids)
        made = await asyncio.gather(*map(self._locked, decided))
        self._tell_scheduler()
        return [each.to_dict() for each in made]

    async def lease(
        self, node_id: str, demand: Mapping[str, Any], lease_id: str, devices: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Any]:
        """Give the scheduler a lease on one node; asking again under the same id returns what was given.

        `devices` are ``[index, thousandths]`` of each GPU of the demand, where it must be those.
        """
        where = None if devices is None else tuple((index, amount) for index, amount in devices)
        made = await self._allocate(
            _asked(demand),
            holder=SCHEDULER,
            allocation_id=lease_id,
            node_id=node_id,
            devices=where,
            kind="lease",
        )
        return made.to_dict()

    async def release_allocation(self, allocation_id: str) -> dict[str, Any]:
        """As `ResourceAllocator.release_allocation`."""
        async with self._turn(allocation_id):
            released = self.allocator.decide_release(allocation_id)
            if released is None:
                return {"status": "not_held", "allocation_id": allocation_id}
            await self._remove_place(released)
        if released.kind != "lease":
            self._tell_scheduler()
        return {"status": "released", "allocation_id": allocation_id}

    async def list_allocations(self, holder: str | None = None) -> list[dict[str, Any]]:
        """As `ResourceAllocator.list_allocations`."""
        return [allocation.to_dict() for allocation in self.allocator.list_allocations(holder)]

    async def scheduler_view(self, lease_prefix: str) -> dict[str, Any]:
        """Return what the scheduler may use, and take back the leases of its former incarnations.

        Parameters
        ----------
        lease_prefix : str
            What the ids of the asking incarnation's own leases begin with.

        Returns
        -------
        dict
            As `cluster_changed` of the scheduler takes it: ``version`` and ``nodes``, each with ``node_id``,
            ``total``, ``capacity``, ``devices`` and ``reservations``.
        """
        for allocation in self.allocator.list_allocations(SCHEDULER):
            if not allocation.allocation_id.startswith(lease_prefix):
                await self.release_allocation(allocation.allocation_id)
        return self._view()

    async def stats(self) -> dict[str, Any]:
        """Return `get_system_resources`, and ``repairs``: how often the janitor had to act."""
        return {**await self.get_system_resources(), "repairs": self.repairs}

    # -- inside ------------------------------------------------------------------------------------

    def _turn(self, allocation_id: str) -> asyncio.Lock:
        """Return the lock of one allocation: its place is not removed while it is being created, nor made twice."""
        return self._turns.setdefault(allocation_id, asyncio.Lock())

    async def _allocate(
        self, demand: Resources, *, allocation_id: str | None = None, **how: Any
    ) -> Allocation | Denied:
        if allocation_id is None:
            return await self._make(demand, allocation_id=None, **how)
        async with self._turn(allocation_id):
            return await self._make(demand, allocation_id=allocation_id, **how)

    async def _make(self, demand: Resources, **how: Any) -> Allocation | Denied:
        decided = self.allocator.decide_allocation(demand, **how)
        if isinstance(decided, Denied) and not decided.permanent and how["holder"] != SCHEDULER:
            await self._recall_leases()
            decided = self.allocator.decide_allocation(demand, **how)
        if isinstance(decided, Denied) or decided.state != "pending":
            return decided
        made = await self._realise(decided)
        if decided.kind != "lease":
            self._tell_scheduler()
        return made

    async def _locked(self, decided: Allocation | Denied) -> Allocation | Denied:
        """Create the place of what was decided, where it has none yet."""
        if isinstance(decided, Denied):
            return decided
        async with self._turn(decided.allocation_id):
            now = self._known(decided.allocation_id)  # the janitor may have had it in hand meanwhile
            return decided if now is None or now.state != "pending" else await self._realise(now)

    async def _remove(self, allocation: Allocation) -> None:
        async with self._turn(allocation.allocation_id):
            await self._remove_place(allocation)

    async def _remove_place(self, allocation: Allocation) -> None:
        """Remove the place of what the ledger has let go, and those of devices that nobody else has a part of."""
        await asyncio.to_thread(self.places.remove, allocation.place)
        await self._let_go_devices(allocation)

    async def _realise(self, decided: Allocation) -> Allocation | Denied:
        """Create the place of an allocation, and of the devices that it has parts of."""
        try:
            await self._create(decided)
        except ClusterError as error:
            denied = self.allocator.abandon(decided.allocation_id, str(error))
            await self._let_go_devices(decided)
            return denied
        return self.allocator.confirm(decided.allocation_id)

    async def _create(self, allocation: Allocation) -> None:
        for device in self.allocator.device_allocations(allocation):
            async with self._turn(device.allocation_id):
                await asyncio.to_thread(self.places.create, device)
        await asyncio.to_thread(self.places.create, allocation)

    async def _let_go_devices(self, allocation: Allocation) -> None:
        """Remove the places of an allocation's devices of which nobody has a part any more."""
        for device in self.allocator.device_allocations(allocation):
            async with self._turn(device.allocation_id):
                if not self.allocator.is_divided(device):
                    await asyncio.to_thread(self.places.remove, device.place)

    async def _recall_leases(self) -> None:
        """Ask the scheduler for the leases that nothing runs on."""
        with contextlib.suppress(Exception):
            for lease in await asyncio.wait_for(peer(SCHEDULER).recall_idle.remote(), 2.0):
                await self.release_allocation(lease)

    def _view(self) -> dict[str, Any]:
        self._version += 1
        found = self.allocator.list_allocations()
        rooms = self.allocator.free_rooms()
        nodes = [node_view(room, [each for each in found if each.node_id == room.node_id]) for room in rooms]
        return {"version": self._version, "nodes": nodes}

    def _tell_scheduler(self) -> None:
        with contextlib.suppress(ValueError):
            peer(SCHEDULER).cluster_changed.remote(self._view())

    def _tell_if_nodes_changed(self, found: dict[str, Any]) -> None:
        nodes = tuple(sorted(found["nodes"]))
        if nodes != self._nodes:
            self._tell_scheduler()
            self._tell_of_losses()
        self._nodes = nodes

    def _tell_of_losses(self) -> None:
        """Let the models' coordinator ask anew for what lay on a node that is gone; said until it has."""
        if any(each.kind == "reservation" and each.state == "lost" for each in self.allocator.list_allocations()):
            with contextlib.suppress(ValueError):
                peer("model_coordinator").reassert.remote()

    async def _reconcile(self) -> None:
        """One round of the janitor: measure the other nodes, compare ledger and Ray, mend what is ours."""
        lesson = self.allocator.placement_lesson()
        if lesson is not None:
            self.allocator.place_by(await asyncio.to_thread(lesson.learn))
        await self._measure_others()
        self._tell_if_nodes_changed(self.allocator.get_system_resources())
        self._tell_of_losses()
        facts = await asyncio.to_thread(self.places.facts)
        for repair in self.allocator.reconcile(facts):
            self.repairs += 1
            self.log.warning(
                "event=repair action=%s allocation=%s reason=%s", repair.action, repair.allocation_id, repair.reason
            )
            await self._mend(repair)

    async def _mend(self, repair: Repair) -> None:
        async with self._turn(repair.allocation_id):
            # As it is now: it may have changed since the places were listed.
            now = self._known(repair.allocation_id) or self._device(repair.allocation_id)
            named = now is not None and now.place == repair.place
            state = now.state if now is not None and named else None
            match repair.action:
                case "remove" if not named:
                    await asyncio.to_thread(self.places.remove, repair.place)
                case "create" if now is not None and state == "confirmed":
                    with contextlib.suppress(ClusterError):
                        await asyncio.to_thread(self.places.create, now)
                case "confirm" if state == "pending":
                    self.allocator.confirm(repair.allocation_id)
                case "abandon" if state == "pending":
                    self.allocator.abandon(repair.allocation_id, repair.reason)
        self._tell_scheduler()

    def _known(self, allocation_id: str) -> Allocation | None:
        try:
            return self.allocator.get_allocation(allocation_id)
        except UnknownId:
            return None

    def _device(self, name: str) -> Allocation | None:
        return next((each for each in self.allocator.device_allocations() if each.allocation_id == name), None)

    async def _measure_others(self) -> None:
        others = set(self._nodes) - {ray.get_runtime_context().get_node_id()}
        allocations = self.allocator.list_allocations()
        watched = watched_nodes(others, allocations, autoscaling=self.settings.autoscaling)
        for node_id in self._probes.keys() - watched:
            with contextlib.suppress(Exception):
                ray.kill(self._probes.pop(node_id))
            self.probe.measured.pop(node_id, None)
        for node_id in watched:
            if node_id not in self._probes:
                self._probes[node_id] = (
                    ray.remote(_NodeProbe)
                    .options(
                        num_cpus=0,
                        name=f"probe-{node_id[:8]}",
                        namespace=NAMESPACE,
                        get_if_exists=True,
                        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
                    )
                    .remote()
                )
            try:
                self.probe.measured[node_id] = await asyncio.wait_for(self._probes[node_id].measure.remote(), 2.0)
            except Exception:  # dead, or too busy: whichever is there the next time is asked
                self._probes.pop(node_id, None)
