"""The authority on who holds what of the cluster.

`AllocationBook` decides; this creates the *place* of each allocation, which makes it visible to everyone
else on the cluster (a Ray placement group; see `Places`), and joins the accounts with what was measured.
In an actor these are separate steps, since creating takes a while: `decide_allocation`, the shell creates,
`confirm` or `abandon`.  In a plain process `allocate` does all of them.
"""

from __future__ import annotations

from typing import Any, Dict

from balance.clock import Clock
from balance.core.scheduler.allocation import (
    Allocation,
    AllocationJournal,
    Denied,
    Kind,
    Places,
)
from balance.core.scheduler.allocation_book import AllocationBook
from balance.core.scheduler.node_facts import Probe
from balance.core.scheduler.placement import Score, strand_score
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.system_resources import system_resources
from balance.defaults import default
from balance.errors import ClusterError
from balance.types import Resources


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

    def resize(self, allocation_id: str, demand: Resources) -> Allocation | Denied:
        """Change how much an allocation is, on the node where it is; when denied, it stays as it was."""
        before = self._known(allocation_id)
        made = self._created(self.decide_resize(allocation_id, demand))
        if isinstance(made, Allocation) and made.generation != before.generation:
            self._places.remove(before.place)
        return made

    def _created(self, decided: Allocation | Denied) -> Allocation | Denied:
        if isinstance(decided, Denied) or decided.state != "pending":
            return decided
        try:
            self._places.create(decided)
        except ClusterError as error:
            return self.abandon(decided.allocation_id, str(error))
        return self.confirm(decided.allocation_id)
