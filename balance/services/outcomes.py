"""What became of requests, so that one that comes again is answered and not done again.

Whoever answered it: what is looked for and not in this process's memory is looked for in the database, where all
collectors write.  Bounded: the oldest go when there are too many.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from balance.types import check_int

if TYPE_CHECKING:
    from balance.storage import GroupCommit, Store, Transaction

COLLECTION = "data_outcomes"
MAX_ITEMS = 10_000
#: How many outcomes are written between two looks for too many.
PRUNE_EVERY = 500


class OutcomeMemory:
    """The outcomes of the last requests, by request id.

    Parameters
    ----------
    store : Store, optional
        Makes it durable, and shared by all who have this store; without one it is this process's memory only.
    commits : GroupCommit, optional
        The right to write there; needed with a store.
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

    def __init__(
        self, *, store: Store | None = None, commits: GroupCommit | None = None, max_items: int = MAX_ITEMS
    ) -> None:
        self._store = store
        self._commits = commits
        self._max_items = check_int("max_items", max_items, minimum=1)
        self._items: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._written = 0

    async def get(self, request_id: str) -> dict[str, Any] | None:
        """Return the outcome, or None."""
        known = self._items.get(request_id)
        if known is None and self._store is not None:
            known = await asyncio.to_thread(self._store.get, COLLECTION, request_id)
        return known

    async def put(self, request_id: str, outcome: dict[str, Any]) -> None:
        """Keep an outcome; it is durable when this returns, if there is a store."""
        if self._commits is not None:
            self._written += 1
            prune = self._written % PRUNE_EVERY == 1

            def write(tx: Transaction) -> None:
                tx.put(COLLECTION, request_id, outcome)
                if prune:
                    tx.keep_newest(COLLECTION, self._max_items)

            await asyncio.shield(asyncio.wrap_future(self._commits.submit(write)))
        self._items[request_id] = outcome
        self._items.move_to_end(request_id)
        while len(self._items) > self._max_items:
            self._items.popitem(last=False)
