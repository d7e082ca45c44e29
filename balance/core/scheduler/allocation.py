"""Allocations, refusals, and the places that stand for allocations in the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from balance.core.scheduler.room import Devices
from balance.types import MILLI, Resources

Kind = Literal["allocation", "lease", "reservation", "device"]
KINDS = ("allocation", "lease", "reservation")  # what may be asked for


@dataclass(frozen=True, slots=True)
class Allocation:
    """A part of one node that belongs to someone.

    Attributes
    ----------
    allocation_id : str
        Its name, in Balance and (with the generation) in Ray.
    holder : str
        Who has it: a model, the scheduler, ...
    kind : str
        ``allocation``, ``lease`` (the scheduler's, grown and shrunk with the queue) or ``reservation``; ``device``
        for what stands in the cluster for a device of which allocations have parts (`device_allocation`).
    demand : Resources
        How much.
    node_id : str or None
        Where; None while its node is lost.
    devices : tuple of (int, int)
        ``(index, thousandths)`` of the GPUs.
    state : str
        ``pending`` until its place was created, then ``confirmed``; ``lost`` with its node.
    generation : int
        Which place of this name it is.
    created_at : float
        POSIX seconds.
    """

    allocation_id: str
    holder: str
    kind: Kind
    demand: Resources
    node_id: str | None
    devices: Devices
    state: Literal["pending", "confirmed", "lost"]
    generation: int
    created_at: float

    @property
    def place(self) -> str:
        """The name of its place in the cluster."""
        return f"{self.allocation_id}.{self.generation}"

    @property
    def parts(self) -> Devices:
        """The devices of which it has only a part."""
        return () if self.kind == "device" else tuple(each for each in self.devices if each[1] < MILLI)

    @property
    def held(self) -> Resources:
        """What its place holds: all but parts of devices, which are held whole and divided by the ledger."""
        return replace(self.demand, gpu_milli=0) if self.parts else self.demand

    def to_dict(self) -> dict[str, Any]:
        """Return ``status`` (``allocated``) and the attributes: ``cpu`` (cores), ``memory`` (bytes), ``gpu`` and
        ``devices`` (indices), ``device_milli`` (thousandths of each), ``created_at`` (POSIX seconds)."""
        return {
            "status": "allocated",
            "allocation_id": self.allocation_id,
            "holder": self.holder,
            "kind": self.kind,
            **self.demand.to_dict(),
            "node_id": self.node_id,
            "devices": [index for index, _ in self.devices],
            "device_milli": [amount for _, amount in self.devices],
            "state": self.state,
            "generation": self.generation,
            "created_at": self.created_at,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Allocation:
        """Read back what `to_dict` returned."""
        return cls(
            allocation_id=data["allocation_id"],
            holder=data["holder"],
            kind=data["kind"],
            demand=Resources.from_dict(data),
            node_id=data["node_id"],
            devices=tuple(zip(data["devices"], data["device_milli"], strict=True)),
            state=data["state"],
            generation=data["generation"],
            created_at=data["created_at"],
        )


def device_allocation(node_id: str, index: int, amount: int) -> Allocation:
    """Return what holds a device, of `amount` thousandths, for all who have parts of it.

    Examples
    --------
    >>> device_allocation("n1", 0, 1000).place
    'device-0-of-n1.1'
    """
    name, demand = f"device-{index}-of-{node_id}", Resources(gpu_milli=amount)
    return Allocation(name, "ledger", "device", demand, node_id, ((index, amount),), "confirmed", 1, 0.0)


@dataclass(frozen=True, slots=True)
class Denied:
    """An allocation that can't be had.

    Attributes
    ----------
    reason : str
        One sentence.
    resource : str or None
        What lacks most.
    lacking : float or None
        How much of it: cores, bytes, devices.
    node_id : str or None
        The node that comes nearest.
    largest_possible : Resources
        What could be had there now.
    permanent : bool
        Whether it could not be had on an idle cluster either.
    """

    reason: str
    resource: str | None
    lacking: float | None
    node_id: str | None
    largest_possible: Resources
    permanent: bool

    def to_dict(self) -> dict[str, Any]:
        """Return ``status`` (``denied``) and the attributes; ``largest_possible`` as ``cpu``, ``memory``, ``gpu``."""
        return {
            "status": "denied",
            "reason": self.reason,
            "resource": self.resource,
            "lacking": self.lacking,
            "node_id": self.node_id,
            "largest_possible": self.largest_possible.to_dict(),
            "permanent": self.permanent,
        }


def amount_text(resource: str, amount: int) -> tuple[float, str]:
    """Return an exact amount in the contract's unit, as a number and in words.

    Examples
    --------
    >>> amount_text("cpu", 1500)
    (1.5, '1.5 cores of cpu')
    """
    value = amount if resource == "memory" else amount / MILLI
    unit = {"cpu": "cores", "memory": "bytes", "gpu": "devices"}.get(resource, "units")
    return value, f"{value:g} {unit} of {resource}"


@dataclass(frozen=True, slots=True)
class PlaceFact:
    """A place that exists in the cluster under one of our names.

    Attributes
    ----------
    place : str
        As `Allocation.place`.
    node_id : str or None
        Where it is; None while it is not created, or when its node is gone.
    created : bool
        Whether it has been created, so that it may be removed.
    """

    place: str
    node_id: str | None
    created: bool


@dataclass(frozen=True, slots=True)
class Repair:
    """What the janitor has found and what is to be done about it.

    `action` is ``create`` (an allocation without a place), ``remove`` (a place without an allocation),
    ``confirm`` (created, but nobody said so), ``abandon`` (never created) or ``moved`` (the ledger has
    followed it to `node_id` already).
    """

    action: Literal["create", "remove", "confirm", "abandon", "moved"]
    place: str
    allocation_id: str
    reason: str
    node_id: str | None = None


class Places(Protocol):
    """Makes allocations visible to the cluster, so that nobody else takes them (placement groups in Ray)."""

    def create(self, allocation: Allocation) -> None:
        """Create the place of an allocation, on its node; `ClusterError` if that can't be done.

        It holds `Allocation.held`.  One that is there already is left as it is.
        """
        ...

    def remove(self, place: str) -> None:
        """Remove a place; one that is not there is removed already."""
        ...


class AllocationJournal(Protocol):
    """Remembers allocations for after a crash."""

    def record(self, changes: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
        """Keep ``(allocation_id, Allocation.to_dict() or None for gone)``, all or none."""
        ...

    def load(self) -> Iterable[dict[str, Any]]:
        """Return every allocation that was kept."""
        ...
