"""RSS and Atom feeds.

Read with feedparser (BSD): it knows every version of RSS and Atom and what is commonly wrong with them, and cleans the
HTML of what could run.  But some feeds are made to keep it busy: only a small one is read in this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from balance.adapters.collect.apart import read_apart
from balance.adapters.collect.collected import Collected
from balance.adapters.collect.decoding import decoded
from balance.adapters.collect.feed_reader import feed_entries
from balance.adapters.collect.visit import Visit
from balance.errors import AccessRefused, ConfigurationError, InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted
    from balance.adapters.collect.web_page import WebPage

FEEDS_MAX = 20

SMALL_BYTES = 64 * 2**10
"""Up to how large a feed is read here: with the worst that we know of that takes a fifth of a second."""

READER = "balance.adapters.collect.feed_reader"


class FeedSource:
    """Serves RSS (one feed) and NEWS (what several feeds have on a question).

    Parameters
    ----------
    client : Fetcher
    news : bool, default False
        Whether the query is a question, and items have to hold all of its words.
    feeds : str
        Addresses, separated by blanks, for requests for news that name no ``feeds``.

    Notes
    -----
    Parameters of a request: ``url`` (RSS; else the query is the address), ``feeds`` (NEWS: a list of addresses),
    ``limit`` (50, at most 500).

    Items, newest first: ``id``, ``title``, ``url``, ``published_at`` (ISO 8601 or None), ``text``, ``feed``.
    """

    def __init__(self, client: Fetcher, *, news: bool = False, feeds: str = "") -> None:
        self._client = client
        self._news = news
        self._feeds = feeds.split()

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        visit = Visit(self._client, wanted)
        words = wanted.query.casefold().split() if self._news else []
        items = [
            item
            for address in self._addresses(wanted)
            for item in _items(visit.get(address), wanted.deadline_s - self._client.clock.now())
            if all(word in f"{item['title']} {item['text']}".casefold() for word in words)
        ]
        items.sort(key=lambda item: item["published_at"] or "", reverse=True)
        return visit.collected(items[: wanted.count("limit", 50, maximum=500)], "application/feed+json")

    def _addresses(self, wanted: Wanted) -> list[str]:
        if not self._news:
            return [wanted.address]
        given = wanted.parameters.get("feeds", self._feeds)
        if not isinstance(given, list) or len(given) > FEEDS_MAX or not all(isinstance(one, str) for one in given):
            raise InvalidValue("parameters.feeds", given, f"a list of at most {FEEDS_MAX} addresses")
        if not given:
            raise ConfigurationError(
                "news need feeds: name them in parameters.feeds, or in BALANCE_NEWS_FEEDS with blanks between"
            )
        return given


def _items(page: WebPage, timeout_s: float) -> list[dict[str, Any]]:
    if "<!ENTITY" in decoded(page.body, page.charset):  # no feed needs them, and nested ones grow without end
        raise AccessRefused(f"{page.url} declares entities of its own; such feeds are not read", url=page.url)
    content_type = page.headers.get("content-type", "")
    if len(page.body) > SMALL_BYTES:
        found = read_apart(READER, page.body, content_type, form="feed", shown=page.url, timeout_s=timeout_s)
    else:
        try:
            found = feed_entries(page.body, content_type)
        except SourceUnavailable as error:
            raise SourceUnavailable(f"{page.url} can't be read as feed ({error})") from None
    return [{**entry, "feed": page.url} for entry in found]
