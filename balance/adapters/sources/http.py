"""Data from an http(s) URL, within limits of size, time and place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpcore
import httpx

from balance.adapters.sources.exchange import core_url, tls_of
from balance.adapters.sources.pinned_network import PinnedNetwork
from balance.errors import AccessRefused, BalanceError, InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.clock import Clock

_REDIRECTS = 5
_REDIRECT = frozenset({301, 302, 303, 307, 308})


class HttpSource:
    """Fetches over a `PinnedNetwork`; every hop of a redirect is checked like the first URL.

    Proxies of the environment are not used: they would resolve names out of reach of the check.

    Parameters
    ----------
    clock : Clock
    allow_private : bool
        Whether hosts on loopback and private networks may be reached.
    timeout_s : float
        For all of it, redirects included.
    """

    def __init__(self, *, clock: Clock, allow_private: bool, timeout_s: float) -> None:
        self._clock = clock
        self._allow_private = allow_private
        self._timeout_s = timeout_s

    def check(self, url: str) -> None:
        """Raise `InvalidValue` if this is no URL that can be fetched."""
        _parsed(url)

    def read(self, url: str, max_bytes: int) -> bytes:
        """Return the body.

        Raises
        ------
        AccessRefused
            The place is private, or the body is larger than `max_bytes`.
        SourceUnavailable
            No answer in time, a broken one, or one that is not 2xx.
        """
        network = PinnedNetwork(
            clock=self._clock, deadline_s=self._clock.now() + self._timeout_s, allow_private=self._allow_private
        )
        target = _parsed(url)
        try:
            for _hop in range(_REDIRECTS + 1):
                found = _asked(network, url, target, max_bytes)
                if isinstance(found, bytes):
                    return found
                target = _parsed(str(target.join(found)))
        except httpcore.TimeoutException:
            raise SourceUnavailable(f"{url} took longer than {self._timeout_s:g} s", url=url) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ValueError, OSError) as error:
            if isinstance(error, BalanceError):
                raise
            said = str(error) or type(error).__name__
            raise SourceUnavailable(f"{url} did not deliver ({said})", url=url) from None
        raise SourceUnavailable(f"{url} redirects more than {_REDIRECTS} times", url=url)


def _asked(network: PinnedNetwork, url: str, target: httpx.URL, max_bytes: int) -> bytes | str:
    """Return the body, or where else to ask."""
    # Identity: what is counted against the limit is what comes over the wire.
    headers = {
        "Host": target.netloc.decode("ascii"),
        "User-Agent": "balance",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    with (
        httpcore.ConnectionPool(ssl_context=tls_of(target.scheme), network_backend=network) as pool,
        pool.stream("GET", core_url(target), headers=list(headers.items())) as response,
    ):
        said = httpx.Headers(response.headers)
        if response.status in _REDIRECT and "location" in said:
            return said["location"]
        if not 200 <= response.status < 300:
            raise SourceUnavailable(f"{url} answered {response.status}", url=url, status=response.status)
        length = said.get("content-length", "")
        _check_size(url, int(length) if length.isascii() and length.isdigit() else 0, max_bytes)
        body = bytearray()
        for piece in response.iter_stream():
            body += piece
            _check_size(url, len(body), max_bytes)
        return bytes(body)


def _check_size(url: str, size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise AccessRefused(f"{url} has more than the {max_bytes} bytes that may be read", url=url, max_bytes=max_bytes)


def _parsed(url: str) -> httpx.URL:
    expected = "an http(s) URL with a host"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise InvalidValue("source", url, expected) from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise AccessRefused(f"{url!r} is not {expected}; other kinds are not followed", url=url)
    return parsed
