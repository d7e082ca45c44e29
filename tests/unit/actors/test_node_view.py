"""What the allocator's view of a node becomes for the engine."""

from __future__ import annotations

from typing import Any

from actors.node_view import node_events, node_view, warm_executors
from balance.core.scheduler.events import CapacityChanged, NodeJoined, ReservationAdded, ReservationRemoved
from balance.core.scheduler.node_facts import NodeFacts
from balance.types import Resources


def view(node_id: str, cores: float, **reserved: float) -> dict[str, Any]:
    """Return a node of the allocator's view, with so many cores for everybody and so many reserved by name."""
    reservations = [
        {"name": name, "capacity": Resources.capacity(cpu=amount).to_dict(), "devices": []}
        for name, amount in reserved.items()
    ]
    capacity = Resources.capacity(cpu=cores).to_dict()
    total = Resources.capacity(cpu=cores + sum(reserved.values())).to_dict()
    return {"node_id": node_id, "capacity": capacity, "total": total, "devices": [], "reservations": reservations}


def test_nodes_that_may_go_keep_nobody() -> None:
    """Under an autoscaler a node without work has no actor of ours: Ray would take it for busy for ever."""
    node = node_view(NodeFacts("n1", Resources.capacity(cpu=4)), [])
    head = node_view(NodeFacts("n1", Resources.capacity(cpu=4), head=True), [])
    assert [warm_executors(each, autoscaling=True) for each in (node, head)] == [0, 4]
    assert [warm_executors(each, autoscaling=False) for each in (node, head)] == [4, 4]


def test_a_reservation_goes_from_the_node_that_no_longer_has_it_only() -> None:
    """The event names the node: what the same reservation has on others is not touched."""
    before, now = view("n2", 1.0, m=1.0), view("n2", 2.0)
    assert node_events(now, before) == [
        ReservationRemoved("m", "n2"),
        CapacityChanged("n2", Resources.capacity(cpu=2), ()),
    ]


def test_a_new_node_brings_what_is_reserved_on_it() -> None:
    """The node first, then its reservations; the same view again is no news."""
    node = view("n1", 1.0, m=1.0)
    assert node_events(node, None) == [
        NodeJoined("n1", Resources.capacity(cpu=1), (), Resources.capacity(cpu=2)),
        ReservationAdded("m", "n1", Resources.capacity(cpu=1), ()),
    ]
    assert node_events(node, node) == []
