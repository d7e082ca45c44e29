"""What the allocator says of a node, and that as events of the scheduler's engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from balance.core.scheduler.allocation import Allocation
from balance.core.scheduler.events import CapacityChanged, Event, NodeJoined, ReservationAdded, ReservationRemoved
from balance.core.scheduler.node_facts import NodeFacts
from balance.types import NOTHING, Resources


def node_view(room: NodeFacts, here: Sequence[Allocation]) -> dict[str, Any]:
    """Return what the scheduler is told of a node.

    Parameters
    ----------
    room : NodeFacts
        What is not allocated there.
    here : sequence of Allocation
        What is allocated there.

    Returns
    -------
    dict
        ``node_id``, ``head`` (whether it is the cluster's), ``total``, ``capacity`` and ``devices`` (what is not
        allocated to anybody else), ``reservations``.
    """
    capacity, devices = room.capacity, dict(room.devices or ())
    for lease in here:
        if lease.kind == "lease":
            capacity += lease.demand
            for index, amount in lease.devices:
                devices[index] = devices.get(index, 0) + amount
    total = capacity
    for each in here:
        total += each.demand if each.kind != "lease" else NOTHING
    return {
        "node_id": room.node_id,
        "head": room.head,
        "total": total.to_dict(),
        "capacity": capacity.to_dict(),
        "devices": sorted(devices.items()),
        "reservations": _reserved(here),
    }


def warm_executors(node: Mapping[str, Any], *, autoscaling: bool) -> int:
    """Return how many executors a node of the view has that wait for work, whether there is any or not.

    To Ray a node is busy while an actor lives there, one that claims nothing, too.  So where an autoscaler listens,
    only the head has some, which stays anyway: other nodes can go when nothing has run there for a while.

    Examples
    --------
    >>> node = {"head": False, "total": Resources.capacity(cpu=4).to_dict()}
    >>> warm_executors(node, autoscaling=False), warm_executors(node, autoscaling=True)
    (4, 0)
    >>> warm_executors(node | {"head": True}, autoscaling=True)
    4
    """
    if autoscaling and not node["head"]:
        return 0
    return max(1, round(Resources.from_dict(node["total"]).cpu))


def watched_nodes(others: Iterable[str], allocations: Iterable[Allocation], *, autoscaling: bool) -> set[str]:
    """Return which of the other nodes are measured by an actor there: all, or the used ones where nodes may go.

    Examples
    --------
    >>> part = Allocation("m-1", "m", "reservation", Resources.demand(cpu=1), "n1", (), "confirmed", 1, 0.0)
    >>> sorted(watched_nodes(["n1", "n2"], [part], autoscaling=False))
    ['n1', 'n2']
    >>> watched_nodes(["n1", "n2"], [part], autoscaling=True)
    {'n1'}
    """
    return set(others) & {each.node_id for each in allocations if each.node_id} if autoscaling else set(others)


def _reserved(here: Sequence[Allocation]) -> list[dict[str, Any]]:
    """Return what each holder has reserved on a node, its replicas taken together.

    Examples
    --------
    >>> one = Resources.demand(cpu=1, gpu=0.4)
    >>> part = Allocation("m-1", "m", "reservation", one, "n1", ((0, 400),), "confirmed", 1, 0.0)
    >>> _reserved([part, part])
    [{'name': 'm', 'capacity': {'cpu': 2.0, 'memory': 0, 'gpu': 0.8}, 'devices': [(0, 800)]}]
    """
    capacities: dict[str, Resources] = {}
    devices: dict[str, Counter[int]] = {}
    for each in here:
        if each.kind == "reservation" and each.state == "confirmed":
            capacities[each.holder] = capacities.get(each.holder, NOTHING) + each.demand
            devices.setdefault(each.holder, Counter()).update(dict(each.devices))
    return [
        {"name": name, "capacity": amount.to_dict(), "devices": sorted(devices[name].items())}
        for name, amount in sorted(capacities.items())
    ]


def node_events(node: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[Event]:
    """Return what has changed on a node since an earlier view of it (None: it is new)."""
    node_id, capacity, devices = node["node_id"], Resources.from_dict(node["capacity"]), _devices(node["devices"])
    events: list[Event] = []
    if before is None:
        events.append(NodeJoined(node_id, capacity, devices, Resources.from_dict(node["total"])))
    elif (node["capacity"], node["devices"]) != (before["capacity"], before["devices"]):
        events.append(CapacityChanged(node_id, capacity, devices))
    held = {entry["name"]: entry for entry in before["reservations"]} if before else {}
    for entry in node["reservations"]:
        if held.pop(entry["name"], None) != entry:
            amount = Resources.from_dict(entry["capacity"])
            events.append(ReservationAdded(entry["name"], node_id, amount, _devices(entry["devices"])))
    return [*(ReservationRemoved(name, node_id) for name in sorted(held)), *events]


def _devices(devices: Sequence[Sequence[int]] | None) -> tuple[tuple[int, int], ...] | None:
    return None if devices is None else tuple((int(index), int(amount)) for index, amount in devices)
