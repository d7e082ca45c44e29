"""Rows of a database that a message may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balance.adapters.collect.collected import Collected

if TYPE_CHECKING:
    from balance.adapters.collect.stored import Stored
    from balance.adapters.collect.wanted import Wanted


class TableSource:
    """Serves DATABASE.

    A message may ask SQLite files of the allowed folders.  Database servers are asked under the name by which the
    operator registered the query with the data coordinator, never at an address of the message's.

    Parameters
    ----------
    stored : Stored

    Notes
    -----
    Parameters of a request: ``url`` of the database (the query is SQL then); else the query is all of it, as
    ``sqlite:////data/a.db?query=SELECT ...``.  With ``max_age_s`` an answer that is no older is given again, and the
    database is not asked.  Items: the rows, a dict each.
    """

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        url = wanted.text("url")
        address = wanted.query
        if url:
            address = f"{url}{'&' if '?' in url else '?'}query={wanted.query.replace('%', '%25')}"
        page = self._stored.rows(
            address, max_bytes=wanted.max_bytes, max_age_s=wanted.max_age_s, deadline_s=wanted.deadline_s
        )
        return Collected(
            page.json(), "application/vnd.sqlite3", page.fetched_at, page.wire_bytes, from_cache=page.from_cache
        )
