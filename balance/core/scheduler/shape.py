"""A demand in the form in which it is compared with room, millions of times.

Tasks of equal demand and reservation are interchangeable for placement, so they share one `Shape`: what
is found out about one of them (it does not fit now) holds for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.types import MILLI, Resources

if TYPE_CHECKING:
    from balance.core.scheduler.room import Room


class Shape:
    """One demand, taken apart.

    Attributes
    ----------
    demand : Resources
        The demand itself.
    reservation : str or None
        The reservation that tasks of this shape try first.
    cpu, memory, gpu : int
        Thousandths of a core, bytes, thousandths of a device.
    amounts : tuple of (str, int)
        Everything that is not zero, by name: `Resources.items`, taken once.
    per_device : int
        Thousandths of each device that is taken: the fraction, or 1000 for whole devices.
    device_count : int
        How many devices are taken; 0 without GPU.
    misfit : int
        The ledger's `releases` when this was last found to fit nowhere; -1 for not known.
    holder : Room or None
        The empty room that was last found to be able to hold this.

    Examples
    --------
    >>> Shape(Resources.demand(gpu=2)).device_count, Shape(Resources.demand(gpu=0.25)).per_device
    (2, 250)
    """

    __slots__ = (
        "__weakref__",
        "amounts",
        "cpu",
        "custom",
        "demand",
        "device_count",
        "gpu",
        "holder",
        "memory",
        "misfit",
        "per_device",
        "reservation",
    )

    def __init__(self, demand: Resources, reservation: str | None = None) -> None:
        self.demand = demand
        self.reservation = reservation
        self.cpu = demand.cpu_milli
        self.memory = demand.memory_bytes
        self.gpu = demand.gpu_milli
        self.custom = demand.custom
        self.amounts = tuple(demand.items())
        # Ray's rule: up to one device a fraction of one, above it whole devices only.
        self.device_count = -(-demand.gpu_milli // MILLI)
        self.per_device = min(demand.gpu_milli, MILLI)
        self.misfit = -1
        self.holder: Room | None = None

    def __repr__(self) -> str:
        inside = f" in {self.reservation}" if self.reservation else ""
        return f"<Shape {self.demand.to_dict()}{inside}>"
