"""The functions that tasks call: kept once by the hash of their pickle, durably, and the latest in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from balance.errors import InvalidValue, UnknownId
from balance.storage import Store

IN_MEMORY = 1000
"""How many functions are kept in memory; the store has them all."""


class FunctionStore:
    """Pickled functions by their hash.

    Parameters
    ----------
    store : Store
        Where they are read.
    commit : callable
        Runs a write durably: a shell's `commit`.
    """

    def __init__(self, store: Store, commit: Callable[[Callable[[Any], None]], Awaitable[None]]) -> None:
        self._store = store
        self._commit = commit
        self._blobs: OrderedDict[str, bytes] = OrderedDict()

    async def keep(self, blobs: Mapping[str, bytes]) -> None:
        """Keep functions; they are durable when this returns.

        Raises
        ------
        InvalidValue
            A pickle's hash is not the one that it was sent under.
        """
        new = {digest: blob for digest, blob in blobs.items() if digest not in self._blobs}
        for digest, blob in new.items():
            if hashlib.sha256(blob).hexdigest() != digest:
                raise InvalidValue("function", digest, "the SHA-256 of the pickle that was sent with it")
        if new:
            await self._commit(lambda tx: tx.tasks.put_functions(new))
            for digest, blob in new.items():
                self._remember(digest, blob)

    def blob(self, digest: str) -> bytes:
        """Return a function's pickle; `UnknownId` if it was never kept."""
        if digest not in self._blobs and self.lacking([digest]):
            raise UnknownId("function", digest, self._blobs)
        return self._blobs[digest]

    def lacking(self, digests: Iterable[str]) -> list[str]:
        """Return those of `digests` that are not kept; the others are in memory afterwards."""
        absent = [digest for digest in dict.fromkeys(digests) if digest not in self._blobs]
        if not absent:
            return []
        with self._store.reading() as tx:
            found = tx.tasks.functions(absent)
        for digest, blob in found.items():
            self._remember(digest, blob)
        return [digest for digest in absent if digest not in found]

    def _remember(self, digest: str, blob: bytes) -> None:
        self._blobs[digest] = blob
        while len(self._blobs) > IN_MEMORY:
            self._blobs.popitem(last=False)
