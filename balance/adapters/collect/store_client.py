"""The one way to files and databases for messages: within the allowed places, and never twice for the same.

A **file** is looked at each time: size, times, number, or what its store says of it (an ETag, say).  As long as that is
what it was, the copy is the answer and nothing is read.  What a **database** answers can't be told from outside, so it
is asked each time, unless the caller says how old an answer may be.

Copies lie in the same `BlobCache` as those of the web: equal ones lie there once.  Callers who want the same at a time
wait for the first of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsspec.utils import get_protocol

from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.turns import Turns
from balance.adapters.collect.web_page import WebPage
from balance.adapters.copying.file_origin import GRAIN_S
from balance.adapters.copying.origin import reading
from balance.adapters.copying.place import Place
from balance.adapters.sources.files import FileSource
from balance.core.coordinator.payload import Payload
from balance.errors import AccessRefused, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.sources.paths import PathPolicy
    from balance.clock import Clock

QUERY_S = 30.0
"""How long a query may run."""

_JSON = {"content-type": "application/json"}
_NOTHING: dict[str, Any] = {"look": None, "fetched_at": -math.inf}
"""What is known of that of which there is no copy."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """One call of `StoreClient`, as its steps hand it on.

    `read` gets the look of the copy, and returns what it has read with its look, or None where nothing has changed.
    """

    key: str
    address: str
    headers: dict[str, str]
    max_bytes: int
    fresh_s: float
    deadline_s: float
    read: Callable[[list[Any] | None], tuple[bytes, list[Any] | None] | None]


class StoreClient:
    """Reads files and databases.

    Parameters
    ----------
    clock : Clock
    paths : PathPolicy
        Which local files may be read, SQLite's among them.
    cache : BlobCache, optional
        What was read before; nothing is kept when left out.

    Notes
    -----
    Both methods may be called from several threads.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from balance.adapters.sources.paths import PathPolicy
    >>> from balance.clock import FakeClock
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.txt")
    ...     _ = path.write_text("salam")
    ...     cache = BlobCache(Path(folder, "kept"))
    ...     clock = FakeClock(epoch=path.stat().st_ctime + 60)  # a minute after it was written
    ...     client = StoreClient(clock=clock, paths=PathPolicy(roots=[folder]), cache=cache)
    ...     [client.file(str(path)).from_cache for _ in range(3)]
    [False, True, True]
    """

    def __init__(self, *, clock: Clock, paths: PathPolicy, cache: BlobCache | None = None) -> None:
        self.clock = clock
        self._paths = paths
        self._cache = cache
        self._files = FileSource(paths=paths, trusted=False)
        self._turns = Turns()

    def file(
        self,
        address: str,
        *,
        max_bytes: int = 8 * 2**20,
        max_age_s: float | None = None,
        deadline_s: float = float("inf"),
    ) -> WebPage:
        """Return the bytes of a file.

        Parameters
        ----------
        address : str
            A path, or a URL that fsspec knows.
        max_bytes : int
            The most that it may have.
        max_age_s : float, optional
            How old a copy may be for which the file is not even looked at; left out, it is looked at each time.
        deadline_s : float
            On the clock's `now`: a read that has not begun by then never does.

        Raises
        ------
        InvalidValue, AccessRefused
            It is no address of a file, or one that may not be read, or there is too much of it.
        SourceUnavailable
            It is not there, or can't be read.
        """
        fs, path = self._files.locate(address)
        place = Place(fs, path, address, get_protocol(address))

        def read(known: list[Any] | None) -> tuple[bytes, list[Any] | None] | None:
            look = self._look(place)  # before the read: if the file changes meanwhile, it is another one the next time
            return None if look is not None and look == known else (self._files.read(address, max_bytes), look)

        key = json.dumps(["FILE", path if place.is_local else address])
        return self._cached(_Ask(key, address, {}, max_bytes, max_age_s or 0.0, deadline_s, read))

    def rows(
        self,
        address: str,
        *,
        max_bytes: int = 8 * 2**20,
        max_age_s: float | None = None,
        deadline_s: float = float("inf"),
    ) -> WebPage:
        """Return the rows that a database answers, as JSON.

        Parameters
        ----------
        address : str
            With its query, as of `SqlSource`.
        max_bytes : int
            The most that it may answer.
        max_age_s : float, optional
            How old an answer may be that is given again; left out, the database is asked.
        deadline_s : float
            On the clock's `now`, if it is earlier than `QUERY_S` from now.

        Raises
        ------
        InvalidValue, AccessRefused
            It is no address with a query, or one that may not be asked, or it answers too much.
        SourceUnavailable
            It did not answer, or not in time.
        """
        from balance.adapters.sources.sql import SqlSource  # noqa: PLC0415 (who reads files does not wait for it)

        def read(_known: list[Any] | None) -> tuple[bytes, None]:
            left_s = max(0.0, min(QUERY_S, deadline_s - self.clock.now()))
            source = SqlSource(paths=self._paths, trusted=False, timeout_s=left_s, clock=self.clock)
            return Payload.of(source.read(address, max_bytes)).data, None

        SqlSource(paths=self._paths, trusted=False, timeout_s=QUERY_S, clock=self.clock).check(address)
        key = json.dumps(["ROWS", address])
        return self._cached(_Ask(key, address, _JSON, max_bytes, max_age_s or 0.0, deadline_s, read))

    def _cached(self, ask: _Ask) -> WebPage:
        """Return a copy that is fresh; else what is read, or the copy where nothing has changed."""
        with self._turns.one_at_a_time(ask.key):
            found = self._cache.get(ask.key) if self._cache is not None else None
            said, body = found if found is not None else (_NOTHING, b"")
            now = self.clock.wall()
            if self.clock.now() > ask.deadline_s:
                raise SourceUnavailable(f"{ask.address} was not read in time: others who wanted it took too long")
            if not 0 <= now - said["fetched_at"] < ask.fresh_s:
                new = ask.read(said["look"])
                said = {"look": said["look"] if new is None else new[1], "fetched_at": now}
                if new is not None:
                    if self._cache is not None:
                        self._cache.put(ask.key, new[0], said)
                    return WebPage(ask.address, new[0], ask.headers, now, len(new[0]))
                if self._cache is not None:
                    self._cache.renew(ask.key, said)
            if len(body) > ask.max_bytes:
                raise AccessRefused(f"{ask.address} has more than the {ask.max_bytes} bytes that may be read")
            return WebPage(ask.address, body, ask.headers, said["fetched_at"], from_cache=True)

    def _look(self, place: Place) -> list[Any] | None:
        """Return what tells a changed file from an unchanged one; None where nothing does."""
        with reading(place.url):
            if not place.is_local:
                look = place.look()
                return look if len(look) > 1 else None  # a size alone says too little
            if not place.fs.isfile(place.path):  # a pipe would wait for whoever writes to it
                raise SourceUnavailable(f"{place.url} is no regular file that is there", url=place.url)
            look = place.look()
        # Two changes within a tick of the system's clock have the same time: a file that is that new proves nothing.
        return look if self.clock.wall() - look[2] / 1e9 >= GRAIN_S else None
