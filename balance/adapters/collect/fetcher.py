"""The port through which sources reach the web."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from balance.adapters.collect.web_page import WebPage
from balance.clock import Clock


class Fetcher(Protocol):
    """Gets addresses of the web: `WebClient` does, and `balance.adapters.actor_web.ActorWeb` lets another one do it."""

    @property
    def clock(self) -> Clock:
        """Whose `now` deadlines are on."""
        ...

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
        """Return what lies at an address; see `WebClient.get`."""
        ...
