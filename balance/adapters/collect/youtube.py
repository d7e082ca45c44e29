"""Videos on YouTube: its Data API v3, search.

Source: https://developers.google.com/youtube/v3/docs/search/list (API key).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.visit import Visit
from balance.errors import ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted

URL = "https://www.googleapis.com/youtube/v3/search"
_PAGE_MAX = 50


class YoutubeSource:
    """Serves YOUTUBE.

    Parameters
    ----------
    client : Fetcher
    key : str
        The API key of your project.
    url : str
        Of the API.

    Notes
    -----
    Parameters of a request: ``language`` (of what is preferred, ISO 639-1), ``limit`` (10, at most 500; each 50 cost
    100 units of your project's quota).  Items: ``id``, ``url``, ``title``, ``text`` (the description, shortened by
    YouTube), ``channel``, ``published_at``.
    """

    def __init__(self, client: Fetcher, *, key: str = "", url: str = URL) -> None:
        self._client = client
        self._key = key
        self._url = url

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        if not self._key:
            raise ConfigurationError("YouTube needs the API key of your project: set BALANCE_YOUTUBE_KEY")
        limit = wanted.count("limit", 10, maximum=500)
        params: dict[str, str | int] = {
            "part": "snippet",
            "type": "video",
            "q": wanted.query,
            "maxResults": min(_PAGE_MAX, limit),
        }
        language = wanted.text("language")
        if language:
            params["relevanceLanguage"] = language
        visit = Visit(self._client, wanted)
        items: list[Any] = []
        while True:
            answer = visit.get(
                self._url, params=params, secret_headers={"X-Goog-Api-Key": self._key}, trusted=True
            ).json()
            if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
                raise SourceUnavailable(f"{self._url} did not answer with videos: {str(answer)[:300]}")
            items += [_item(found) for found in answer["items"]]
            following = answer.get("nextPageToken")
            if len(items) >= limit or not following:
                return visit.collected(items[:limit])
            params["pageToken"] = following


def _item(found: dict[str, Any]) -> dict[str, Any]:
    video_id, snippet = found.get("id", {}).get("videoId"), found.get("snippet", {})
    return {
        "id": video_id,
        "url": f"https://www.youtube.com/watch?v={video_id}",
        "title": snippet.get("title"),
        "text": snippet.get("description"),
        "channel": snippet.get("channelTitle"),
        "published_at": snippet.get("publishedAt"),
    }
