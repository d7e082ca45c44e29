"""What messages may ask for: data that was registered by name, and whatever the collectors can find."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collectors import Collectors
from balance.errors import Conflict, SourceUnavailable, UnknownId
from balance.messaging import DataRequest, DataSource
from balance.messaging.delivery import encode_message
from balance.messaging.schemas import MAX_INLINE_BYTES

if TYPE_CHECKING:
    from balance.adapters.readers import Readers
    from balance.core.coordinator import DataCoordinator

READER = "collected"
"""Of what was too large for a message: it lies in the collectors' cache under its digest."""

PLACED_MAX = 1_000
"""How many large answers keep a name; the oldest that nobody holds loses its own."""

_NAMED = frozenset({DataSource.FILE, DataSource.DATABASE})

Place = Callable[[str, str, float | None], Awaitable[dict[str, Any]]]


class Gathering:
    """Answers data requests for the collector.

    CUSTOM without a ``collector`` is registered data by its name; so are FILE and DATABASE where the query is such a
    name.  Anything else goes to the collectors.  A small answer travels in the message; a large one is placed like
    registered data, under a name made of its digest, so equal answers lie there once, and the budget and eviction count
    for it too; the message then says where its items lie, and all but them.

    Parameters
    ----------
    data : DataCoordinator
        What is registered; large answers become data of it.
    readers : Readers
        Of `data`; gets a reader for large answers.
    collectors : Collectors
    place : async callable
        Brings data within reach: gets the request's id, the data's id and how old a copy may be (seconds or None),
        returns ``location``, ``size_bytes``, ``digest``.
    """

    def __init__(self, *, data: DataCoordinator, readers: Readers, collectors: Collectors, place: Place) -> None:
        self._data = data
        self._collectors = collectors
        self._place = place
        readers.register(READER, self._blob)
        restored = (entry["data_id"] for entry in data.list_data() if entry["source"].startswith(f"reader:{READER}?"))
        self._placed: OrderedDict[str, None] = OrderedDict.fromkeys(restored)

    async def fetch(self, request: DataRequest) -> dict[str, Any]:
        """Return what a request asks for, as `Collector` wants it."""
        request_id = request.metadata.request_id
        if self._goes_by_name(request):
            return await self._place(request_id, request.query, request.parameters.get("max_age_s"))
        found = await asyncio.to_thread(
            self._collectors.collect, request.data_source, request.query, request.parameters
        )
        answer = found.to_dict()
        if len(encode_message({"data": answer}, max_bytes=None)) <= MAX_INLINE_BYTES or self._collectors.cache is None:
            return {"data": answer, "size_bytes": found.size_bytes, "digest": found.digest}
        digest = await asyncio.to_thread(self._collectors.cache.put_blob, found.payload.data)
        data_id = f"{READER}-{digest}"
        self._data.register_data_source(data_id, found.size_bytes, f"reader:{READER}?digest={digest}")
        placed = await self._place(request_id, data_id, None)
        self._note(data_id)
        return {**placed, "data": {name: value for name, value in answer.items() if name != "items"}}

    def _goes_by_name(self, request: DataRequest) -> bool:
        if request.data_source is DataSource.CUSTOM:
            return "collector" not in request.parameters
        if request.data_source not in _NAMED:
            return False
        try:
            self._data.status(request.query)
        except UnknownId:
            return False
        return True

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
        body = self._collectors.cache.blob(digest) if self._collectors.cache is not None else None
        if body is None:
            raise SourceUnavailable(f"what was collected as {digest} is not in the cache any more; ask for it again")
        return json.loads(body)
