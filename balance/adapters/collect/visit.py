"""The addresses that one request needs, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collected import Collected
from balance.errors import AccessRefused

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted
    from balance.adapters.collect.web_page import WebPage

PAGES_MAX = 100
"""How many addresses one request may need."""

PAGE_BYTES = 16 * 2**20
"""The most that one address may deliver, decompressed."""


class Visit:
    """Gets addresses for one request, within its bounds.

    Parameters
    ----------
    client : Fetcher
    wanted : Wanted
        Its deadline, age and size hold for all addresses together.
    """

    def __init__(self, client: Fetcher, wanted: Wanted) -> None:
        self._client = client
        self._wanted = wanted
        self._pages = 0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._fetched_at = client.clock.wall()
        self._from_cache = True

    def get(self, url: str, *, max_age_s: float | None = None, **options: Any) -> WebPage:
        """Return what lies at an address; options and errors as of `Fetcher.get`."""
        if self._pages == PAGES_MAX or self._body_bytes >= self._wanted.max_bytes:
            raise AccessRefused(
                f"the request needs more than {PAGES_MAX} pages or {self._wanted.max_bytes} bytes", url=url
            )
        page = self._client.get(
            url,
            max_bytes=min(PAGE_BYTES, self._wanted.max_bytes - self._body_bytes),
            max_age_s=self._wanted.max_age_s if max_age_s is None else max_age_s,
            deadline_s=self._wanted.deadline_s,
            **options,
        )
        self._pages += 1
        self._body_bytes += len(page.body)
        self._wire_bytes += page.wire_bytes
        self._fetched_at = min(self._fetched_at, page.fetched_at)
        self._from_cache = self._from_cache and page.from_cache
        return page

    def collected(self, items: list[Any], media_type: str = "application/json") -> Collected:
        """Return the items with what is known of the visit."""
        return Collected(items, media_type, self._fetched_at, self._wire_bytes, self._from_cache)
