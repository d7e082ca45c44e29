"""The authority on who holds what of the cluster.

An allocation is decided against the exact ledger, recorded, made visible to the cluster by creating its
*place* (a Ray placement group; see `Places`), and confirmed.  In an actor these are separate steps, since
creating takes a while: `decide_allocation`, the shell creates, `confirm` or `abandon`.  In a plain process
`allocate` does all of them.  From the decision on nobody else can be given the same resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Dict

from balance.clock import Clock
from balance.core.scheduler.allocation import (
    KINDS,
    Allocation,
    AllocationJournal,
    Denied,
    Kind,
    PlaceFact,
    Places,
    Repair,
    amount_text,
)
from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.memory_peaks import MemoryPeaks
from balance.core.scheduler.node_facts import NodeFacts, Probe
from balance.core.scheduler.placement import Placement, Score, strand_score
from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.system_resources import system_resources
from balance.defaults import default
from balance.errors import ClusterError, Conflict, InvalidValue, UnknownId
from balance.types import NOTHING, Resources, check_id

PENDING_MAX_S = 60.0  # after this the janitor takes a pending allocation for forgotten


class ResourceAllocator:
    """Hands out parts of the cluster: exactly, per device, and visibly to everyone else on it.

    Parameters
    ----------
    probe : Probe, optional
        Which nodes there are and how busy; this host when left out.
    places : Places, optional
        What stands for an allocation in the cluster; mere bookkeeping when left out.
    clock : Clock, optional
        The system's when left out.
    journal : AllocationJournal, optional
        Where allocations are kept for after a crash.
    score : callable, optional
        Which node is best, see `balance.core.scheduler.placement`.

    Examples
    --------
    >>> from balance.core.scheduler.node_facts import NodeFacts
    >>> class Lab:
    ...     def nodes(self):
    ...         return [NodeFacts("lab", Resources.capacity(cpu=4, memory=2**33, gpu=1))]
    >>> allocator = ResourceAllocator(probe=Lab())
    >>> got = allocator.allocate_resources(1.0, 2**30, 0.5)
    >>> got["status"], got["node_id"], got["devices"]
    ('allocated', 'lab', [0])
    >>> refused = allocator.allocate_resources(1.0, 2**30, 1)
    >>> refused["status"], refused["resource"], refused["lacking"]
    ('denied', 'gpu', 0.5)
    >>> allocator.release_allocation(got["allocation_id"])["status"]
    'released'
    """

    def __init__(
        self,
        *,
        probe: Probe | None = None,
        places: Places | None = None,
        clock: Clock | None = None,
        journal: AllocationJournal | None = None,
        score: Score = strand_score,
    ) -> None:
        self._probe: Probe = probe if probe is not None else default("host_probe")
        self._places: Places = places if places is not None else default("local_places")
        self._clock: Clock = clock if clock is not None else default("clock")
        self._journal = journal
        self._ledger = Ledger()
        self._placement = Placement(self._ledger, score=score)
        self._allocations: dict[str, Allocation] = {}
        self._before_resize: dict[str, Allocation] = {}
        self._quotas: dict[str, Resources] = {}
        self._facts: dict[str, NodeFacts] = {}
        self._numbered = 0
        self.memory_peaks = MemoryPeaks()
        self.sync_nodes(self._probe.nodes())

    # ------------------------------------------------------------------ the contract

    def get_system_resources(self) -> Dict[str, Any]:
        """Look at the cluster and return what there is, what is free, what is reserved and what is used.

        Returns
        -------
        dict
            ``status``: ``ok``, or ``no_nodes``; ``cluster``: ``total``, ``available``, ``reserved`` and ``used``,
            each with ``cpu`` (cores), ``memory`` (bytes), ``gpu`` (devices), ``object_store`` (bytes) and,
            if there are any, ``custom`` amounts; ``nodes``: the same for each node id, with ``devices``
            (free devices by index); ``allocations``: how many there are.  ``used`` is measured, None where
            nothing was measured; the others are accounts.
        """
        self.sync_nodes(self._probe.nodes())
        return system_resources(self._ledger, self._facts.values(), len(self._allocations))

    def can_allocate_resources(self, cpu_demand: float, memory_demand: float, gpu_demand: float = 0.0) -> bool:
        """Say whether this much could be had on one node now; advice only, it may be gone the next moment."""
        return self._placement.best(Shape(Resources.demand(cpu_demand, memory_demand, gpu_demand))) is not None

    def allocate_resources(self, cpu_demand: float, memory_demand: float, gpu_demand: float = 0.0) -> Dict[str, Any]:
        """Reserve a part of one node.

        Parameters
        ----------
        cpu_demand : float
            Cores.
        memory_demand : float
            Bytes.
        gpu_demand : float
            Devices: a fraction of one up to 1, whole ones above.

        Returns
        -------
        dict
            `Allocation.to_dict` (``status`` ``allocated``, ``allocation_id``, ``node_id``, ``devices``, ...) or
            `Denied.to_dict` (``status`` ``denied``, ``reason``, ``resource``, ``lacking``, ``largest_possible``, ...).

        Raises
        ------
        InvalidValue
            For a demand that is negative, NaN, or 1.5 devices.
        """
        demand = Resources.demand(cpu_demand, memory_demand, gpu_demand)
        return self.allocate(demand, holder="anonymous").to_dict()

    # ------------------------------------------------------------------ allocating

    def allocate(
        self,
        demand: Resources,
        *,
        holder: str,
        allocation_id: str | None = None,
        node_id: str | None = None,
        kind: Kind = "allocation",
    ) -> Allocation | Denied:
        """Decide, create the place and confirm, in one go; the arguments are those of `decide_allocation`."""
        decided = self.decide_allocation(demand, holder=holder, allocation_id=allocation_id, node_id=node_id, kind=kind)
        return self._created(decided)

    def decide_allocation(
        self,
        demand: Resources,
        *,
        holder: str,
        allocation_id: str | None = None,
        node_id: str | None = None,
        kind: Kind = "allocation",
    ) -> Allocation | Denied:
        """Take resources in the ledger for `holder`; the place has yet to be created.

        Parameters
        ----------
        demand : Resources
            How much, all of it on one node.
        holder : str
            Who gets it.
        allocation_id : str, optional
            Asking again under the same id for the same returns what was given then.
        node_id : str, optional
            Only there.
        kind : {"allocation", "lease", "reservation"}
            What for.

        Returns
        -------
        Allocation or Denied
            The allocation is ``pending``, or as it stands if it existed.

        Raises
        ------
        Conflict
            The id stands for another holder, demand or kind.
        UnknownId
            There is no such node.
        """
        check_id("holder", holder)
        if kind not in KINDS:
            raise InvalidValue("kind", kind, "one of " + ", ".join(KINDS))
        if allocation_id is not None:
            known = self._allocations.get(check_id("allocation_id", allocation_id))
            if known is not None:
                return self._same(known, demand, holder, kind)
        shape = Shape(demand)
        denied = self._over_quota(holder, demand, NOTHING)
        if denied is not None:
            return denied
        room = self._placement.best(shape) if node_id is None else self._room_on(node_id, shape)
        if room is None:
            return self._denied(shape, node_id)
        name = allocation_id if allocation_id is not None else self._new_id(holder)
        hold = self._ledger.take(name, room, shape)
        made = Allocation(name, holder, kind, demand, room.node_id, hold.devices, "pending", 1, self._clock.wall())
        self._put(made)
        return made

    def confirm(self, allocation_id: str) -> Allocation:
        """Note that the place of an allocation was created; again is no harm."""
        known = self._known(allocation_id)
        self._before_resize.pop(allocation_id, None)
        if known.state == "confirmed":
            return known
        made = replace(known, state="confirmed")
        self._put(made)
        return made

    def abandon(self, allocation_id: str, reason: str) -> Denied:
        """Undo a pending allocation (or resize) whose place could not be created, and say so as a refusal."""
        known = self._known(allocation_id)
        before = self._before_resize.pop(allocation_id, None)
        if known.node_id is not None:
            self._ledger.give_back(allocation_id)
        if before is None:
            self._drop(allocation_id)
        else:
            self._hold(before)
            self._put(before)
        return Denied(reason, None, None, known.node_id, NOTHING, permanent=False)

    def release_allocation(self, allocation_id: str) -> Dict[str, Any]:
        """Give an allocation back; once more does nothing.

        Returns
        -------
        dict
            ``status``: ``released``, or ``not_held`` when there is no such allocation (any more); ``allocation_id``.
        """
        released = self.decide_release(allocation_id)
        if released is None:
            return {"status": "not_held", "allocation_id": allocation_id}
        self._places.remove(released.place)
        return {"status": "released", "allocation_id": allocation_id}

    def decide_release(self, allocation_id: str) -> Allocation | None:
        """Give an allocation back in the ledger and return it; its place has yet to be removed.

        None when there is no such allocation (any more).
        """
        known = self._allocations.get(check_id("allocation_id", allocation_id))
        if known is None:
            return None
        if known.node_id is not None:
            self._ledger.give_back(allocation_id)
        self._before_resize.pop(allocation_id, None)
        self._drop(allocation_id)
        return known

    def resize(self, allocation_id: str, demand: Resources) -> Allocation | Denied:
        """Change how much an allocation is, on the node where it is; when denied, it stays as it was."""
        before = self._known(allocation_id)
        made = self._created(self.decide_resize(allocation_id, demand))
        if isinstance(made, Allocation) and made.generation != before.generation:
            self._places.remove(before.place)
        return made

    def decide_resize(self, allocation_id: str, demand: Resources) -> Allocation | Denied:
        """Change an allocation in the ledger; the place of its new generation has yet to be created.

        Until `confirm` or `abandon` the allocation is ``pending``; then the old place has to be removed.
        """
        before = self._known(allocation_id)
        if demand == before.demand:
            return before
        if before.node_id is None:
            raise Conflict(f"allocation {allocation_id!r} has lost its node", allocation_id=allocation_id)
        if allocation_id in self._before_resize:
            raise Conflict(f"allocation {allocation_id!r} is being resized already", allocation_id=allocation_id)
        denied = self._over_quota(before.holder, demand, before.demand)
        if denied is not None:
            return denied
        shape = Shape(demand)
        self._ledger.give_back(allocation_id)
        room = self._room_on(before.node_id, shape)
        if room is None:
            denied = self._denied(shape, before.node_id)
            self._hold(before)
            return denied
        hold = self._ledger.take(allocation_id, room, shape)
        made = replace(before, demand=demand, devices=hold.devices, state="pending", generation=before.generation + 1)
        self._before_resize[allocation_id] = before
        self._put(made)
        return made

    def set_quota(self, holder: str, quota: Resources | None) -> None:
        """Limit what one holder may have in all; None lifts the limit.  What it has already it keeps."""
        check_id("holder", holder)
        if quota is None:
            self._quotas.pop(holder, None)
        else:
            self._quotas[holder] = quota

    # ------------------------------------------------------------------ reading

    def get_allocation(self, allocation_id: str) -> Allocation:
        """Return an allocation; `UnknownId` if there is none of that name."""
        return self._known(allocation_id)

    def list_allocations(self, holder: str | None = None) -> list[Allocation]:
        """Return all allocations, or one holder's, oldest first."""
        return [each for each in self._allocations.values() if holder is None or each.holder == holder]

    def free_rooms(self) -> list[NodeFacts]:
        """Return what is not allocated on each node, device by device."""
        return [
            replace(self._facts[room.node_id], capacity=_free(room), devices=_free_devices(room))
            for room in self._ledger.rooms("")
        ]

    # ------------------------------------------------------------------ the cluster

    def sync_nodes(self, nodes: Sequence[NodeFacts]) -> list[Allocation]:
        """Take in which nodes there are now; return the allocations that were lost with theirs.

        A lost allocation keeps its name: Ray moves its place to another node when it can, and
        `reconcile` follows.
        """
        there = {facts.node_id: facts for facts in nodes}
        lost = []
        for room in list(self._ledger.rooms("")):
            if room.node_id not in there:
                lost += [hold.holder for hold in self._ledger.remove_room(room)]
        for facts in nodes:
            known = self._ledger.room(facts.node_id)
            if known is None:
                self._ledger.add_room(facts.node_id, "", facts.capacity, facts.devices)
            elif facts.capacity != known.capacity or (facts.devices or known.devices) != known.devices:
                self._ledger.resize_room(known, facts.capacity, facts.devices)
        self._facts = there
        gone = [replace(self._allocations[name], node_id=None, devices=(), state="lost") for name in lost]
        for allocation in gone:
            self._before_resize.pop(allocation.allocation_id, None)
            self._put(allocation)
        return gone

    def reconcile(self, facts: Iterable[PlaceFact]) -> list[Repair]:
        """Compare the ledger with the places that exist, and say what is to be done: the janitor's step.

        The ledger follows a place that has moved.  A place that is not created yet is never removed
        (Ray would leak its resources); it is looked at again the next time.

        Parameters
        ----------
        facts : iterable of PlaceFact
            Every place in the cluster with a name of ours.

        Returns
        -------
        list of Repair
            Ordered by place.
        """
        there = {fact.place: fact for fact in facts}
        wanted = {each.place: each for each in self._allocations.values()}
        kept = {each.place for each in self._before_resize.values()}
        repairs = [
            Repair("remove", place, place.rpartition(".")[0], "no allocation stands behind it")
            for place, fact in there.items()
            if fact.created and place not in wanted and place not in kept
        ]
        for place, allocation in wanted.items():
            repair = self._repair(place, allocation, there.get(place))
            if repair is not None:
                repairs.append(repair)
        return sorted(repairs, key=lambda repair: (repair.place, repair.action))

    def _repair(self, place: str, allocation: Allocation, fact: PlaceFact | None) -> Repair | None:
        name = allocation.allocation_id
        late = self._clock.wall() - allocation.created_at > PENDING_MAX_S
        if fact is None:
            if allocation.state == "confirmed":
                return Repair("create", place, name, "its place is gone")
            return Repair("abandon", place, name, "its place was never created") if late else None
        if not fact.created:
            return None
        if fact.node_id is not None and fact.node_id != allocation.node_id:
            return self._follow(allocation, fact.node_id)
        if allocation.state == "pending" and late:
            return Repair("confirm", place, name, "its place was created, but nobody said so")
        return None

    def _follow(self, allocation: Allocation, node_id: str) -> Repair | None:
        room = self._ledger.room(node_id)
        if room is None:
            return None  # a node that the probe has not reported yet
        if allocation.node_id is not None:
            self._ledger.give_back(allocation.allocation_id)
        shape = Shape(allocation.demand)
        devices = room.pick_devices(shape) if room.fits(shape) else ()
        self._ledger.take(allocation.allocation_id, room, shape, devices)
        self._put(replace(allocation, node_id=node_id, devices=devices, state="confirmed"))
        was = allocation.node_id or "a lost node"
        return Repair("moved", allocation.place, allocation.allocation_id, f"from {was} to {node_id}")

    def recover(self) -> int:
        """Go on from the journal after a restart; return how many allocations were found.

        Nodes come from the probe; an allocation whose node is not there is ``lost`` until `reconcile`.
        """
        found = [Allocation.from_dict(data) for data in self._journal.load()] if self._journal is not None else []
        for allocation in sorted(found, key=lambda each: (each.created_at, each.allocation_id)):
            if allocation.node_id is not None and self._ledger.room(allocation.node_id) is None:
                allocation = replace(allocation, node_id=None, devices=(), state="lost")  # noqa: PLW2901
            self._hold(allocation)
            self._allocations[allocation.allocation_id] = allocation
        return len(found)

    def validate(self) -> None:
        """Check every invariant by recounting; for tests."""
        self._ledger.validate()
        held = {hold.holder for hold in self._ledger.holds()}
        assert held == {each.allocation_id for each in self._allocations.values() if each.node_id is not None}

    # ------------------------------------------------------------------ inside

    def _created(self, decided: Allocation | Denied) -> Allocation | Denied:
        if isinstance(decided, Denied) or decided.state != "pending":
            return decided
        try:
            self._places.create(decided)
        except ClusterError as error:
            return self.abandon(decided.allocation_id, str(error))
        return self.confirm(decided.allocation_id)

    def _same(self, known: Allocation, demand: Resources, holder: str, kind: Kind) -> Allocation:
        if (known.demand, known.holder, known.kind) == (demand, holder, kind):
            return known
        raise Conflict(
            f"allocation {known.allocation_id!r} is {known.holder}'s {known.kind} of {known.demand.to_dict()}",
            allocation_id=known.allocation_id,
            holder=known.holder,
        )

    def _room_on(self, node_id: str, shape: Shape) -> Room | None:
        room = self._ledger.room(node_id)
        if room is None:
            raise UnknownId("node", node_id, self._ledger.nodes())
        return room if room.fits(shape) else None

    def _hold(self, allocation: Allocation) -> None:
        room = self._ledger.room(allocation.node_id) if allocation.node_id is not None else None
        if room is not None:
            self._ledger.take(allocation.allocation_id, room, Shape(allocation.demand), allocation.devices)

    def _over_quota(self, holder: str, demand: Resources, instead_of: Resources) -> Denied | None:
        quota = self._quotas.get(holder)
        if quota is None:
            return None
        has = NOTHING
        for allocation in self.list_allocations(holder):
            has = has + allocation.demand
        left = quota - (has - instead_of)
        room = dict(left.items())
        lacks = {name: amount - room.get(name, 0) for name, amount in demand.items() if amount > room.get(name, 0)}
        if not lacks:
            return None
        resource = max(lacks, key=lambda name: (lacks[name], name))
        value, text = amount_text(resource, lacks[resource])
        return Denied(f"{holder} would be over its quota by {text}", resource, value, None, left, permanent=False)

    def _denied(self, shape: Shape, node_id: str | None) -> Denied:
        rooms = [room for room in self._ledger.rooms("") if node_id is None or room.node_id == node_id]
        if not rooms:
            return Denied("there is no node", None, None, None, NOTHING, permanent=False)
        permanent = not any(room.could_hold(shape) for room in rooms)
        needs = dict(shape.demand.items())

        def distance(room: Room) -> tuple[float, str]:
            lacks = (Room(room.node_id, "", room.capacity, room.devices) if permanent else room).shortfall(shape)
            return sum(amount / needs[name] for name, amount in lacks.items()), room.node_id

        room = min(rooms, key=distance)
        measured = Room(room.node_id, "", room.capacity, room.devices) if permanent else room
        lacks = measured.shortfall(shape)
        resource = max(lacks, key=lambda name: (lacks[name] / needs[name], name))
        value, text = amount_text(resource, lacks[resource])
        when = "could ever hold it" if permanent else "has room for it now"
        return Denied(
            f"no node {when}: {room.node_id} comes nearest and lacks {text}",
            resource,
            value,
            room.node_id,
            _free(measured),
            permanent,
        )

    def _new_id(self, holder: str) -> str:
        # With the time in it, an id is not used again after a restart, while its old place may still go away.
        self._numbered += 1
        return f"{holder}-{int(self._clock.wall() * 1000):x}-{self._numbered}"

    def _known(self, allocation_id: str) -> Allocation:
        known = self._allocations.get(check_id("allocation_id", allocation_id))
        if known is None:
            raise UnknownId("allocation", allocation_id, self._allocations)
        return known

    def _put(self, allocation: Allocation) -> None:
        self._allocations[allocation.allocation_id] = allocation
        if self._journal is not None:
            self._journal.record([(allocation.allocation_id, allocation.to_dict())])

    def _drop(self, allocation_id: str) -> None:
        del self._allocations[allocation_id]
        if self._journal is not None:
            self._journal.record([(allocation_id, None)])


def _free(room: Room) -> Resources:
    return Resources(
        max(room.cpu, 0),
        max(room.memory, 0),
        sum(max(free, 0) for free in room.gpus.values()),
        tuple(sorted((name, amount) for name, amount in room.custom.items() if amount > 0)),
    )


def _free_devices(room: Room) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((index, max(free, 0)) for index, free in room.gpus.items()))
