"""Articles of Wikipedia, in any language, and of every other MediaWiki.

Source: the Action API (https://www.mediawiki.org/wiki/API:Query) with TextExtracts; continuation as in API:Continue:
what ``continue`` holds goes into the next request, and pages are put together by id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.visit import PAGES_MAX, Visit
from balance.errors import InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted

_LANGUAGE = re.compile(r"[a-z]{2,12}(-[a-z]{1,12}){0,2}")
_ASKED: dict[str, str | int] = {
    "action": "query",
    "format": "json",
    "formatversion": 2,
    "redirects": 1,
    "prop": "extracts|info|revisions",
    "explaintext": 1,
    "exlimit": "max",
    "inprop": "url",
    "rvprop": "ids|timestamp",
    "meta": "siteinfo",
    "siprop": "rightsinfo",
}


class WikiSource:
    """Serves WIKI.

    Parameters
    ----------
    client : Fetcher
    language : str, default "fa"
        Of requests that name none.

    Notes
    -----
    Parameters of a request: ``language``, ``title`` (an article instead of a search), ``limit`` (5, at most 50),
    ``part`` (``text``, or ``intro`` for what stands before the first heading), ``api_url`` (another MediaWiki's
    ``api.php``).

    Items, the best first: ``title``, ``url``, ``text``, ``language``, ``page_id``, ``revision_id``, ``revised_at``,
    ``license``, ``license_url``.
    """

    def __init__(self, client: Fetcher, *, language: str = "fa") -> None:
        self._client = client
        self._language = language

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        language = wanted.text("language", self._language)
        if not _LANGUAGE.fullmatch(language):
            raise InvalidValue("parameters.language", language, "the code of a Wikipedia, such as fa or zh-yue")
        api_url = wanted.text("api_url") or f"https://{language}.wikipedia.org/w/api.php"
        limit = wanted.count("limit", 5, maximum=50)
        params = dict(_ASKED)
        if wanted.choice("part", "text", ("text", "intro")) == "intro":
            params["exintro"] = 1
        title = wanted.text("title")
        if title:
            params["titles"] = title
        else:
            params |= {"generator": "search", "gsrsearch": wanted.query, "gsrlimit": limit}
        visit = Visit(self._client, wanted)
        pages, rights = self._pages(visit, api_url, params, limit)
        found = sorted(pages.values(), key=lambda page: (page.get("index", 0), page["pageid"]))
        return visit.collected([_item(page, rights, language) for page in found[:limit]])

    @staticmethod
    def _pages(
        visit: Visit, api_url: str, params: dict[str, str | int], limit: int
    ) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
        pages: dict[int, dict[str, Any]] = {}
        rights: dict[str, Any] = {}
        more: dict[str, str | int] = {}
        for _request in range(PAGES_MAX):
            answer = visit.get(api_url, params=params | more).json()
            if not isinstance(answer, dict) or "error" in answer:
                said = answer.get("error") if isinstance(answer, dict) else answer
                raise SourceUnavailable(f"{api_url} answered with an error: {str(said)[:300]}", url=api_url)
            query = answer.get("query", {})
            rights = query.get("rightsinfo", rights)
            for page in query.get("pages", ()):
                if "pageid" in page:  # what is missing has none
                    pages.setdefault(page["pageid"], {}).update(page)
            more = answer.get("continue", {})
            if not more or (answer.get("batchcomplete") and len(pages) >= limit):
                break
        return pages, rights


def _item(page: dict[str, Any], rights: dict[str, Any], language: str) -> dict[str, Any]:
    revision = (page.get("revisions") or [{}])[0]
    return {
        "title": page.get("title"),
        "url": page.get("fullurl"),
        "text": page.get("extract", ""),
        "language": page.get("pagelanguage", language),
        "page_id": page["pageid"],
        "revision_id": revision.get("revid", page.get("lastrevid")),
        "revised_at": revision.get("timestamp"),
        "license": rights.get("text"),
        "license_url": rights.get("url"),
    }
