"""Posts on X, as Twitter is called now: its API v2, recent search.

Source: https://docs.x.com/x-api/posts/search-recent-posts (the last seven days; bearer token).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.visit import Visit
from balance.errors import ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted

URL = "https://api.x.com/2/tweets/search/recent"
_PAGE_MIN, _PAGE_MAX = 10, 100


class TwitterSource:
    """Serves TWITTER.

    Parameters
    ----------
    client : Fetcher
    token : str
        The bearer token of your app.
    url : str
        Of the API.

    Notes
    -----
    The query is X's own (``from:``, ``lang:``, ...).  Parameters of a request: ``limit`` (10, at most 1,000).
    Items: the posts as the API has them: ``id``, ``text``, ``created_at``, ``lang``, ``author_id``, ``public_metrics``.
    """

    def __init__(self, client: Fetcher, *, token: str = "", url: str = URL) -> None:
        self._client = client
        self._token = token
        self._url = url

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        if not self._token:
            raise ConfigurationError("X (Twitter) needs the bearer token of your app: set BALANCE_TWITTER_TOKEN")
        limit = wanted.count("limit", 10, maximum=1_000)
        params: dict[str, str | int] = {
            "query": wanted.query,
            "max_results": min(_PAGE_MAX, max(_PAGE_MIN, limit)),
            "tweet.fields": "created_at,lang,author_id,public_metrics",
        }
        visit = Visit(self._client, wanted)
        items: list[object] = []
        while True:
            answer = visit.get(
                self._url, params=params, secret_headers={"Authorization": f"Bearer {self._token}"}, trusted=True
            ).json()
            if not isinstance(answer, dict) or not isinstance(answer.get("meta"), dict):
                raise SourceUnavailable(f"{self._url} did not answer with posts: {str(answer)[:300]}")
            items += answer.get("data", [])
            following = answer["meta"].get("next_token")
            if len(items) >= limit or not following:
                return visit.collected(items[:limit])
            params["next_token"] = following
