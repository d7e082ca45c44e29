"""Files: of the allowed folders, of object stores, and of the web."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.formats import MEDIA_TYPES, format_of, records
from balance.adapters.collect.visit import PAGE_BYTES, Visit

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.stored import Stored
    from balance.adapters.collect.wanted import Wanted


class DocumentSource:
    """Serves FILE.

    Parameters
    ----------
    client : Fetcher
    stored : Stored

    Notes
    -----
    Parameters of a request: ``url`` (else the query is the address), ``format`` (``csv``, ``tsv``, ``json``, ``jsonl``,
    ``parquet``, ``text``; else the address's ending says), ``charset``, ``limit`` (100,000 records, at most 1,000,000).
    What is gzip is decompressed.

    Items: the records; of text one item with ``text``.  What lies in the cache is not read again: a file of the web
    until it is too old, any other until it has changed.
    """

    def __init__(self, client: Fetcher, stored: Stored) -> None:
        self._client = client
        self._stored = stored

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        address = wanted.address
        form = wanted.choice("format", format_of(address), tuple(MEDIA_TYPES))
        limit = wanted.count("limit", 100_000, maximum=1_000_000)
        max_bytes = min(PAGE_BYTES, wanted.max_bytes)
        if address.lower().startswith(("http://", "https://")):
            page = Visit(self._client, wanted).get(address)
        else:
            page = self._stored.file(
                address, max_bytes=max_bytes, max_age_s=wanted.max_age_s, deadline_s=wanted.deadline_s
            )
        rows = records(
            page.body,
            form,
            limit=limit,
            max_bytes=max_bytes,
            shown=address,
            charset=wanted.text("charset") or page.charset,
            timeout_s=wanted.deadline_s - self._client.clock.now(),
        )
        return Collected(rows, MEDIA_TYPES[form], page.fetched_at, page.wire_bytes, page.from_cache)
