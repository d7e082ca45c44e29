"""The journal of a coordinator, kept in the store: a few documents that are there after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balance.storage.fence import Fence
    from balance.storage.store import Store


class StoreJournal:
    """Documents of one owner, each call a durable transaction of its own.

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> journal = StoreJournal(store, store.acquire("sync_coordinator"))
    >>> journal.put("sync", "copy", {"bytes_done": 0})
    >>> journal.scan("sync")
    [('copy', {'bytes_done': 0})]
    """

    def __init__(self, store: Store, fence: Fence) -> None:
        self._store = store
        self._fence = fence

    def put(self, collection: str, key: str, body: Mapping[str, Any]) -> None:
        """Write a document; it is durable when this returns."""
        with self._store.transaction(self._fence) as tx:
            tx.put(collection, key, body)

    def delete(self, collection: str, key: str) -> None:
        """Remove a document, if it is there."""
        with self._store.transaction(self._fence) as tx:
            tx.delete(collection, key)

    def scan(self, collection: str) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(key, document)`` of a collection, sorted by key."""
        return self._store.scan(collection)
