"""Data from an http(s) URL, within limits of size, time and place."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import httpx

from balance.adapters.sources.addresses import pinned_address
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.clock import Clock

_REDIRECTS = 5


class HttpSource:
    """Fetches with httpx; every hop of a redirect is checked like the first URL.

    The connection goes to the address that was checked, with the host's own name in the ``Host`` header
    and in the TLS handshake, so certificates are verified as usual.  Proxies of the environment are not
    used: they would resolve names out of reach of the check.

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
        deadline = self._clock.now() + self._timeout_s
        target = _parsed(url)
        try:
            with httpx.Client(trust_env=False, follow_redirects=False) as client:
                for _hop in range(_REDIRECTS + 1):
                    with self._asked(client, target, deadline) as response:
                        if not response.has_redirect_location:
                            return self._body(url, response, max_bytes, deadline)
                        target = _parsed(str(target.join(response.headers["location"])))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise SourceUnavailable(f"{url} did not deliver ({said})", url=url) from error
        raise SourceUnavailable(f"{url} redirects more than {_REDIRECTS} times", url=url)

    def _asked(
        self, client: httpx.Client, target: httpx.URL, deadline: float
    ) -> AbstractContextManager[httpx.Response]:
        port = target.port or (443 if target.scheme == "https" else 80)
        address = pinned_address(target.host, port, allow_private=self._allow_private)
        return client.stream(
            "GET",
            target.copy_with(host=address),
            # Identity: what is counted against the limit is what comes over the wire.
            headers={"Host": target.netloc.decode("ascii"), "User-Agent": "balance", "Accept-Encoding": "identity"},
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
            timeout=max(0.001, deadline - self._clock.now()),
        )

    def _body(self, url: str, response: httpx.Response, max_bytes: int, deadline: float) -> bytes:
        if not response.is_success:
            raise SourceUnavailable(f"{url} answered {response.status_code}", url=url, status=response.status_code)
        _check_size(url, int(response.headers.get("content-length") or 0), max_bytes)
        body = bytearray()
        for chunk in response.iter_bytes():  # as it comes: a size to fill up would wait past the deadline
            body += chunk
            _check_size(url, len(body), max_bytes)
            if self._clock.now() > deadline:
                raise SourceUnavailable(f"{url} took longer than {self._timeout_s:g} s", url=url)
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
