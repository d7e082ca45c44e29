"""JSON from an HTTP API, page after page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.visit import PAGES_MAX, Visit
from balance.adapters.collect.web_url import origin_of, web_url
from balance.errors import BalanceError, ConfigurationError, InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted
    from balance.adapters.collect.web_page import WebPage

STYLES = ("link", "page", "cursor")


class ApiSource:
    """Serves API.

    Parameters
    ----------
    client : Fetcher
    headers : str
        Credentials of the operator, as JSON by origin: ``{"https://api.example.org": {"X-Key": "..."}}``.  They go to
        that origin and nowhere else, whatever a message or a redirect says.

    Notes
    -----
    Parameters of a request:

    * ``url`` (else the query is the address), ``params`` (text and numbers for its query);
    * ``items``: where the items lie in the answer, such as ``data.results``; empty for the answer itself;
    * ``limit`` (1,000, at most 100,000) items, ``max_pages`` (10, at most 100);
    * ``pagination``: ``link`` (the ``Link`` header's ``next``, RFC 8288, or the address at ``next`` in the answer),
      ``page`` (a number counted up in the parameter ``page_param``, from ``first_page``), ``cursor`` (what lies at
      ``next`` goes into the parameter ``cursor_param``).

    It ends at the last page: no next one, or one without items.
    """

    def __init__(self, client: Fetcher, *, headers: str = "") -> None:
        self._client = client
        self._headers = headers

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        style = wanted.choice("pagination", "link", STYLES)
        limit = wanted.count("limit", 1_000, maximum=100_000)
        params = _query_of(wanted)
        url = wanted.address
        if style == "page":
            params[wanted.text("page_param", "page")] = wanted.count("first_page", 1, maximum=2**31)
        credentials = _headers_of(self._headers)
        visit = Visit(self._client, wanted)
        items: list[Any] = []
        seen = set()
        for _page in range(wanted.count("max_pages", 10, maximum=PAGES_MAX)):
            page = visit.get(
                url,
                params=params,
                headers={"Accept": "application/json"},
                secret_headers=credentials.get(origin_of(web_url(url)), {}),
            )
            answer = page.json()
            found = _at(answer, wanted.text("items"))
            more = found if isinstance(found, list) else [] if found is None else [found]
            items += more
            url, following = _next(wanted, page, answer, url, params)
            if not more or len(items) >= limit or following is None or (url, str(following)) in seen:
                break
            seen.add((url, str(following)))
            params = following
        return visit.collected(items[:limit])


def _headers_of(given: str) -> dict[str, dict[str, str]]:
    """Return the headers by origin; what is wrong with them is said without showing them."""
    expected = 'BALANCE_API_HEADERS has to be JSON such as {"https://api.example.org": {"Authorization": "Bearer ..."}}'
    try:
        found = json.loads(given or "{}")
        headers = {origin_of(web_url(origin)): dict(each) for origin, each in found.items()}
    except (ValueError, TypeError, AttributeError, BalanceError):
        raise ConfigurationError(expected) from None
    texts = [text for each in headers.values() for pair in each.items() for text in pair]
    if not all(isinstance(text, str) and text.isascii() and text.isprintable() for text in texts):
        raise ConfigurationError(expected)
    return headers


def _query_of(wanted: Wanted) -> dict[str, str | int]:
    given = wanted.parameters.get("params", {})
    if not isinstance(given, dict) or not all(isinstance(value, str | int | float) for value in given.values()):
        raise InvalidValue("parameters.params", given, "an object of text and numbers")
    return {name: value if isinstance(value, int) else str(value) for name, value in given.items()}


def _next(
    wanted: Wanted, page: WebPage, answer: Any, url: str, params: dict[str, str | int]
) -> tuple[str, dict[str, str | int] | None]:
    """Return the address and the parameters of the next page; None for the parameters where there is none."""
    style = wanted.text("pagination", "link")
    if style == "page":
        name = wanted.text("page_param", "page")
        return url, {**params, name: int(params[name]) + 1}
    said = _at(answer, wanted.text("next", "next"))
    if style == "cursor":
        return url, {**params, wanted.text("cursor_param", "cursor"): str(said)} if said not in (None, "") else None
    if "link" not in page.headers and not isinstance(said, str):
        return url, None
    import httpx  # noqa: PLC0415 (most answers have one page)

    links = httpx.Response(200, headers={"link": page.headers.get("link", "")}).links
    following = links.get("next", {}).get("url") or said
    if not isinstance(following, str) or not following:
        return url, None
    try:
        return str(httpx.URL(page.url).join(following)), {}
    except httpx.InvalidURL as error:
        raise SourceUnavailable(f"{page.url} names a next page that is no address ({error})", url=page.url) from None


def _at(answer: Any, path: str) -> Any:
    """Return what lies at a path such as ``data.results.0``; None if nothing does.

    Examples
    --------
    >>> _at({"data": {"results": [7]}}, "data.results.0"), _at([1], ""), _at({}, "a.b")
    (7, [1], None)
    """
    for step in filter(None, path.split(".")):
        if isinstance(answer, dict):
            answer = answer.get(step)
        elif isinstance(answer, list) and step.isdigit() and int(step) < len(answer):
            answer = answer[int(step)]
        else:
            return None
    return answer
