"""The authority on who holds what of the cluster.

`AllocationBook` decides; this creates the *place* of each allocation, which makes it visible to everyone
else on the cluster (a Ray placement group; see `Places`), and joins the accounts with what was measured.
In an actor these are separate steps, since creating takes a while: `decide_allocation`, the shell creates,
`confirm` or `abandon`.  In a plain process `allocate` does all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, Dict

from balance.clock import Clock
from balance.core.scheduler import refusals
from balance.core.scheduler.allocation import (
    Allocation,
    AllocationJournal,
    Denied,
    Kind,
    Places,
)
from balance.core.scheduler.allocation_book import AllocationBook
from balance.core.scheduler.joint import place_most
from balance.core.scheduler.node_facts import Probe
from balance.core.scheduler.placement import Score, strand_score
from balance.core.scheduler.reservation import reservation_dict
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.system_resources import system_resources
from balance.defaults import default
from balance.errors import ClusterError, Conflict
from balance.types import Resources, check_id


class ResourceAllocator(AllocationBook):
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
        super().__init__(clock=clock if clock is not None else default("clock"), journal=journal, score=score)
        self._probe: Probe = probe if probe is not None else default("host_probe")
        self._places: Places = places if places is not None else default("local_places")
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

    # ------------------------------------------------------------------ several at once

    def decide_allocations(
        self, demands: Sequence[Resources], *, holder: str, ids: Sequence[str] | None = None, kind: Kind = "allocation"
    ) -> list[Allocation | Denied]:
        """Decide several allocations at once, so that as many as possible are granted (`joint.place_most`).

        Parameters
        ----------
        demands : sequence of Resources
            What is wanted, each by itself.
        holder, kind
            As for `decide_allocation`.
        ids : sequence of str, optional
            A name for each, none of which is known yet; new ones when left out.

        Returns
        -------
        list of Allocation or Denied
            In the order of `demands`.

        Raises
        ------
        Conflict
            An id is known already, or given twice.
        """
        check_id("holder", holder)
        names = [check_id("allocation_id", each) for each in ids] if ids is not None else [None] * len(demands)
        for name, number in Counter(names).items():
            if name is not None and (number > 1 or name in self._allocations):
                raise Conflict(f"allocation {name!r} exists already, or is asked for twice", allocation_id=name)
        for demand in demands:
            self._learn_from(demand, kind)
        shapes = [Shape(demand) for demand in demands]
        some = [self._placement.several(shape, len(shapes)) for shape in shapes]
        rooms = {room.node_id: room for room in sorted(chain.from_iterable(some), key=lambda room: room.node_id)}
        joint = place_most([*rooms.values()], shapes, score=self._placement.score, pick=self._placement.devices)
        made: dict[int, Allocation | Denied] = {}
        # Those that are left out come last: only then is it clear what they lack.
        for index in sorted(range(len(shapes)), key=lambda index: joint.spots[index] is None):
            shape, spot = shapes[index], joint.spots[index]
            denied = self._over_quota(holder, shape.demand)
            if denied is None and spot is not None:
                made[index] = self._allocate(names[index], holder, kind, shape, *spot)
            else:
                made[index] = denied or refusals.no_room(self._rooms(None), shape)
        return [made[index] for index in range(len(shapes))]

    # ------------------------------------------------------------------ in a plain process

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

    def allocate_many(
        self, demands: Sequence[Resources], *, holder: str, ids: Sequence[str] | None = None, kind: Kind = "allocation"
    ) -> list[Allocation | Denied]:
        """Allocate as many as possible of `demands` at once; the arguments are those of `decide_allocations`.

        Examples
        --------
        Whoever comes first, each 0.4 gets to lie beside a 0.6:

        >>> from balance.core.scheduler.node_facts import NodeFacts
        >>> class Lab:
        ...     def nodes(self):
        ...         return [NodeFacts("lab", Resources.capacity(gpu=2))]
        >>> wanted = [Resources.demand(gpu=amount) for amount in (0.4, 0.4, 0.6, 0.6)]
        >>> [made.state for made in ResourceAllocator(probe=Lab()).allocate_many(wanted, holder="llama")]
        ['confirmed', 'confirmed', 'confirmed', 'confirmed']
        """
        return [self._created(each) for each in self.decide_allocations(demands, holder=holder, ids=ids, kind=kind)]

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
        self._removed(released)
        return {"status": "released", "allocation_id": allocation_id}

    def reserve(self, name: str, demand: Resources, replicas: int) -> Dict[str, Any]:
        """Let a reservation hold so many replicas of `demand` (`decide_reservation`), and create and remove the places.

        Returns
        -------
        dict
            `reservation_dict`; where there are fewer than asked for `Denied.to_dict` instead, with ``replicas`` (how
            many there are) and ``held``: the `reservation_dict` of those, None of none.

        Examples
        --------
        >>> from balance.core.scheduler.node_facts import NodeFacts
        >>> class Lab:
        ...     def nodes(self):
        ...         return [NodeFacts(name, Resources.capacity(cpu=2)) for name in ("a", "b")]
        >>> allocator = ResourceAllocator(probe=Lab())
        >>> allocator.reserve("whisper", Resources.demand(cpu=1), 3)["nodes"]
        {'a': 2, 'b': 1}
        >>> refused = allocator.reserve("whisper", Resources.demand(cpu=1), 5)
        >>> refused["status"], refused["replicas"], refused["held"]["nodes"]
        ('denied', 4, {'a': 2, 'b': 2})
        """
        change = self.decide_reservation(name, demand, replicas)
        for each in change.given_back:
            self._removed(each)
        made = [self._created(each) for each in self.reservation(name)]
        refused = [each for each in made if isinstance(each, Denied)]
        return self.reservation_answer(name, demand, next(iter(refused), change.denied))

    def reservation_answer(self, name: str, demand: Resources, denied: Denied | None) -> Dict[str, Any]:
        """Return what `reserve` returns about a reservation as it is now."""
        held = reservation_dict(name, demand, self.reservation(name))
        if denied is None:
            return held
        return {**denied.to_dict(), "replicas": held["replicas"], "held": held if held["replicas"] else None}

    def _created(self, decided: Allocation | Denied) -> Allocation | Denied:
        if isinstance(decided, Denied) or decided.state != "pending":
            return decided
        try:
            for each in (*self.device_allocations(decided), decided):
                self._places.create(each)
        except ClusterError as error:
            denied = self.abandon(decided.allocation_id, str(error))
            self._let_go_devices(decided)
            return denied
        return self.confirm(decided.allocation_id)

    def _removed(self, allocation: Allocation) -> None:
        """Remove the place of what is not there any more."""
        self._places.remove(allocation.place)
        self._let_go_devices(allocation)

    def _let_go_devices(self, allocation: Allocation) -> None:
        """Remove the places of its devices of which nobody has a part any more."""
        for device in self.device_allocations(allocation):
            if not self.is_divided(device):
                self._places.remove(device.place)
