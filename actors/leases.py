"""What the scheduler holds of the cluster: leases from the resource allocator, grown before tasks start.

The scheduler decides in microseconds on the capacity that the allocator told it; before a task starts,
its node must be covered by leases, which Ray accounts for.  A lease is taken in whole cores, so that many
small tasks share one, and given back when it has been idle for a while.  GPUs are leased one by one, exactly
as much of each as tasks use of it: the rest of a device may be somebody else's.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.base import ask
from balance.types import MILLI, NOTHING, Resources

IDLE_S = 2.0
"""How long a lease that nobody uses is kept."""

MEMORY_STEP_BYTES = 256 * 2**20
"""Memory is leased in multiples of this."""


_DEVICE = "device "
"""In here each GPU of a node is a resource of its own: which one matters, and the arithmetic is the same."""


def on_devices(demand: Resources, devices: Sequence[int]) -> Resources:
    """Return `demand` with its GPUs named one by one.

    Examples
    --------
    >>> on_devices(Resources.demand(cpu=1, gpu=2), (0, 3)).custom
    (('device 0', 1000), ('device 3', 1000))
    >>> on_devices(Resources.demand(gpu=0.25), (1,)).custom
    (('device 1', 250),)
    """
    if not devices:
        return demand
    each = min(demand.gpu_milli, MILLI)
    named = tuple((f"{_DEVICE}{index}", each) for index in devices)
    return Resources(demand.cpu_milli, demand.memory_bytes, 0, tuple(sorted(demand.custom + named)))


def apart(amount: Resources) -> list[tuple[Resources, list[tuple[int, int]] | None]]:
    """Return what to ask the allocator for: all but the devices, and each device with a request of its own.

    The first device goes with the rest, so that most tasks need one lease.

    Examples
    --------
    >>> both = on_devices(Resources.demand(cpu=1, gpu=2), (0, 1))
    >>> [(part.to_dict(), devices) for part, devices in apart(both)]
    [({'cpu': 1.0, 'memory': 0, 'gpu': 1.0}, [(0, 1000)]), ({'cpu': 0.0, 'memory': 0, 'gpu': 1.0}, [(1, 1000)])]
    """
    plain = tuple((name, much) for name, much in amount.custom if not name.startswith(_DEVICE))
    rest = Resources(amount.cpu_milli, amount.memory_bytes, amount.gpu_milli, plain)
    devices = [(int(name[len(_DEVICE) :]), much) for name, much in amount.custom if name.startswith(_DEVICE)]
    if not devices:
        return [(rest, None)]
    first, *others = devices
    with_first = Resources(rest.cpu_milli, rest.memory_bytes, rest.gpu_milli + first[1], plain)
    return [(with_first, [first]), *((Resources(gpu_milli=device[1]), [device]) for device in others)]


@dataclass(slots=True)
class _Node:
    leases: dict[str, Resources] = field(default_factory=dict)
    held: Resources = NOTHING
    used: Resources = NOTHING
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, lease: str, amount: Resources) -> None:
        """Count a lease that was granted."""
        self.leases[lease] = amount
        self.held += amount

    def remove(self, lease: str) -> None:
        """Count a lease that is given back."""
        self.held -= self.leases.pop(lease)


def shortfall(needed: Resources, held: Resources) -> Resources:
    """Return how much of `needed` goes beyond `held`, component by component.

    Examples
    --------
    >>> shortfall(Resources.demand(cpu=2, memory=10), Resources.demand(cpu=1.5, memory=50)).to_dict()
    {'cpu': 0.5, 'memory': 0, 'gpu': 0.0}
    """
    lack = needed - held
    return Resources(
        max(0, lack.cpu_milli),
        max(0, lack.memory_bytes),
        max(0, lack.gpu_milli),
        tuple((name, amount) for name, amount in lack.custom if amount > 0),
    )


def rounded(amount: Resources) -> Resources:
    """Return `amount` in whole cores and steps of memory.

    Examples
    --------
    >>> rounded(Resources.demand(cpu=0.3, memory=1)).to_dict()
    {'cpu': 1.0, 'memory': 268435456, 'gpu': 0.0}
    """
    return Resources(
        -(-amount.cpu_milli // MILLI) * MILLI,
        -(-amount.memory_bytes // MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES,
        amount.gpu_milli,
        amount.custom,
    )


class Leases:
    """The scheduler's holdings, per node.

    Every lease has an id that was chosen here, so that asking twice is asking once, and whatever became of a
    call that did not return, the lease can be given back by its id.

    Parameters
    ----------
    changed : callable
        Called with no arguments when a node lost a lease that somebody else asked for.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.prefix = f"lease-{uuid.uuid4().hex[:8]}-"
        self._nodes: dict[str, _Node] = {}
        self._changed = changed
        self._numbers = itertools.count(1)
        self._growing: set[asyncio.Task[str]] = set()
        self._returning: dict[str, None] = {}

    def _node(self, node_id: str) -> _Node:
        return self._nodes.setdefault(node_id, _Node())

    def cover_now(self, node_id: str, demand: Resources, devices: Sequence[int] = ()) -> bool:
        """Cover `demand`, on these devices, where the leases that are held suffice; say whether they do."""
        node, demand = self._node(node_id), on_devices(demand, devices)
        if node.turn.locked() or not (node.used + demand).fits_in(node.held):
            return False
        node.used += demand
        return True

    async def cover(self, node_id: str, demand: Resources, devices: Sequence[int] = ()) -> str:
        """Make sure that leases cover `demand`, on these devices; return an empty string, or why not."""
        node, demand = self._node(node_id), on_devices(demand, devices)
        async with node.turn:
            lack = shortfall(node.used + demand, node.held)
            if lack:
                # Shielded: a lease that comes when its run was stopped meanwhile must be in the books.
                growing = asyncio.get_running_loop().create_task(self._grow(node_id, lack))
                self._growing.add(growing)
                growing.add_done_callback(self._growing.discard)
                refused = await asyncio.shield(growing)
                if refused:
                    return refused
            node.used += demand
        return ""

    async def _grow(self, node_id: str, lack: Resources) -> str:
        """Lease what lacks, rounded up where that can be had; return an empty string, or why not."""
        reason = ""
        for amount in dict.fromkeys((rounded(lack), lack)):
            for part, devices in apart(amount):
                reason = await self._lease(node_id, part, devices)
                if reason:
                    break
            if not reason:
                break
        return reason

    async def _lease(self, node_id: str, amount: Resources, devices: list[tuple[int, int]] | None) -> str:
        """Take one lease; return an empty string, or why not."""
        lease = f"{self.prefix}{next(self._numbers)}"
        try:
            answer = await ask("resource_allocator", "lease", node_id, amount.to_dict(), lease, devices)
        except Exception as error:
            self._returning[lease] = None  # whether it was granted is not known
            return f"the resource allocator did not answer: {error!r}"
        if answer["status"] != "allocated":
            return str(answer["reason"])
        given = Resources.from_dict(answer)
        self._node(node_id).add(lease, on_devices(given, [index for index, _ in devices or ()]))
        return ""

    def uncover(self, node_id: str, demand: Resources, devices: Sequence[int] = ()) -> None:
        """Note that a task which was covered has ended."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.used -= on_devices(demand, devices)

    def recall(self, node_id: str | None = None) -> list[str]:
        """Give up every lease that no running task needs; return their ids, for the allocator to release.

        The allocator may not hear the answer, so they are released from here too, a little later.
        """
        given: list[str] = []
        for name, node in sorted(self._nodes.items()):
            if node_id in (None, name) and not node.turn.locked():
                for lease in _spare(node):
                    node.remove(lease)
                    given.append(lease)
        if given:
            self._returning.update(dict.fromkeys(given))
            self._changed()
        return given

    def lose(self, node_id: str) -> None:
        """Forget a node that is gone, and with it what was leased there."""
        node = self._nodes.pop(node_id, None)
        self._returning.update(dict.fromkeys(node.leases if node else ()))

    async def give_back_idle(self) -> None:
        """Release what stayed unused for `IDLE_S` seconds."""
        before = {name: _spare(node) for name, node in self._nodes.items()}
        await asyncio.sleep(IDLE_S)
        for name, spare in sorted(before.items()):
            node = self._node(name)
            async with node.turn:
                for lease in _spare(node):
                    if lease in spare:
                        node.remove(lease)
                        self._returning[lease] = None
        for lease in list(self._returning):
            await ask("resource_allocator", "release_allocation", lease)
            self._returning.pop(lease, None)

    def to_dict(self) -> dict[str, Any]:
        """Return per node the ``leases``, what is ``held`` and what is ``used``."""
        return {
            name: {"leases": len(node.leases), "held": _summed(node.held), "used": _summed(node.used)}
            for name, node in sorted(self._nodes.items())
        }


def _spare(node: _Node) -> list[str]:
    """Return the leases that a node can do without, in a stable order."""
    kept, spare = node.held, []
    for lease, amount in sorted(node.leases.items()):
        if node.used.fits_in(kept - amount):
            kept -= amount
            spare.append(lease)
    return spare


def _summed(amount: Resources) -> dict[str, Any]:
    """Return an amount with its devices added up."""
    total = NOTHING
    for part, _devices in apart(amount):
        total += part
    return total.to_dict()
