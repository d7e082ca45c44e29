"""Videos on Aparat: its API, search.

Source: https://www.aparat.com/api (``videoBySearch``: no credentials; pages of ``perpage``, the next one's address in
``ui.pagingForward``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.visit import Visit
from balance.errors import SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted

URL = "https://www.aparat.com/etc/api"
_PAGE_MAX = 50


class AparatSource:
    """Serves APARAT; what everybody may see needs no credentials there.

    Parameters
    ----------
    client : Fetcher
    url : str
        Of the API.

    Notes
    -----
    Parameters of a request: ``limit`` (10, at most 500).  Items: ``id``, ``url``, ``title``, ``channel``,
    ``duration_s``, ``views``, ``published_at`` (as Aparat writes it).
    """

    def __init__(self, client: Fetcher, *, url: str = URL) -> None:
        self._client = client
        self._url = url

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        limit = wanted.count("limit", 10, maximum=500)
        visit = Visit(self._client, wanted)
        following: str | None = (
            f"{self._url}/videoBySearch/text/{quote(wanted.query, safe='')}/perpage/{min(_PAGE_MAX, limit)}"
        )
        items: list[Any] = []
        while following:
            answer = visit.get(following).json()
            found = answer.get("videobysearch") if isinstance(answer, dict) else None
            if not isinstance(found, list):
                raise SourceUnavailable(f"{self._url} did not answer with videos: {str(answer)[:300]}")
            items += [_item(one) for one in found]
            following = (answer.get("ui") or {}).get("pagingForward")
            if not found or len(items) >= limit:
                break
        return visit.collected(items[:limit])


def _item(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": found.get("uid"),
        "url": f"https://www.aparat.com/v/{found.get('uid')}",
        "title": found.get("title"),
        "channel": found.get("username"),
        "duration_s": found.get("duration"),
        "views": found.get("visit_cnt"),
        "published_at": found.get("sdate"),
    }
