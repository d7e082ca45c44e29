"""The port through which sources read what is no web page: files and databases."""

from __future__ import annotations

from typing import Protocol

from balance.adapters.collect.web_page import WebPage


class Stored(Protocol):
    """Reads files and databases: `StoreClient` does, and `balance.adapters.actor_web.ActorWeb` lets another do it."""

    def file(
        self,
        address: str,
        *,
        max_bytes: int = 8 * 2**20,
        max_age_s: float | None = None,
        deadline_s: float = float("inf"),
    ) -> WebPage:
        """Return what lies in a file; see `StoreClient.file`."""
        ...

    def rows(
        self,
        address: str,
        *,
        max_bytes: int = 8 * 2**20,
        max_age_s: float | None = None,
        deadline_s: float = float("inf"),
    ) -> WebPage:
        """Return what a database answers, as JSON; see `StoreClient.rows`."""
        ...
