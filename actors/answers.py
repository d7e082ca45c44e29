"""Who waits for which answer: a waiter is woken by the end of its request, or finds it in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from balance.errors import UnknownId
from balance.storage import Store


class Answers:
    """The answers of requests, for those who wait for them.

    Parameters
    ----------
    store : Store
        Has the outcome of every request that is over.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def of(self, request_id: str, timeout_s: float) -> dict[str, Any]:
        """Wait, at most `timeout_s` seconds, for the answer of an accepted request; see `BatchesActor.answer`."""
        # The future first, then the look: an end in between is not missed.
        known = request_id in self._waiting
        waiting = self._waiting.setdefault(request_id, asyncio.get_running_loop().create_future())
        with self._store.reading() as tx:
            row = tx.requests.get(request_id)
        if row is not None and row["state"] == "accepted":
            try:
                return await asyncio.wait_for(asyncio.shield(waiting), timeout_s)
            except TimeoutError:
                return {"status": "pending", "request_id": request_id}
        if not known:
            self._waiting.pop(request_id, None)
        if row is None:
            raise UnknownId("request", request_id)
        return {"status": row["state"], "request_id": request_id, **(row["outcome"] or {})}

    def tell(self, end: Mapping[str, Any]) -> None:
        """Give an end, a row that is in the store now, to whoever waits for it."""
        waiting = self._waiting.pop(end["request_id"], None)
        if waiting is not None and not waiting.done():
            waiting.set_result({"status": end["state"], "request_id": end["request_id"], **end["outcome"]})

    def look(self, request_id: str) -> None:
        """Give whoever waits for a request the end that the store has of it."""
        if request_id in self._waiting:
            with self._store.reading() as tx:
                row = tx.requests.get(request_id)
            if row is not None and row["state"] != "accepted":
                self.tell({**row, "outcome": row["outcome"] or {}})
