"""What there is, what is free, what is reserved and what is used, for the cluster and per node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.node_facts import NodeFacts
from balance.core.scheduler.room import Room
from balance.types import MILLI

_NAMES = ("cpu", "memory", "gpu", "object_store")
_KINDS = ("total", "available", "reserved", "used")


def system_resources(ledger: Ledger, nodes: Iterable[NodeFacts], allocations: int) -> dict[str, Any]:
    """Join the ledger's accounts with what was measured; the keys are those of `get_system_resources`."""
    by_node = {facts.node_id: _node(room, facts) for facts in nodes if (room := ledger.room(facts.node_id))}
    cluster: dict[str, Any] = {kind: _sum(node[kind] for node in by_node.values()) for kind in _KINDS}
    return {
        "status": "ok" if by_node else "no_nodes",
        "cluster": cluster,
        "nodes": by_node,
        "allocations": allocations,
    }


def _node(room: Room, facts: NodeFacts) -> dict[str, Any]:
    total = facts.capacity.to_dict() | {"object_store": facts.object_store_bytes}
    available: dict[str, Any] = {
        "cpu": room.cpu / MILLI,
        "memory": room.memory,
        "gpu": sum(room.gpus.values()) / MILLI,
        # Balance places objects, it does not reserve room for them: what is not used is available.
        "object_store": facts.object_store_bytes - (facts.used.object_store_bytes or 0),
    }
    if facts.capacity.custom:
        available["custom"] = {name: room.custom.get(name, 0) / MILLI for name, _ in facts.capacity.custom}
    reserved = {name: total[name] - available[name] for name in ("cpu", "memory", "gpu")} | {"object_store": 0}
    if "custom" in total:
        reserved["custom"] = {name: total["custom"][name] - left for name, left in available["custom"].items()}
    used = facts.used
    return {
        "total": total,
        "available": available,
        "reserved": reserved,
        "used": {
            "cpu": used.cpu,
            "memory": used.memory_bytes,
            "gpu": used.gpu,
            "object_store": used.object_store_bytes,
        },
        "devices": {str(index): free / MILLI for index, free in sorted(room.gpus.items())},
    }


def _sum(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = dict.fromkeys(_NAMES, None)
    custom: dict[str, float] = {}
    some = False
    for part in parts:
        some = True
        for name in _NAMES:
            if part[name] is not None:
                out[name] = (out[name] or 0) + part[name]
        for name, amount in part.get("custom", {}).items():
            custom[name] = custom.get(name, 0) + amount
    if not some:
        out = dict.fromkeys(_NAMES, 0)
    return out | ({"custom": custom} if custom else {})
