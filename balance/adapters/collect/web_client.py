"""The one way to the web: within limits, polite to hosts, and never twice for the same.

For each address: a copy that is fresh is the answer and nobody is asked.  An older one is asked about with
``If-None-Match`` or ``If-Modified-Since`` (RFC 9110 section 13), and a 304 makes it fresh again.  Callers who want the
same address at a time wait for the first of them.  Every hop of a redirect is checked like the first address, and
credentials stay with the host that they are for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpcore
import httpx

from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.host_gate import HostGate
from balance.adapters.collect.inflater import Inflater
from balance.adapters.collect.robots import Robots
from balance.adapters.collect.turns import Turns
from balance.adapters.collect.web_page import WebPage
from balance.adapters.collect.web_url import USER_AGENT, origin_of, web_url
from balance.adapters.sources.exchange import core_url, tls_of
from balance.adapters.sources.pinned_network import PinnedNetwork
from balance.errors import AccessRefused, BalanceError, SourceUnavailable

if TYPE_CHECKING:
    from balance.clock import Clock

TIMEOUT_S = 30.0
REDIRECTS = 5
ATTEMPTS = 3
_KEPT_HEADERS = ("content-type", "etag", "last-modified", "link")
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class _Ask:
    """One call of `WebClient.get`, as its steps hand it on."""

    url: str
    headers: dict[str, str]
    secret_headers: dict[str, str]
    deadline_s: float
    max_bytes: int
    secret: str
    trusted: bool
    each_hop: Callable[[str], None] | None

    def shown(self, url: str = "") -> str:
        """Return an address as errors may show it."""
        found = url or self.url
        return found.replace(self.secret, "***") if self.secret else found


class WebClient:
    """Gets what lies at an address.

    Parameters
    ----------
    clock : Clock
    gate : HostGate
        When hosts are asked.
    cache : BlobCache, optional
        What was got before; nothing is kept when left out.
    allow_private : bool, default False
        Whether hosts on loopback and private networks may be reached.
    fresh_s : float, default 300
        How old a copy may be that its server is not asked about.
    timeout_s : float, default 30
        For one address: waiting for a turn, redirects, and the body.

    Notes
    -----
    `get` may be called from several threads.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        gate: HostGate,
        cache: BlobCache | None = None,
        allow_private: bool = False,
        fresh_s: float = 300.0,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.clock = clock
        self.gate = gate
        self.fetched = 0
        self._cache = cache
        self._allow_private = allow_private
        self._fresh_s = fresh_s
        self._timeout_s = timeout_s
        self._robots = Robots(self)
        self._turns = Turns()
        self._lock = threading.Lock()

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        secret_headers: Mapping[str, str] | None = None,
        secret: str = "",
        trusted: bool = False,
        max_bytes: int = 8 * 2**20,
        max_age_s: float | None = None,
        deadline_s: float = float("inf"),
        obey_robots: bool = False,
    ) -> WebPage:
        """Return what lies at an address.

        Parameters
        ----------
        url : str
        params : mapping, optional
            Joined to the query of the address.
        headers : mapping, optional
            Sent to every host on the way.
        secret_headers : mapping, optional
            Credentials: sent to the address's own host only.
        secret : str, optional
            What errors leave out of the address.
        trusted : bool, default False
            Whether the address is the operator's own: its host may be private then.
        max_bytes : int
            The most that may come, decompressed.
        max_age_s : float, optional
            How old a copy may be that the server is not asked about.
        deadline_s : float
            On the clock's `now`, if it is earlier than the client's own limit.
        obey_robots : bool, default False
            Whether the robots.txt of every host on the way is asked first (`Robots`): for what people would read.

        Raises
        ------
        InvalidValue, AccessRefused
            It is no web address, its place is private, or there is too much of it.
        SourceUnavailable
            No answer in time, a broken one, or one that is not 2xx; ``retry_after_s`` where the host says when.
        """
        target = web_url(url, secret)
        if params:
            target = target.copy_merge_params({name: str(value) for name, value in params.items()})
        ask = _Ask(
            str(target.copy_with(fragment=None)),
            dict(headers or {}),
            dict(secret_headers or {}),
            min(deadline_s, self.clock.now() + self._timeout_s),
            max_bytes,
            secret,
            trusted,
            self._robots.check if obey_robots else None,
        )
        key = json.dumps(["GET", ask.url, sorted(ask.headers.items()), sorted(ask.secret_headers.items()), trusted])
        if ask.each_hop is not None:
            ask.each_hop(ask.url)  # also for what is in the cache: what may be read can change
        with self._turns.one_at_a_time(key):
            return self._cached(ask, key, self._fresh_s if max_age_s is None else max_age_s)

    def _cached(self, ask: _Ask, key: str, fresh_s: float) -> WebPage:
        found = self._cache.get(key) if self._cache is not None else None
        now = self.clock.wall()
        if found is not None:
            said, body = found
            if len(body) > ask.max_bytes:
                raise AccessRefused(
                    f"{ask.shown()} has more than the {ask.max_bytes} bytes that may be read", max_bytes=ask.max_bytes
                )
            if 0 <= now - said["fetched_at"] < fresh_s:
                return WebPage(said["url"], body, said["headers"], said["fetched_at"], from_cache=True)
        page, keep = self._asked(ask, {} if found is None else found[0]["headers"])
        if page is None:
            assert found is not None and self._cache is not None
            said = {**found[0], "fetched_at": self.clock.wall()}
            self._cache.renew(key, said)
            return WebPage(said["url"], found[1], said["headers"], said["fetched_at"], from_cache=True)
        if self._cache is not None and keep:
            said = {"url": page.url, "headers": page.headers, "fetched_at": page.fetched_at}
            self._cache.put(key, page.body, said)
        return page

    def _asked(self, ask: _Ask, known: Mapping[str, str]) -> tuple[WebPage | None, bool]:
        """Return the page, or None where what is known is still so; and whether it may be kept."""
        conditions = {
            name: known[header]
            for name, header in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
            if header in known
        }
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._followed(ask, conditions)
            except SourceUnavailable as error:
                waits = error.details.get("retry_after_s")
                if waits is None or attempt == ATTEMPTS or self.clock.now() + waits > ask.deadline_s:
                    raise
        raise AssertionError("the loop returns or raises")

    def _followed(self, ask: _Ask, conditions: dict[str, str]) -> tuple[WebPage | None, bool]:
        target = web_url(ask.url)
        for hop in range(REDIRECTS + 1):
            if hop and ask.each_hop is not None:
                ask.each_hop(str(target))
            outcome = self._exchange(ask, target, conditions)
            if not isinstance(outcome, httpx.URL):
                return outcome
            target = outcome
        raise SourceUnavailable(f"{ask.shown()} redirects more than {REDIRECTS} times", url=ask.shown())

    def _exchange(
        self, ask: _Ask, target: httpx.URL, conditions: dict[str, str]
    ) -> tuple[WebPage | None, bool] | httpx.URL:
        own = origin_of(target) == origin_of(web_url(ask.url))
        network = PinnedNetwork(
            clock=self.clock,
            deadline_s=ask.deadline_s,
            allow_private=self._allow_private or (own and ask.trusted),
        )
        headers = {
            "Host": target.netloc.decode("ascii"),
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "gzip",
            "Connection": "close",
            **ask.headers,
            **conditions,
            **(ask.secret_headers if own else {}),
        }
        try:
            with (
                self.gate.turn(origin_of(target), ask.deadline_s),
                httpcore.ConnectionPool(ssl_context=tls_of(target.scheme), network_backend=network) as pool,
                pool.stream("GET", core_url(target), headers=list(headers.items())) as response,
            ):
                with self._lock:
                    self.fetched += 1
                return self._answer(ask, target, response, conditions)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ValueError, OSError) as error:
            if isinstance(error, BalanceError):
                raise
            said = str(error) or type(error).__name__
            raise SourceUnavailable(f"{ask.shown()} did not deliver ({said})", url=ask.shown()) from None

    def _answer(
        self, ask: _Ask, target: httpx.URL, response: httpcore.Response, conditions: dict[str, str]
    ) -> tuple[WebPage | None, bool] | httpx.URL:
        headers = httpx.Headers(response.headers)
        if response.status == 304 and conditions:
            return None, True
        if response.status in _REDIRECT and "location" in headers:
            return web_url(str(target.join(headers["location"])), ask.secret)
        if not 200 <= response.status < 300:
            raise self._refusal(ask, target, response.status, headers)
        shown = ask.shown(str(target))
        inflater = Inflater(headers.get("content-encoding", ""), ask.max_bytes, shown)
        body, wire_bytes = bytearray(), 0
        for piece in response.iter_stream():
            wire_bytes += len(piece)
            body += inflater.add(piece)
        inflater.end()
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        page = WebPage(shown, bytes(body), kept, self.clock.wall(), wire_bytes)
        return page, "no-store" not in headers.get("cache-control", "").lower()

    def _refusal(self, ask: _Ask, target: httpx.URL, status: int, headers: httpx.Headers) -> SourceUnavailable:
        """Return the error for an answer that is none; leave the host alone for as long as it asks."""
        shown = ask.shown(str(target))
        waits = _retry_after_s(headers.get("retry-after", ""), self.clock.wall()) if status in _LATER else None
        details = {} if waits is None else {"retry_after_s": waits}
        if waits is not None:
            self.gate.hold(origin_of(target), waits)
        then = "" if waits is None else f"; it may be asked again in {waits:.1f} s"
        return SourceUnavailable(f"{shown} answered {status}{then}", url=shown, status=status, **details)


def _retry_after_s(said: str, wall_s: float) -> float | None:
    """Return the seconds of a ``Retry-After``: a number, or a date (RFC 9110 section 10.2.3).

    Examples
    --------
    >>> _retry_after_s("7", 0.0), _retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 10.0), _retry_after_s("soon", 0.0)
    (7.0, 50.0, None)
    """
    if said.strip().isascii() and said.strip().isdigit():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - wall_s)
    except (ValueError, TypeError, IndexError):
        return None
