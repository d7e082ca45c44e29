"""Where data lies in a plain process: its own memory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from balance.errors import UnknownId

if TYPE_CHECKING:
    from balance.core.coordinator.payload import Payload


class LocalShelf:
    """Holds payloads in this process; a location is good in this process only.

    Examples
    --------
    >>> from balance.core.coordinator.payload import Payload
    >>> shelf = LocalShelf()
    >>> location = shelf.put("co2", Payload(b"316.1"))
    >>> location, shelf.get(location).data
    ('shelf:1/co2', b'316.1')
    """

    def __init__(self) -> None:
        self._held: dict[str, Payload] = {}
        self._numbers = itertools.count(1)

    def put(self, data_id: str, payload: Payload) -> str:
        """Keep a payload and return its location; each call gives another one."""
        location = f"shelf:{next(self._numbers)}/{data_id}"
        self._held[location] = payload
        return location

    def get(self, location: str) -> Payload:
        """Return what lies there; `UnknownId` if nothing does."""
        if location not in self._held:
            raise UnknownId("location", location, self._held)
        return self._held[location]

    def holds(self, location: str) -> bool:
        """Say whether something lies there."""
        return location in self._held

    def drop(self, location: str) -> None:
        """Forget it, if it is there."""
        self._held.pop(location, None)
