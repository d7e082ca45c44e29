"""What a probe reports about a node, and the port behind which probes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from balance.core.scheduler.room import Devices
from balance.types import Resources


@dataclass(frozen=True, slots=True)
class NodeUse:
    """What was measured on a node; None for what can't be measured there.

    Attributes
    ----------
    cpu : float or None
        Cores busy, on average since the last measurement.
    memory_bytes, object_store_bytes : int or None
        Bytes in use.
    gpu : float or None
        Devices busy.
    """

    cpu: float | None = None
    memory_bytes: int | None = None
    gpu: float | None = None
    object_store_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node that is alive.

    Attributes
    ----------
    node_id : str
        As Ray, or whoever runs tasks there, knows it.
    capacity : Resources
        Everything that it has.
    devices : tuple of (int, int) or None
        ``(index, thousandths)`` of each GPU; whole devices out of `capacity` when None.
    object_store_bytes : int
        Size of its object store; 0 without one.
    used : NodeUse
        What was measured.
    head : bool
        Whether it is the cluster's head, which stays as long as the cluster.
    """

    node_id: str
    capacity: Resources
    devices: Devices | None = None
    object_store_bytes: int = 0
    used: NodeUse = field(default_factory=NodeUse)
    head: bool = False


class Probe(Protocol):
    """Looks at the cluster."""

    def nodes(self) -> Sequence[NodeFacts]:
        """Return every node that is alive, as it is now."""
        ...
