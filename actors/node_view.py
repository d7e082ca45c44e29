"""What the allocator says of a node, as events of the scheduler's engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from balance.core.scheduler.events import CapacityChanged, Event, NodeJoined, ReservationAdded, ReservationRemoved
from balance.types import Resources


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
