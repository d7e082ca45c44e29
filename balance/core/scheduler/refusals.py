"""Why an allocation can't be had, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from balance.core.scheduler.allocation import Denied, amount_text
from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.types import NOTHING, Resources


def over_quota(holder: str, demand: Resources, left: Resources) -> Denied | None:
    """Return a refusal if `demand` is more than what is `left` of a holder's quota."""
    room = dict(left.items())
    lacks = {name: amount - room.get(name, 0) for name, amount in demand.items() if amount > room.get(name, 0)}
    if not lacks:
        return None
    resource = max(lacks, key=lambda name: (lacks[name], name))
    value, text = amount_text(resource, lacks[resource])
    return Denied(f"{holder} would be over its quota by {text}", resource, value, None, left, permanent=False)


def no_room(rooms: Sequence[Room], shape: Shape) -> Denied:
    """Return the refusal for a shape that none of `rooms` holds now: the nearest one and what lacks there."""
    if not rooms:
        return Denied("there is no node", None, None, None, NOTHING, permanent=False)
    permanent = not any(room.could_hold(shape) for room in rooms)
    measured = [room.emptied() for room in rooms] if permanent else rooms
    needs = dict(shape.amounts)

    def distance(room: Room) -> tuple[float, str]:
        return sum(amount / needs[name] for name, amount in room.shortfall(shape).items()), room.node_id

    room = min(measured, key=distance)
    lacks = room.shortfall(shape)
    if not lacks:
        reason = f"{room.node_id} has room for it, but not on the devices that it has to have"
        return Denied(reason, "gpu", None, room.node_id, room.free(), permanent)
    resource = max(lacks, key=lambda name: (lacks[name] / needs[name], name))
    value, text = amount_text(resource, lacks[resource])
    when = "could ever hold it" if permanent else "has room for it now"
    reason = f"no node {when}: {room.node_id} comes nearest and lacks {text}"
    return Denied(reason, resource, value, room.node_id, room.free(), permanent)
