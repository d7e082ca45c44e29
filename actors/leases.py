"""What the scheduler holds of the cluster: leases from the resource allocator, grown before tasks start.

The scheduler decides in microseconds on the capacity that the allocator told it; before a task starts,
its node must be covered by leases, which Ray accounts for.  A lease is taken in whole cores, so that many
small tasks share one, and given back when it has been idle for a while.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.base import ask
from balance.types import MILLI, NOTHING, Resources

IDLE_S = 2.0
"""How long a lease that nobody uses is kept."""

MEMORY_STEP_BYTES = 256 * 2**20
"""Memory is leased in multiples of this."""


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

    def cover_now(self, node_id: str, demand: Resources) -> bool:
        """Cover `demand` where the leases that are held suffice; say whether they do."""
        node = self._node(node_id)
        if node.turn.locked() or not (node.used + demand).fits_in(node.held):
            return False
        node.used += demand
        return True

    async def cover(self, node_id: str, demand: Resources) -> str:
        """Make sure that a lease covers `demand` on this node; return an empty string, or why not."""
        node = self._node(node_id)
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
            lease = f"{self.prefix}{next(self._numbers)}"
            try:
                answer = await ask("resource_allocator", "lease", node_id, amount.to_dict(), lease)
            except Exception as error:
                self._returning[lease] = None  # whether it was granted is not known
                return f"the resource allocator did not answer: {error!r}"
            if answer["status"] == "allocated":
                self._node(node_id).add(lease, Resources.from_dict(answer))
                return ""
            reason = str(answer["reason"])
        return reason

    def uncover(self, node_id: str, demand: Resources) -> None:
        """Note that a task which was covered has ended."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.used -= demand

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
            name: {"leases": len(node.leases), "held": node.held.to_dict(), "used": node.used.to_dict()}
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
