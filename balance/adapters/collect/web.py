"""Pages of the web, and what a search finds there.

Some pages are made to keep busy who looks for their main text: only in a small one it is looked for in this process.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from balance.adapters.collect.apart import read_apart
from balance.adapters.collect.collected import Collected
from balance.adapters.collect.decoding import decoded
from balance.adapters.collect.page_reader import ARTICLE, WORDS, page_article
from balance.adapters.collect.visit import Visit
from balance.errors import AccessRefused, ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted
    from balance.adapters.collect.web_page import WebPage

SMALL_CHARACTERS = 128 * 2**10
"""Up to how long a page its main text is looked for here: two seconds with the worst that we know of."""

READER = "balance.adapters.collect.page_reader"

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_ADDRESS = ("http://", "https://")


class WebSource:
    """Serves WEB.

    Parameters
    ----------
    client : Fetcher
    search_url : str
        Where to search: an address with ``{query}`` in it that answers with JSON as SearXNG does (``results``, each
        with ``url``, ``title``, ``content``); empty for nowhere.

    Notes
    -----
    Parameters of a request: ``url`` (a page), or ``search_term`` with ``limit`` (10, at most 50).  With neither, the
    query is one or the other.

    Items of a page: ``url``, ``media_type``, and for HTML ``title``, ``author``, ``date``, ``language``, ``text``; for
    other text ``text``, for JSON ``data``, else ``base64``.  Items of a search: ``url``, ``title``, ``text``.
    """

    def __init__(self, client: Fetcher, *, search_url: str = "") -> None:
        self._client = client
        self._search_url = search_url

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        term = wanted.text("search_term")
        if not term and not wanted.text("url") and not wanted.query.strip().lower().startswith(_ADDRESS):
            term = wanted.query
        visit = Visit(self._client, wanted)
        if term and not wanted.text("url"):
            return visit.collected(self._found(visit, term, wanted.count("limit", 10, maximum=50)))
        page = visit.get(wanted.address, obey_robots=True)
        found = _content(page, lambda: wanted.deadline_s - self._client.clock.now())
        return visit.collected([{"url": page.url, "media_type": page.media_type, **found}], page.media_type)

    def _found(self, visit: Visit, term: str, limit: int) -> list[dict[str, Any]]:
        if "{query}" not in self._search_url:
            raise ConfigurationError(
                "searching the web needs a search service: set BALANCE_SEARCH_URL, for example to "
                "https://HOST/search?format=json&q={query} of a SearXNG"
            )
        page = visit.get(self._search_url.replace("{query}", quote(term, safe="")), trusted=True)
        answer = page.json()
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise SourceUnavailable(f"the search at {page.url} did not answer with 'results'", url=page.url)
        return [
            {"url": one.get("url"), "title": one.get("title"), "text": one.get("content")}
            for one in results[:limit]
            if isinstance(one, dict)
        ]


def _content(page: WebPage, left_s: Callable[[], float]) -> dict[str, Any]:
    if page.media_type in _HTML:
        return _article(decoded(page.body, page.charset), page.url, left_s)
    if page.media_type == "application/json" or page.media_type.endswith("+json"):
        return {"data": page.json()}
    if page.media_type.startswith("text/") or page.media_type.endswith("xml"):
        return {"text": decoded(page.body, page.charset)}
    return {"base64": base64.b64encode(page.body).decode("ascii")}


def _article(html: str, url: str, left_s: Callable[[], float]) -> dict[str, Any]:
    """Return the main text and what is known of it; all words of a page in which that takes too long to find."""
    if len(html) <= SMALL_CHARACTERS:
        return page_article(html, url)
    body = html.encode("utf-8", "replace")
    try:
        [found] = read_apart(READER, body, ARTICLE, url, form="HTML", shown=url, timeout_s=left_s())
    except AccessRefused:
        [found] = read_apart(READER, body, WORDS, url, form="HTML", shown=url, timeout_s=left_s())
    return dict(found)
