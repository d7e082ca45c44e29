"""Who holds which data, kept in one transaction with the references that they count.

`DataCoordinator` counts references; it does not know whose they are.  A holder that dies (an actor, a batch)
never releases its own, and a call that Ray makes again after a death would count twice.  So a hold has a
name: taking it twice is taking it once, and all holds of one holder can be let go at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from balance.storage import Store
from balance.storage.fence import Fence

COLLECTION = "data_holds"


class Hold(NamedTuple):
    """One holder's claim on one piece of data.

    Attributes
    ----------
    holder : str
        Who holds it: an actor's role, or ``client``.
    name : str
        Which of the holder's claims it is.
    data_id : str
        On what.
    """

    holder: str
    name: str
    data_id: str

    @property
    def key(self) -> str:
        """The name of its document."""
        return "/".join(self)


class Holds:
    """The journal of a `DataCoordinator` (`balance.core.coordinator.ports.Journal`) that knows the holders, too.

    Parameters
    ----------
    store, fence : Store, Fence
        Where it is kept, and the right to write there.

    Examples
    --------
    >>> store = Store()
    >>> holds = Holds(store, store.acquire("data_coordinator"))
    >>> hold = Hold("batches", "batch-1", "sunspots")
    >>> with holds.taking(hold, references=1):
    ...     holds.put("data_sources", "sunspots", {"references": 1})
    >>> Holds(store, store.acquire("data_coordinator")).of("batches")
    [Hold(holder='batches', name='batch-1', data_id='sunspots')]
    """

    def __init__(self, store: Store, fence: Fence) -> None:
        self._store = store
        self._fence = fence
        self._held = {Hold(*body["hold"]): None for _key, body in store.scan(COLLECTION)}
        self._now: tuple[Hold, int, bool] | None = None

    def __contains__(self, hold: object) -> bool:
        return hold in self._held

    def of(self, holder: str, name: str | None = None) -> list[Hold]:
        """Return the holds of one holder, or those of one name among them, oldest first."""
        return [hold for hold in self._held if hold.holder == holder and name in (None, hold.name)]

    @contextmanager
    def taking(self, hold: Hold, references: int) -> Iterator[None]:
        """Inside, the write that brings the data's references to `references` notes the hold, too."""
        self._now = (hold, references, True)
        try:
            yield
        finally:
            self._now = None

    @contextmanager
    def leaving(self, hold: Hold, references: int) -> Iterator[None]:
        """Inside, the write that brings the data's references to `references` forgets the hold, too."""
        self._now = (hold, references, False)
        try:
            yield
        finally:
            self._now = None

    # -- the journal -------------------------------------------------------------------------------

    def put(self, collection: str, key: str, body: Mapping[str, Any]) -> None:
        """Write a document, and with it the change of the hold that it stands for."""
        changed = None
        with self._store.transaction(self._fence) as tx:
            tx.put(collection, key, body)
            if self._now is not None and (key, body["references"]) == (self._now[0].data_id, self._now[1]):
                changed, _references, taken = self._now
                if taken:
                    tx.put(COLLECTION, changed.key, {"hold": list(changed)})
                else:
                    tx.delete(COLLECTION, changed.key)
        if changed is not None and taken:
            self._held[changed] = None
        elif changed is not None:
            self._held.pop(changed, None)

    def delete(self, collection: str, key: str) -> None:
        """Remove a document, if it is there."""
        with self._store.transaction(self._fence) as tx:
            tx.delete(collection, key)

    def scan(self, collection: str) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(key, document)`` of a collection, sorted by key."""
        return self._store.scan(collection)
