"""Who holds what of the cluster: the decisions, without carrying any of them out.

An allocation is decided against the exact ledger and recorded; from then on nobody else can be given the
same resources.  It is ``pending`` until whoever creates its place in the cluster confirms it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from balance.clock import Clock
from balance.core.scheduler import janitor, refusals
from balance.core.scheduler.allocation import (
    KINDS,
    Allocation,
    AllocationJournal,
    Denied,
    Kind,
    PlaceFact,
    Repair,
    device_allocation,
)
from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.node_facts import NodeFacts
from balance.core.scheduler.placement import Placement, Score, strand_score
from balance.core.scheduler.placement_learner import Lesson, PlacementLearner
from balance.core.scheduler.reservation import ReservationChange, surplus
from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.shape import Shape
from balance.errors import Conflict, InvalidValue, UnknownId
from balance.types import MILLI, NOTHING, Resources, check_id, check_int


class AllocationBook:
    """The ledger of allocations.

    Parameters
    ----------
    clock : Clock
        Dates allocations.
    journal : AllocationJournal, optional
        Where allocations are kept for after a crash.
    score : callable, optional
        Which node is best, see `balance.core.scheduler.placement`.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> book = AllocationBook(clock=FakeClock())
    >>> _ = book.sync_nodes([NodeFacts("lab", Resources.capacity(cpu=4))])
    >>> made = book.decide_allocation(Resources.demand(cpu=3), holder="whisper", allocation_id="w")
    >>> made.state, book.confirm("w").state
    ('pending', 'confirmed')
    >>> book.decide_allocation(Resources.demand(cpu=2), holder="llama").reason
    'no node has room for it now: lab comes nearest and lacks 1 cores of cpu'
    """

    def __init__(self, *, clock: Clock, journal: AllocationJournal | None = None, score: Score = strand_score) -> None:
        self._clock = clock
        self._journal = journal
        self._ledger = Ledger()
        self._placement = Placement(self._ledger, score=score)
        self._learner = PlacementLearner()
        self._allocations: dict[str, Allocation] = {}
        self._quotas: dict[str, Resources] = {}
        self._facts: dict[str, NodeFacts] = {}
        self._numbered = 0

    # ------------------------------------------------------------------ deciding

    def decide_allocation(
        self,
        demand: Resources,
        *,
        holder: str,
        allocation_id: str | None = None,
        node_id: str | None = None,
        devices: Devices | None = None,
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
        devices : tuple of (int, int), optional
            Only on these devices of `node_id`.
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
        self._learn_from(demand, kind)
        shape = Shape(demand)
        denied = self._over_quota(holder, demand)
        if denied is not None:
            return denied
        room = self._placement.best(shape) if node_id is None else self._room_on(node_id, shape, devices)
        if room is None:
            return refusals.no_room(self._rooms(node_id), shape)
        return self._allocate(allocation_id, holder, kind, shape, room, devices)

    def confirm(self, allocation_id: str) -> Allocation:
        """Note that the place of an allocation was created; again is no harm."""
        known = self._known(allocation_id)
        if known.state == "confirmed":
            return known
        made = replace(known, state="confirmed")
        self._put(made)
        return made

    def abandon(self, allocation_id: str, reason: str) -> Denied:
        """Undo a pending allocation whose place could not be created, and say so as a refusal."""
        known = self._known(allocation_id)
        if known.node_id is not None:
            self._ledger.give_back(allocation_id)
        self._drop(allocation_id)
        return Denied(reason, None, None, known.node_id, NOTHING, permanent=False)

    def decide_release(self, allocation_id: str) -> Allocation | None:
        """Give an allocation back in the ledger and return it; its place has yet to be removed.

        None when there is no such allocation (any more).
        """
        known = self._allocations.get(check_id("allocation_id", allocation_id))
        if known is None:
            return None
        if known.node_id is not None:
            self._ledger.give_back(allocation_id)
        self._drop(allocation_id)
        return known

    def decide_reservation(self, name: str, demand: Resources, replicas: int) -> ReservationChange:
        """Let a reservation hold so many replicas of `demand`, as far as there is room; none of what demands nothing.

        Each is an allocation of its own with `name` as its holder.  What it holds of another demand, or on a node that
        is lost, is given back first.  Deciding the same again changes nothing.

        Parameters
        ----------
        name : str
            Of the reservation.
        demand : Resources
            What one replica takes, all of it on one node.
        replicas : int
            How many there shall be.

        Returns
        -------
        ReservationChange
            What has to be removed; what has to be created are the ``pending`` ones among `reservation`.
        """
        check_int("replicas", replicas, minimum=0)
        parts = self.reservation(name)
        held = [each for each in parts if each.demand == demand and each.node_id is not None]
        rooms = {room.node_id: room for room in self._ledger.rooms("")}
        kept = {each.allocation_id for each in held}
        kept -= {each.allocation_id for each in surplus(held, len(held) - replicas, rooms, self._facts)}
        given_back = tuple(each for each in parts if each.allocation_id not in kept)
        for each in given_back:
            self.decide_release(each.allocation_id)
        for _ in range(replicas - len(kept) if demand else 0):
            made = self.decide_allocation(demand, holder=name, kind="reservation")
            if isinstance(made, Denied):
                return ReservationChange(given_back, made)
        return ReservationChange(given_back, None)

    def set_quota(self, holder: str, quota: Resources | None) -> None:
        """Limit what one holder may have in all; None lifts the limit.  What it has already it keeps."""
        check_id("holder", holder)
        if quota is None:
            self._quotas.pop(holder, None)
        else:
            self._quotas[holder] = quota

    # ------------------------------------------------------------------ learning where to place

    def placement_lesson(self) -> Lesson | None:
        """Return what placement should learn from now; None while what it knows is good enough."""
        return self._learner.lesson(self._ledger.rooms(""))

    def place_by(self, score: Score) -> None:
        """Rank nodes by another score from now on, as by one that was learned."""
        self._placement.use(score)

    def _learn_from(self, demand: Resources, kind: Kind) -> None:
        if demand.gpu_milli and kind != "lease":  # where a lease goes is the scheduler's choice
            self._learner.note(demand)

    # ------------------------------------------------------------------ reading

    def get_allocation(self, allocation_id: str) -> Allocation:
        """Return an allocation; `UnknownId` if there is none of that name."""
        return self._known(allocation_id)

    def list_allocations(self, holder: str | None = None) -> list[Allocation]:
        """Return all allocations, or one holder's, oldest first."""
        return [each for each in self._allocations.values() if holder is None or each.holder == holder]

    def reservation(self, name: str) -> list[Allocation]:
        """Return the allocations that a reservation is made of, oldest first."""
        return [each for each in self.list_allocations(name) if each.kind == "reservation"]

    def free_rooms(self) -> list[NodeFacts]:
        """Return what is not allocated on each node, device by device."""
        return [
            replace(self._facts[room.node_id], capacity=room.free(), devices=room.free_devices())
            for room in self._ledger.rooms("")
        ]

    def device_allocations(self, of: Allocation | None = None) -> list[Allocation]:
        """Return what stands for the devices that are divided among allocations, or for those `of` one of them."""
        everyone = self._allocations.values() if of is None else (of,)
        parts = {(each.node_id, index) for each in everyone if each.node_id is not None for index, _ in each.parts}
        rooms = [(room, index) for node_id, index in sorted(parts) if (room := self._ledger.room(node_id)) is not None]
        return [device_allocation(room.node_id, index, dict(room.devices).get(index, MILLI)) for room, index in rooms]

    def is_divided(self, device: Allocation) -> bool:
        """Say whether an allocation has a part of this device."""
        [(index, _)] = device.devices
        return any(each.node_id == device.node_id and index in dict(each.parts) for each in self._allocations.values())

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
        wanted = [*self._allocations.values(), *self.device_allocations()]
        found = janitor.compare(wanted, facts, self._clock.wall())
        return [repair for repair in found if repair.action != "moved" or self._follow(repair)]

    def _follow(self, moved: Repair) -> bool:
        """Let the ledger follow a place to another node; False if the probe has not reported that node yet."""
        allocation, room = self._allocations[moved.allocation_id], self._ledger.room(moved.node_id or "")
        if room is None:
            return False
        if allocation.node_id is not None:
            self._ledger.give_back(allocation.allocation_id)
        shape = Shape(allocation.demand)
        devices = self._placement.devices(room, shape) if room.fits(shape) else ()
        self._ledger.take(allocation.allocation_id, room, shape, devices)
        self._put(replace(allocation, node_id=room.node_id, devices=devices, state="confirmed"))
        return True

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

    def _allocate(  # noqa: PLR0917 (all of it is the allocation)
        self, name: str | None, holder: str, kind: Kind, shape: Shape, room: Room, devices: Devices | None
    ) -> Allocation:
        name = name if name is not None else self._new_id(holder)
        hold = self._ledger.take(name, room, shape, devices or self._placement.devices(room, shape))
        now = self._clock.wall()
        made = Allocation(name, holder, kind, shape.demand, room.node_id, hold.devices, "pending", 1, now)
        self._put(made)
        return made

    def _same(self, known: Allocation, demand: Resources, holder: str, kind: Kind) -> Allocation:
        if (known.demand, known.holder, known.kind) == (demand, holder, kind):
            return known
        raise Conflict(
            f"allocation {known.allocation_id!r} is {known.holder}'s {known.kind} of {known.demand.to_dict()}",
            allocation_id=known.allocation_id,
            holder=known.holder,
        )

    def _room_on(self, node_id: str, shape: Shape, devices: Devices | None) -> Room | None:
        room = self._ledger.room(node_id)
        if room is None:
            raise UnknownId("node", node_id, self._ledger.nodes())
        if devices is not None and [amount for _, amount in devices] != [shape.per_device] * shape.device_count:
            raise InvalidValue("devices", devices, f"{shape.device_count} times {shape.per_device} thousandths")
        able = all(room.gpus.get(index, 0) >= amount for index, amount in devices or ())
        return room if able and room.fits(shape) else None

    def _rooms(self, node_id: str | None) -> list[Room]:
        return [room for room in self._ledger.rooms("") if node_id is None or room.node_id == node_id]

    def _hold(self, allocation: Allocation) -> None:
        room = self._ledger.room(allocation.node_id) if allocation.node_id is not None else None
        if room is not None:
            self._ledger.take(allocation.allocation_id, room, Shape(allocation.demand), allocation.devices)

    def _over_quota(self, holder: str, demand: Resources) -> Denied | None:
        quota = self._quotas.get(holder)
        if quota is None:
            return None
        has = NOTHING
        for allocation in self.list_allocations(holder):
            has = has + allocation.demand
        return refusals.over_quota(holder, demand, quota - has)

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
