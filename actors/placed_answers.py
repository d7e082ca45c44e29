"""Large answers: placed like registered data, under names made of their digests, as many as may have one."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from balance.errors import Conflict, SourceUnavailable, UnknownId

if TYPE_CHECKING:
    from balance.adapters.collect.blob_cache import BlobCache
    from balance.adapters.readers import Readers
    from balance.core.coordinator import DataCoordinator

READER = "collected"
"""Of what was too large for a message: it lies in the collectors' cache under its digest."""

PLACED_MAX = 1_000
"""How many large answers keep a name; the oldest that nobody holds loses its own."""

Place = Callable[[str, str, "float | None"], Awaitable[dict[str, Any]]]


class PlacedAnswers:
    """Places answers: equal ones lie there once, and the budget and eviction count for them too.

    Parameters
    ----------
    data : DataCoordinator
        Large answers become data of it.
    readers : Readers
        Of `data`; gets a reader for them.
    cache : BlobCache
        Where their bytes are.
    place : async callable
        Brings data within reach: gets the request's id, the data's id and how old a copy may be (seconds or None),
        returns ``location``, ``size_bytes``, ``digest``.
    """

    def __init__(self, *, data: DataCoordinator, readers: Readers, cache: BlobCache, place: Place) -> None:
        self._data = data
        self._cache = cache
        self._place = place
        readers.register(READER, self._blob)
        restored = (entry["data_id"] for entry in data.list_data() if entry["source"].startswith(f"reader:{READER}?"))
        self._placed: OrderedDict[str, None] = OrderedDict.fromkeys(restored)

    async def put(self, request_id: str, body: bytes) -> dict[str, Any]:
        """Place items (JSON) and return ``location``, ``size_bytes``, ``digest``."""
        digest = await asyncio.to_thread(self._cache.put_blob, body)
        data_id = f"{READER}-{digest}"
        self._data.register_data_source(data_id, len(body), f"reader:{READER}?digest={digest}")
        placed = await self._place(request_id, data_id, None)
        self._note(data_id)
        return placed

    def _note(self, data_id: str) -> None:
        self._placed[data_id] = None
        self._placed.move_to_end(data_id)
        for oldest in list(self._placed)[:-1]:
            if len(self._placed) <= PLACED_MAX:
                break
            try:
                self._data.forget(oldest)
            except Conflict:  # somebody holds it
                continue
            except UnknownId:
                pass
            del self._placed[oldest]

    def _blob(self, digest: str) -> Any:
        body = self._cache.blob(digest)
        if body is None:
            raise SourceUnavailable(f"what was collected as {digest} is not in the cache any more; ask for it again")
        return json.loads(body)
