"""What messages may ask for: data that was registered by name, and whatever the collectors can find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from balance.adapters.collect.collected import Collected
from balance.messaging import DataRequest, DataSource
from balance.messaging.delivery import encode_message
from balance.messaging.schemas import MAX_INLINE_BYTES

_NAMED = frozenset({DataSource.FILE, DataSource.DATABASE})

Collect = Callable[[DataSource, str, Mapping[str, Any]], Awaitable[Collected]]
Named = Callable[[str, str, "float | None", bool], Awaitable["dict[str, Any] | None"]]
Put = Callable[[str, bytes], Awaitable[dict[str, Any]]]


class Gathering:
    """Answers data requests for the collector.

    CUSTOM without a ``collector`` is registered data by its name; so are FILE and DATABASE where the query is such a
    name.  Anything else goes to the collectors.  A small answer travels in the message; a large one is placed like
    registered data, and the message then says where its items lie, and all but them.

    Parameters
    ----------
    collect : async callable
        As `Collectors.collect`.
    named : async callable
        Brings registered data within reach: gets the request's id, the data's id and how old a copy may be (seconds or
        None); returns ``location``, ``size_bytes``, ``digest``.  A name that is not registered is `UnknownId` if it
        has to be (the last argument), else None.
    put : async callable
        Places an answer: gets the request's id and the items as JSON; returns the same.
    sources : sequence of DataSource
        What `collect` serves.
    """

    def __init__(self, *, collect: Collect, named: Named, put: Put, sources: Sequence[DataSource]) -> None:
        self.sources = list(sources)
        self._collect = collect
        self._named = named
        self._put = put

    async def fetch(self, request: DataRequest) -> dict[str, Any]:
        """Return what a request asks for, as `Collector` wants it."""
        request_id, parameters = request.metadata.request_id, request.parameters
        by_name = request.data_source is DataSource.CUSTOM and "collector" not in parameters
        if by_name or request.data_source in _NAMED:
            placed = await self._named(request_id, request.query, parameters.get("max_age_s"), by_name)
            if placed is not None:
                return placed
        found = await self._collect(request.data_source, request.query, parameters)
        answer = found.to_dict()
        if len(encode_message({"data": answer}, max_bytes=None)) <= MAX_INLINE_BYTES:
            return {"data": answer, "size_bytes": found.size_bytes, "digest": found.digest}
        placed = await self._put(request_id, found.payload.data)
        return {**placed, "data": {name: value for name, value in answer.items() if name != "items"}}
