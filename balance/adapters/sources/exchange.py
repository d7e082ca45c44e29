"""What httpcore needs for one exchange: addresses of its own kind, and who checks certificates."""

from __future__ import annotations

import ssl
from functools import lru_cache

import httpcore
import httpx


@lru_cache(maxsize=2)
def tls_of(scheme: str) -> ssl.SSLContext | None:
    """Return what checks certificates: those of certifi; made once, as that takes a while.

    Examples
    --------
    >>> tls_of("http") is None, tls_of("https").check_hostname
    (True, True)
    """
    return httpx.create_ssl_context(trust_env=False) if scheme == "https" else None


def core_url(url: httpx.URL) -> httpcore.URL:
    """Return an address as httpcore has it."""
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
