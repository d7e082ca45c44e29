"""What a model reserves is more than room: so many executors have its code loaded before anybody asks for it.

The scheduler is told which function answers for a reservation.  Whenever the reservation grows or shrinks on a node,
executors there are made ready or let go; how long that takes is the model's cold start, as measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.crew import Crew, Devices
from balance.client.wire import Function
from balance.types import MILLI, Resources

SERVICES = "services"


@dataclass(frozen=True, slots=True)
class _Service:
    digest: str
    blob: bytes
    demand: Resources


class Warmth:
    """Keeps executors ready for the models that have reservations.

    Parameters
    ----------
    crew : Crew
        Whose executors these are.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._services: dict[str, _Service] = {}
        self._nodes: list[Mapping[str, Any]] = []
        self._told: set[tuple[str, Devices, str]] = set()

    def serve(self, reservation: str, function: Function | None, demand: Mapping[str, Any]) -> Callable[[Any], None]:
        """Learn which function runs on a reservation (None: none any more), and what one run takes.

        Returns
        -------
        callable
            Writes that down in a transaction, for `restore`.
        """
        self._services.pop(reservation, None)
        if function is None:
            self.look()
            return lambda tx: tx.delete(SERVICES, reservation)
        self._serve(reservation, function.digest, function.blob, demand)
        self.look()
        body = {"function": function.digest, "demand": dict(demand)}
        return lambda tx: tx.put(SERVICES, reservation, body)

    def _serve(self, reservation: str, digest: str, blob: bytes, demand: Mapping[str, Any]) -> None:
        self._services[reservation] = _Service(digest, blob, Resources.from_dict(demand))

    def restore(self, services: Iterable[tuple[str, Mapping[str, Any]]], blob: Callable[[str], bytes]) -> None:
        """Go on with what an earlier scheduler was told."""
        for reservation, body in services:
            self._serve(reservation, body["function"], blob(body["function"]), body["demand"])
        self.look()

    def look(self, nodes: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Make ready what is reserved on these nodes (of the allocator's view), and let go of what is not any more.

        Without `nodes`, those of the last look.
        """
        if nodes is not None:
            self._nodes = list(nodes)
        wanted: dict[tuple[str, Devices, str], tuple[bytes, int]] = {}
        for node in self._nodes:
            for entry in node["reservations"]:
                service = self._services.get(entry["name"])
                if service is not None:
                    amount = Resources.from_dict(entry["capacity"])
                    for devices, count in slots(amount, entry["devices"], service.demand).items():
                        wanted[node["node_id"], devices, service.digest] = (service.blob, count)
        for node_id, devices, digest in self._told - wanted.keys():
            self._crew.keep_ready(node_id, devices, digest, b"", 0)
        for (node_id, devices, digest), (blob, count) in wanted.items():
            self._crew.keep_ready(node_id, devices, digest, blob, count)
        self._told = set(wanted)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return by reservation ``ready`` (executors that have its code loaded) and ``starts_s`` (the last ones)."""
        return {
            name: {"ready": self._crew.ready(service.digest), "starts_s": self._crew.ready_s(service.digest)}
            for name, service in sorted(self._services.items())
        }


def slots(amount: Resources, devices: Sequence[tuple[int, int]], demand: Resources) -> dict[Devices, int]:
    """Return how many runs fit at once into what is reserved on a node, by the devices that they see.

    Parameters
    ----------
    amount : Resources
        What is reserved in all.
    devices : sequence of (int, int)
        Index and thousandths of each device of it.
    demand : Resources
        Of one run.  Where it takes several devices, it is taken to get the next ones in order.

    Examples
    --------
    >>> slots(Resources.capacity(cpu=2.0), [], Resources.demand(cpu=0.5))
    {(): 4}
    >>> slots(Resources.capacity(gpu=1.2), [(0, 800), (1, 400)], Resources.demand(gpu=0.4))
    {(0,): 2, (1,): 1}
    >>> slots(Resources.capacity(gpu=4), [(0, 1000), (1, 1000), (4, 1000), (5, 1000)], Resources.demand(gpu=2))
    {(0, 1): 1, (4, 5): 1}
    """
    if demand.gpu_milli == 0:
        return {(): replicas_in(amount, demand)}
    if demand.gpu_milli < MILLI:
        return {(index,): share // demand.gpu_milli for index, share in devices if share >= demand.gpu_milli}
    whole = [index for index, share in devices if share == MILLI]
    count = demand.gpu_milli // MILLI
    return {tuple(whole[start : start + count]): 1 for start in range(0, len(whole) - count + 1, count)}


def replicas_in(amount: Resources, demand: Resources) -> int:
    """Return how many runs fit into an amount at once.

    Examples
    --------
    >>> replicas_in(Resources.capacity(cpu=2.0), Resources.demand(cpu=0.5))
    4
    >>> replicas_in(Resources.capacity(cpu=2.0, memory=2**30), Resources.demand(cpu=0.5, memory=2**29))
    2
    """
    pairs = [(amount.cpu_milli, demand.cpu_milli), (amount.memory_bytes, demand.memory_bytes)]
    return min((have // need for have, need in pairs if need > 0), default=1)
