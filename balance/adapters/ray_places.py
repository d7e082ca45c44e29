"""Reservations that Ray itself accounts for: detached, named placement groups; and Ray's view of the nodes.

A placement group takes no process, survives its driver, is found by name after a restart and shows in
``ray status``.  Ray checks a fraction of a GPU against the sum of a node's devices and may then find none
that holds it; so it is handed whole devices only, which the ledger divides.

Two traps of Ray shape this adapter: a group that is created where there is no room yet waits for a tick of a
second, so room is awaited first; and a group that is removed before it was created leaks its resources for
good (ray-project/ray#64693), so nothing is removed before its ``wait`` returned.

Every method blocks for milliseconds and is called from a thread.
"""

from __future__ import annotations

import contextlib

from balance.adapters.host import HostProbe
from balance.clock import Clock
from balance.core.scheduler.allocation import Allocation, PlaceFact
from balance.core.scheduler.node_facts import NodeFacts, NodeUse
from balance.defaults import default
from balance.errors import ClusterError
from balance.types import MILLI, Resources

PREFIX = "balance:"
"""What the name of every placement group of Balance begins with."""

NODE_LABEL = "ray.io/node-id"

LOST = "RESCHEDULING"
"""Ray's word for a group whose node is gone.  Ours are bound to their node, so it holds nothing and never will."""

HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head of a cluster."""

_RESOURCES = {"CPU": "cpu", "memory": "memory", "GPU": "gpu"}


def bundle(demand: Resources) -> dict[str, float]:
    """Return a demand as a bundle of Ray; a byte for one that asks for nothing, as no bundle may be empty.

    Examples
    --------
    >>> bundle(Resources.demand(cpu=0.5, memory=1024)), bundle(Resources())
    ({'CPU': 0.5, 'memory': 1024.0}, {'memory': 1.0})
    """
    amounts = {"CPU": demand.cpu, "memory": float(demand.memory_bytes), "GPU": demand.gpu}
    amounts.update({name: amount / MILLI for name, amount in demand.custom})
    return {name: amount for name, amount in amounts.items() if amount} or {"memory": 1.0}


class RayPlaces:
    """The port `balance.core.scheduler.allocation.Places` on a Ray cluster.

    Parameters
    ----------
    clock : Clock, optional
        Measures how long room is awaited.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or default("clock")

    def create(self, allocation: Allocation, *, wait_s: float = 1.0) -> None:
        """Reserve an allocation on its node; `ClusterError` if Ray has no room for it within `wait_s`.

        One that is there already, from a call whose caller died before it heard the answer, is taken over.
        """
        from ray.util import placement_group, remove_placement_group  # noqa: PLC0415
        from ray.util.placement_group import get_placement_group  # noqa: PLC0415

        wanted, node_id = bundle(allocation.held), allocation.node_id or ""
        try:
            group = get_placement_group(PREFIX + allocation.place)
        except ValueError:
            self._await_room(node_id, wanted, wait_s)
            group = placement_group(
                [wanted],
                strategy="STRICT_PACK",
                name=PREFIX + allocation.place,
                lifetime="detached",
                bundle_label_selector=[{NODE_LABEL: node_id}],
            )
        if group.wait(timeout_seconds=max(1.0, wait_s)):
            return
        # Somebody was faster.  The group must have been created before it may be removed.
        if group.wait(timeout_seconds=30.0):
            remove_placement_group(group)
        raise ClusterError(f"Ray did not create the reservation of {wanted} on node {node_id[:8]} in time")

    def _await_room(self, node_id: str, wanted: dict[str, float], wait_s: float) -> None:
        from ray._private.state import available_resources_per_node  # noqa: PLC0415 (Ray has no public call per node)

        until = self._clock.now() + wait_s
        while not _covers(available_resources_per_node().get(node_id, {}), wanted):
            if self._clock.now() >= until:
                raise ClusterError(f"Ray has no room for {wanted} on node {node_id[:8]}: another program holds it")
            self._clock.sleep(0.005)

    def remove(self, place: str) -> None:
        """Give a reservation back; nothing happens if there is none."""
        from ray.util import placement_group_table, remove_placement_group  # noqa: PLC0415
        from ray.util.placement_group import get_placement_group  # noqa: PLC0415

        with contextlib.suppress(ValueError):
            group = get_placement_group(PREFIX + place)
            if placement_group_table(group).get("state") == LOST or group.wait(timeout_seconds=30.0):
                remove_placement_group(group)

    def facts(self) -> list[PlaceFact]:
        """Return every placement group of ours that is there."""
        from ray.util import placement_group_table  # noqa: PLC0415

        found = []
        for group in placement_group_table().values():
            name = str(group.get("name") or "")
            if name.startswith(PREFIX) and group.get("state") != "REMOVED":
                # A group that is being rescheduled was created once, and its node is gone: Ray can't put it elsewhere.
                created = group["state"] in {"CREATED", LOST}
                node_id = group["bundles_to_node_id"].get(0) if group["state"] == "CREATED" else None
                found.append(PlaceFact(name.removeprefix(PREFIX), node_id, created))
        return sorted(found, key=lambda fact: fact.place)


class RayProbe:
    """The port `balance.core.scheduler.node_facts.Probe` on a Ray cluster: Ray's accounts, psutil's measurements.

    Attributes
    ----------
    measured : dict of str to NodeUse
        What was measured on other nodes; whoever can reach them keeps it up to date.
    """

    def __init__(self) -> None:
        self.measured: dict[str, NodeUse] = {}
        self._here = HostProbe()

    def nodes(self) -> list[NodeFacts]:
        """Return every node that is alive."""
        import ray  # noqa: PLC0415 (an adapter pays for its library when it is used)

        [here] = self._here.nodes()
        me = ray.get_runtime_context().get_node_id()
        found = []
        for node in sorted(ray.nodes(), key=lambda node: str(node["NodeID"])):
            if node["Alive"]:
                node_id, amounts = node["NodeID"], node["Resources"]
                used = here.used if node_id == me else self.measured.get(node_id, NodeUse())
                store = int(amounts.get("object_store_memory", 0))
                found.append(NodeFacts(node_id, _capacity(amounts), None, store, used, head=HEAD in amounts))
        return found


def _capacity(amounts: dict[str, float]) -> Resources:
    custom = {
        name: amount
        for name, amount in amounts.items()
        if name not in _RESOURCES
        and name != "object_store_memory"
        and not name.startswith(("node:", "accelerator_type:"))
        and "_group_" not in name
    }
    return Resources.capacity(amounts.get("CPU", 0), amounts.get("memory", 0), amounts.get("GPU", 0), custom)


def _covers(available: dict[str, float], wanted: dict[str, float]) -> bool:
    return all(available.get(name, 0.0) + 1e-6 >= amount for name, amount in wanted.items())
