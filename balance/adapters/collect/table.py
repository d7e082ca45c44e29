"""Rows of a database that a message may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.adapters.collect.collected import Collected
from balance.adapters.sources.sql import SqlSource

if TYPE_CHECKING:
    from balance.adapters.collect.wanted import Wanted
    from balance.adapters.sources.paths import PathPolicy
    from balance.clock import Clock

TIMEOUT_S = 30.0


class TableSource:
    """Serves DATABASE.

    A message may ask SQLite files of the allowed folders.  Database servers are asked under the name by which the
    operator registered the query with the data coordinator, never at an address of the message's.

    Parameters
    ----------
    clock : Clock
    paths : PathPolicy
        Which SQLite files may be read.

    Notes
    -----
    Parameters of a request: ``url`` of the database (the query is SQL then); else the query is all of it, as
    ``sqlite:////data/a.db?query=SELECT ...``.  Items: the rows, a dict each.
    """

    def __init__(self, *, clock: Clock, paths: PathPolicy) -> None:
        self._clock = clock
        self._sql = SqlSource(paths=paths, trusted=False, timeout_s=TIMEOUT_S, clock=clock)

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        url = wanted.text("url")
        address = wanted.query
        if url:
            address = f"{url}{'&' if '?' in url else '?'}query={wanted.query.replace('%', '%25')}"
        rows = self._sql.read(address, wanted.max_bytes)
        fetched = Collected(rows, "application/vnd.sqlite3", self._clock.wall())
        return Collected(rows, fetched.media_type, fetched.fetched_at, fetched.size_bytes)
