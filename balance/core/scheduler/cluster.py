"""What happens to the cluster: nodes, capacity and reservations that come, change and go."""

from __future__ import annotations

from balance.core.scheduler.attempts import Attempts
from balance.core.scheduler.events import (
    CapacityChanged,
    Event,
    NodeJoined,
    NodeLost,
    ReservationAdded,
    ReservationRemoved,
)
from balance.core.scheduler.room import Room
from balance.core.scheduler.state import EngineState
from balance.errors import Conflict, UnknownId
from balance.types import check_id


class Cluster:
    """Keeps the ledger's rooms as the facts say, and tells the tasks that they concern.

    Parameters
    ----------
    state : EngineState
        What it works on.
    attempts : Attempts
        Told about tasks that were running on a node that is gone.
    """

    def __init__(self, state: EngineState, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts

    def joined(self, event: Event) -> None:
        """Add a node; for a known one its capacity and limit are brought up to date."""
        assert isinstance(event, NodeJoined)
        check_id("node_id", event.node_id)
        state = self._state
        limit = event.limit if event.limit is not None else event.capacity
        state.limits[event.node_id] = Room(event.node_id, "", limit, event.devices if event.limit is None else None)
        room = state.ledger.room(event.node_id)
        if room is None:
            state.ledger.add_room(event.node_id, "", event.capacity, event.devices)
        else:
            state.ledger.resize_room(room, event.capacity, event.devices)
        state.shares.resize(state.ledger.total)

    def lost(self, event: Event) -> None:
        """Take a node away; what ran there has lost its worker.  An unknown node is gone already."""
        assert isinstance(event, NodeLost)
        state = self._state
        state.limits.pop(event.node_id, None)
        rooms = [room for room in state.ledger.rooms() if room.node_id == event.node_id]
        holds = [hold for room in rooms for hold in room.holds.values()]
        for hold in sorted(holds, key=lambda hold: state.tasks[hold.holder].seq):
            task = state.tasks[hold.holder]
            if task.hold is not None:
                self._attempts.lost(task, f"node {event.node_id} is lost")
        for room in rooms:
            self._forget_earmark(room)
            state.ledger.remove_room(room)
        state.shares.resize(state.ledger.total)

    def resized(self, event: Event) -> None:
        """Change a node's capacity; what runs there runs on, even if it no longer fits."""
        assert isinstance(event, CapacityChanged)
        state = self._state
        room = state.ledger.room(event.node_id)
        if room is None:
            raise UnknownId("node", event.node_id, state.ledger.nodes())
        state.ledger.resize_room(room, event.capacity, event.devices)
        self._forget_earmark(room)
        state.shares.resize(state.ledger.total)

    def reserved(self, event: Event) -> None:
        """Add a reservation's room; the same again resizes it."""
        assert isinstance(event, ReservationAdded)
        check_id("reservation", event.name)
        state = self._state
        if state.ledger.room(event.node_id) is None:
            raise UnknownId("node", event.node_id, state.ledger.nodes())
        room = state.ledger.room(event.node_id, event.name)
        if room is None:
            state.ledger.add_room(event.node_id, event.name, event.capacity, event.devices)
        else:
            state.ledger.resize_room(room, event.capacity, event.devices)
        state.shares.resize(state.ledger.total)

    def unreserved(self, event: Event) -> None:
        """Remove a reservation's room; what runs there counts against the node from now on."""
        assert isinstance(event, ReservationRemoved)
        state = self._state
        room = state.ledger.room(event.node_id, event.name) if event.name else None
        if room is None:
            return
        general = state.ledger.room(room.node_id)
        if general is None:
            raise Conflict(f"reservation {event.name!r} lies on no known node", reservation=event.name)
        for hold in state.ledger.remove_room(room):
            state.tasks[hold.holder].hold = state.ledger.take(hold.holder, general, hold.shape, hold.devices)
        state.shares.resize(state.ledger.total)

    def _forget_earmark(self, room: Room) -> None:
        earmark = self._state.earmark_on(room)
        if earmark is not None:
            self._state.drop_earmark(earmark.line)
