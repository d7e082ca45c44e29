"""What became of requests, so that one that comes again is answered and not done again.

Bounded: the oldest go when there are too many.  With a journal it survives a restart; without one it is this
process's memory only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from balance.types import check_int

COLLECTION = "data_outcomes"


class Journal(Protocol):
    """Where outcomes are kept (`balance.storage.journal.StoreJournal` is one)."""

    def put(self, collection: str, key: str, body: Mapping[str, Any]) -> None:
        """Write a document durably."""
        ...

    def delete(self, collection: str, key: str) -> None:
        """Remove a document, if it is there."""
        ...

    def scan(self, collection: str) -> list[tuple[str, dict[str, Any]]]:
        """Return every document with its key."""
        ...


class OutcomeMemory:
    """The outcomes of the last requests, by request id.

    Parameters
    ----------
    journal : Journal, optional
        Makes it durable; read when the first outcome is asked for.
    max_items : int, default 10,000
        How many are kept.

    Examples
    --------
    >>> async def main():
    ...     memory = OutcomeMemory(max_items=1)
    ...     await memory.put("a", {"status": "ok"})
    ...     await memory.put("b", {"status": "error"})
    ...     return await memory.get("a"), await memory.get("b")
    >>> asyncio.run(main())
    (None, {'status': 'error'})
    """

    def __init__(self, *, journal: Journal | None = None, max_items: int = 10_000) -> None:
        self._journal = journal
        self._max_items = check_int("max_items", max_items, minimum=1)
        self._items: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._sequence = 0
        self._loaded = journal is None

    async def get(self, request_id: str) -> dict[str, Any] | None:
        """Return the outcome, or None."""
        await self._load()
        return self._items.get(request_id)

    async def put(self, request_id: str, outcome: dict[str, Any]) -> None:
        """Keep an outcome; it is durable when this returns, if there is a journal."""
        await self._load()
        self._sequence += 1
        self._items[request_id] = outcome
        self._items.move_to_end(request_id)
        gone = [self._items.popitem(last=False)[0] for _ in range(len(self._items) - self._max_items)]
        if self._journal is not None:
            body = {"sequence": self._sequence, "outcome": outcome}
            await asyncio.to_thread(self._journal.put, COLLECTION, request_id, body)
            for key in gone:
                await asyncio.to_thread(self._journal.delete, COLLECTION, key)

    async def _load(self) -> None:
        if self._loaded or self._journal is None:
            return
        found = await asyncio.to_thread(self._journal.scan, COLLECTION)
        if not self._loaded:  # another call may have been faster
            for key, body in sorted(found, key=lambda entry: (entry[1]["sequence"], entry[0])):
                self._items[key] = body["outcome"]
                self._sequence = body["sequence"]
            self._loaded = True
