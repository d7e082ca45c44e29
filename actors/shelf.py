"""Where data lies on a cluster: Ray's object store, one copy per node that reads it."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import ray

from actors.base import CALL_TIMEOUT_S, peer
from balance.core.coordinator.payload import Payload
from balance.errors import UnknownId


class RayShelf:
    """Holds payloads in Ray's object store; the data coordinator's actor owns them.

    A location is a name that any process of the cluster can `read`; Ray brings the bytes to its node once.

    Parameters
    ----------
    epoch : int
        Of the owner: the copies die with it, and no later one takes the name of one of them.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._epoch = epoch
        self._held: dict[str, Any] = {}
        self._numbers = itertools.count(1)

    def put(self, data_id: str, payload: Payload) -> str:
        """Keep a payload and return its location; each call gives another one."""
        location = f"objects:{self._epoch}-{next(self._numbers)}-{payload.digest[-12:]}/{data_id}"
        self._held[location] = ray.put(payload)
        return location

    def reference(self, location: str) -> Any:
        """Return Ray's reference of what lies there; `UnknownId` if nothing does."""
        if location not in self._held:
            raise UnknownId("location", location, self._held)
        return self._held[location]

    def get(self, location: str) -> Payload:
        """Return what lies there; `UnknownId` if nothing does."""
        payload: Payload = ray.get(self.reference(location), timeout=CALL_TIMEOUT_S)
        return payload

    def holds(self, location: str) -> bool:
        """Say whether something lies there."""
        return location in self._held

    def drop(self, location: str) -> None:
        """Forget it, if it is there; Ray frees the memory when no reader needs it any more."""
        self._held.pop(location, None)


@lru_cache(maxsize=64)
def read(location: str) -> Any:
    """Return the bytes or JSON value at a location; kept in this process, since a location never changes."""
    [reference] = ray.get(peer("data_coordinator").reference.remote(location), timeout=CALL_TIMEOUT_S)
    payload: Payload = ray.get(reference, timeout=CALL_TIMEOUT_S)
    return payload.value()
