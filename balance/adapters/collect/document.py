"""Files: of the allowed folders, of object stores, and of the web."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.formats import MEDIA_TYPES, format_of, records
from balance.adapters.collect.visit import PAGE_BYTES, Visit
from balance.adapters.sources.files import FileSource

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted
    from balance.adapters.sources.paths import PathPolicy


class DocumentSource:
    """Serves FILE.

    Parameters
    ----------
    client : Fetcher
    paths : PathPolicy
        Which local files a message may name.

    Notes
    -----
    Parameters of a request: ``url`` (else the query is the address), ``format`` (``csv``, ``tsv``, ``json``, ``jsonl``,
    ``parquet``, ``text``; else the address's ending says), ``charset``, ``limit`` (100,000 records, at most 1,000,000).
    What is gzip is decompressed.

    Items: the records; of text one item with ``text``.  A file of the web is cached; others are read each time.
    """

    def __init__(self, client: Fetcher, *, paths: PathPolicy) -> None:
        self._client = client
        self._files = FileSource(paths=paths, trusted=False)

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        address = wanted.address
        form = wanted.choice("format", format_of(address), tuple(MEDIA_TYPES))
        limit = wanted.count("limit", 100_000, maximum=1_000_000)
        max_bytes = min(PAGE_BYTES, wanted.max_bytes)
        charset = wanted.text("charset") or None
        visit = Visit(self._client, wanted)
        if address.lower().startswith(("http://", "https://")):
            page = visit.get(address)
            body, charset = page.body, charset or page.charset
            found = visit.collected([], MEDIA_TYPES[form])
        else:
            body = self._files.read(address, max_bytes)
            found = Collected([], MEDIA_TYPES[form], self._client.clock.wall(), len(body))
        rows = records(
            body,
            form,
            limit=limit,
            max_bytes=max_bytes,
            shown=address,
            charset=charset,
            timeout_s=min(60.0, wanted.deadline_s - self._client.clock.now()),
        )
        return Collected(rows, found.media_type, found.fetched_at, found.fetched_bytes, found.from_cache)
