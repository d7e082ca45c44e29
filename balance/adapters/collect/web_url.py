"""Addresses of the web: which are taken, and whose they are."""

from __future__ import annotations

import httpx

from balance.errors import AccessRefused, InvalidValue

USER_AGENT = "balance/0.1 (data collector; python-httpcore)"
"""As whom hosts see the collectors."""


def web_url(url: str, secret: str = "") -> httpx.URL:
    """Return an http(s) address with a host, and without a user; `InvalidValue` or `AccessRefused` for others."""
    shown = url.replace(secret, "***") if secret else url
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise InvalidValue("url", shown, "an http(s) URL with a host") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise AccessRefused(f"{shown!r} is not an http(s) URL with a host; other kinds are not followed", url=shown)
    if parsed.userinfo:
        raise AccessRefused("an address with a user and a password is not asked", host=parsed.host)
    return parsed


def origin_of(url: httpx.URL) -> str:
    """Return scheme, host and port: what is asked politely, and what credentials are for."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
