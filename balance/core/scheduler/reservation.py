"""A reservation: as many equal allocations as its holder has replicas, each wherever there is room for it.

One allocation a replica, instead of one large one, so that a reservation spans nodes, a lost node takes its part of it
only, replicas that share devices are possible, and growing or shrinking leaves the rest alone: a placement group can't
change its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from balance.core.scheduler.allocation import Allocation, Denied
from balance.core.scheduler.node_facts import NodeFacts
from balance.core.scheduler.room import Room
from balance.types import NOTHING, Resources


@dataclass(frozen=True, slots=True)
class ReservationChange:
    """What was decided about a reservation.

    Attributes
    ----------
    given_back : tuple of Allocation
        They are out of the ledger already; their places have yet to be removed.
    denied : Denied or None
        Why there are fewer replicas than were asked for.
    """

    given_back: tuple[Allocation, ...]
    denied: Denied | None


def surplus(
    parts: Sequence[Allocation], count: int, rooms: Mapping[str, Room], facts: Mapping[str, NodeFacts]
) -> list[Allocation]:
    """Return the `count` parts of a reservation to give back: those on the emptiest nodes, so that nodes become free.

    What has no place yet goes before all others.  The head of the cluster comes last, since it is the one node that
    nobody can give back.  On one node the newest part goes first.

    Parameters
    ----------
    parts : sequence of Allocation
        Of one reservation, oldest first, each on a node.
    count : int
        How many; none where it is negative.
    rooms, facts : mapping of str to Room, to NodeFacts
        The general room of each of their nodes, and what is known of the node.
    """

    def order(numbered: tuple[int, Allocation]) -> tuple[bool, bool, float, str, int]:
        number, part = numbered
        node_id = part.node_id or ""
        ready = part.state == "confirmed"
        return ready, facts[node_id].head, _held_share(rooms[node_id]), node_id, -number

    return [part for _, part in sorted(enumerate(parts), key=order)[: max(0, count)]]


def _held_share(room: Room) -> float:
    """Return how full a room is: the largest share of any resource that is held."""
    free = dict(room.free().items())
    return max((1 - free.get(name, 0) / amount for name, amount in room.capacity.items() if amount > 0), default=0.0)


def reservation_dict(name: str, demand: Resources, parts: Sequence[Allocation]) -> dict[str, Any]:
    """Return what a reservation holds.

    Returns
    -------
    dict
        ``status`` (``allocated``, or ``released`` where nothing is held), ``allocation_id`` (its name), ``replicas``,
        ``nodes`` (replicas by node id), ``demand`` (of one replica) and their sum: ``cpu`` (cores), ``memory``
        (bytes), ``gpu`` (devices).

    Examples
    --------
    >>> one = Resources.demand(gpu=0.4)
    >>> part = Allocation("m-1", "m", "reservation", one, "n1", ((0, 400),), "confirmed", 1, 0.0)
    >>> found = reservation_dict("m", one, [part] * 3)
    >>> found["replicas"], found["nodes"], found["gpu"]
    (3, {'n1': 3}, 1.2)
    """
    held = sum((part.demand for part in parts), start=NOTHING)
    return {
        "status": "allocated" if parts else "released",
        "allocation_id": name,
        "replicas": len(parts),
        "nodes": dict(sorted(Counter(part.node_id for part in parts if part.node_id is not None).items())),
        "demand": demand.to_dict(),
        **held.to_dict(),
    }
