"""Every kind of source behind one call."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance.adapters.collect.aparat import AparatSource
from balance.adapters.collect.api import ApiSource
from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.collected import Collected
from balance.adapters.collect.custom import CustomSource
from balance.adapters.collect.document import DocumentSource
from balance.adapters.collect.feed import FeedSource
from balance.adapters.collect.fetcher import Fetcher
from balance.adapters.collect.source import Source
from balance.adapters.collect.table import TableSource
from balance.adapters.collect.telegram import TelegramSource
from balance.adapters.collect.twitter import TwitterSource
from balance.adapters.collect.wanted import MAX_BYTES, Wanted
from balance.adapters.collect.web import WebSource
from balance.adapters.collect.wiki import WikiSource
from balance.adapters.collect.youtube import YoutubeSource
from balance.adapters.sources.paths import PathPolicy
from balance.clock import Clock
from balance.config import Settings
from balance.defaults import default
from balance.errors import AccessRefused, ConfigurationError, InvalidValue, UnknownId
from balance.messaging.enums import DataSource, parse_enum

if TYPE_CHECKING:
    from balance.adapters.collect.store_client import StoreClient
    from balance.adapters.collect.stored import Stored
    from balance.adapters.collect.web_client import WebClient

TIMEOUT_S = 100.0
"""For all that one request needs; less than the collector waits for it (`balance.services.collector.POLICY`)."""

_REFUSALS = (AccessRefused, ConfigurationError, InvalidValue, UnknownId)


class Collectors:
    """Collects data from every `DataSource`.

    Parameters
    ----------
    settings : Settings, optional
        Where the cache lies, what may be reached, and the credentials.
    clock : Clock, optional
    sources : mapping of DataSource to Source, optional
        Instead of those that there are for each kind.
    web : Fetcher, optional
        Who goes to the web for them.
    stored : Stored, optional
        Who reads files and databases for them.  Where either is left out, both are clients of their own, on one cache
        (`open_clients`).

    Notes
    -----
    `collect` may be called from several threads.

    Examples
    --------
    >>> collectors = Collectors(sources={})
    >>> collectors.collect("rss", "https://example.org/feed")
    Traceback (most recent call last):
    ...
    balance.errors.UnknownId: no source 'rss' is known; no source has been registered yet
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        sources: Mapping[DataSource, Source] | None = None,
        web: Fetcher | None = None,
        stored: Stored | None = None,
    ) -> None:
        self._settings = settings or Settings.from_env()
        self._clock: Clock = clock or default("clock")
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, int]] = {}
        if sources is None:
            if web is None or stored is None:
                web, stored, _cache = open_clients(self._settings, self._clock)
            sources = self._built(web, stored)
        self._sources = sources

    @property
    def sources(self) -> list[DataSource]:
        """The kinds that are served."""
        return sorted(self._sources)

    def collect(self, source: DataSource | str, query: str, parameters: Mapping[str, Any] | None = None) -> Collected:
        """Return what a source has on a query.

        Parameters
        ----------
        source : DataSource
        query : str
        parameters : mapping, optional
            As the source's class says; ``max_age_s`` (how old a copy may be that is not asked about) for all of them.

        Raises
        ------
        SourceUnavailable
            It did not deliver; trying again may help.
        AccessRefused, InvalidValue, UnknownId, ConfigurationError
            It never will as things are: not allowed, not understood, or not set up.
        """
        kind = parse_enum(DataSource, "source", source)
        if kind not in self._sources:
            raise UnknownId("source", kind.value, (one.value for one in self._sources))
        count = partial(self._count, kind.value)
        count("requested")
        wanted = Wanted(query, parameters or {}, deadline_s=self._clock.now() + TIMEOUT_S)
        try:
            found = self._sources[kind].collect(wanted)
            if found.size_bytes > MAX_BYTES:
                raise AccessRefused(f"what was found is more than the {MAX_BYTES} bytes that are kept of it")
        except _REFUSALS as error:
            count("refused")
            count(f"refused_{error.code}")
            raise
        except Exception:
            count("failed")
            raise
        count("collected")
        count("from_cache", int(found.from_cache))
        count("fetched_bytes", found.fetched_bytes)
        return found

    def stats(self) -> dict[str, Any]:
        """Return what came of the requests so far.

        Returns
        -------
        dict
            By source: ``requested``, ``collected``, ``failed``, ``refused`` and ``refused_<error>`` (requests),
            ``from_cache`` (of those collected), ``fetched_bytes``; a count that was never made is left out.
        """
        with self._lock:
            return {source: dict(counts) for source, counts in sorted(self._counts.items())}

    def _count(self, source: str, name: str, amount: int = 1) -> None:
        with self._lock:
            counts = self._counts.setdefault(source, {})
            counts[name] = counts.get(name, 0) + amount

    def _built(self, web: Fetcher, stored: Stored) -> dict[DataSource, Source]:
        settings = self._settings
        return {
            DataSource.WEB: WebSource(web, search_url=settings.search_url),
            DataSource.WIKI: WikiSource(web, language=settings.wiki_language),
            DataSource.TWITTER: TwitterSource(web, token=settings.twitter_token),
            DataSource.TELEGRAM: TelegramSource(web, token=settings.telegram_token),
            DataSource.YOUTUBE: YoutubeSource(web, key=settings.youtube_key),
            DataSource.APARAT: AparatSource(web),
            DataSource.NEWS: FeedSource(web, news=True, feeds=settings.news_feeds),
            DataSource.RSS: FeedSource(web),
            DataSource.API: ApiSource(web, headers=settings.api_headers),
            DataSource.DATABASE: TableSource(stored),
            DataSource.FILE: DocumentSource(web, stored),
            DataSource.CUSTOM: CustomSource(clock=self._clock),
        }


def open_clients(settings: Settings, clock: Clock) -> tuple[WebClient, StoreClient, BlobCache]:
    """Return clients as the settings say, and their cache in the state directory; one process at a time may have it."""
    from balance.adapters.collect.host_gate import HostGate  # noqa: PLC0415
    from balance.adapters.collect.store_client import StoreClient  # noqa: PLC0415
    from balance.adapters.collect.web_client import WebClient  # noqa: PLC0415 (who has it done by another is up sooner)

    cache = BlobCache(Path(settings.state_dir) / "collected", max_bytes=settings.collect_cache_bytes)
    web = WebClient(
        clock=clock,
        gate=HostGate(clock=clock, interval_s=settings.collect_interval_s),
        cache=cache,
        allow_private=settings.allow_private_urls,
        fresh_s=settings.collect_fresh_s,
    )
    paths = PathPolicy(roots=settings.allow_file_roots.split(":"))
    return web, StoreClient(clock=clock, paths=paths, cache=cache), cache
