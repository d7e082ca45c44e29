"""The web, files and databases over actor calls: one process goes there for all collectors.

Only where one process asks all hosts can a rate limit, a ``Retry-After`` and "never twice" hold for a whole pool; and
what a collector had asked for when it died arrives all the same, and is there for the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from balance.adapters.collect.web_page import WebPage
from balance.clock import Clock
from balance.errors import BalanceError, SourceUnavailable

MARGIN_S = 5.0
"""How much longer than its own limit an answer is awaited, for the way."""

LIMIT_S = 120.0
"""How long an answer is awaited that has no limit of its own."""


class ActorWeb:
    """A `Fetcher` and a `Stored` (`balance.adapters.collect`) that have the clients of another actor do it.

    Parameters
    ----------
    handle : ray.actor.ActorHandle
        Of the actor that goes there; its ``web_get`` takes the address, the seconds left, and the options, its
        ``read_stored`` a kind (``file`` or ``rows``) before these.
    clock : Clock
    loop : asyncio.AbstractEventLoop
        In which the answers are awaited.

    Notes
    -----
    The methods block their thread, and may be called from several, but not from that of the loop.
    """

    def __init__(self, handle: Any, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = handle
        self._clock = clock
        self._loop = loop

    @property
    def clock(self) -> Clock:
        """Whose `now` deadlines are on."""
        return self._clock

    def get(self, url: str, *, deadline_s: float = math.inf, **options: Any) -> WebPage:
        """As `WebClient.get`; `SourceUnavailable` too where the other actor does not answer in time."""
        return self._have(url, deadline_s, lambda left_s: self._handle.web_get.remote(url, left_s, options))

    def file(self, address: str, *, deadline_s: float = math.inf, **options: Any) -> WebPage:
        """As `StoreClient.file`; `SourceUnavailable` too where the other actor does not answer in time."""
        return self._read("file", address, deadline_s, options)

    def rows(self, address: str, *, deadline_s: float = math.inf, **options: Any) -> WebPage:
        """As `StoreClient.rows`; `SourceUnavailable` too where the other actor does not answer in time."""
        return self._read("rows", address, deadline_s, options)

    def _read(self, kind: str, address: str, deadline_s: float, options: dict[str, Any]) -> WebPage:
        return self._have(
            address, deadline_s, lambda left_s: self._handle.read_stored.remote(kind, address, left_s, options)
        )

    def _have(self, address: str, deadline_s: float, ask: Callable[[float], Awaitable[WebPage]]) -> WebPage:
        left_s = max(0.0, min(deadline_s - self._clock.now(), LIMIT_S))
        return asyncio.run_coroutine_threadsafe(self._asked(address, left_s, ask), self._loop).result()

    async def _asked(self, address: str, left_s: float, ask: Callable[[float], Awaitable[WebPage]]) -> WebPage:
        try:
            async with asyncio.timeout(left_s + MARGIN_S):
                page = await ask(left_s)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, BalanceError):
                raise cause from None
            raise
        except (TimeoutError, RayActorError) as error:
            raise SourceUnavailable(f"nobody brought {address} in {left_s:.0f} s ({type(error).__name__})") from None
        return page
