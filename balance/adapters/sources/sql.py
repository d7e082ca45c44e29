"""Data from a database: a SQLAlchemy URL that carries its query.

``sqlite:///shop.db?query=SELECT id, price FROM items`` delivers a list of records, one dict for each row
with its columns in the query's order.  ``query`` is the last parameter and goes to the end of the URL:
``+``, ``&`` and ``#`` stand for themselves in it, a percent sign is written ``%25`` as in every URL.

The connection only reads: SQLite opens the file so and refuses ``ATTACH``, PostgreSQL gets a read-only
transaction.  A query that runs out of time is stopped there, and a PostgreSQL that does not stop it is given up.

Values become JSON: dates and times ISO 8601, decimals floats, UUIDs text, blobs base64.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from balance.adapters.sources.json_values import as_json
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.sources.paths import PathPolicy
    from balance.clock import Clock

_FORM = "DIALECT://USER@HOST/DATABASE?query=SELECT ..., for example sqlite:///shop.db?query=SELECT * FROM items"
_ROWS_AT_ONCE = 20
GRACE_S = 5.0
"""How much later than its own limit a server is given up that has not ended a query: it hangs."""
_STEPS_PER_LOOK = 100_000  # of SQLite's machine between two looks at the clock: about a millisecond


class SqlSource:
    """Runs one query.

    Parameters
    ----------
    paths : PathPolicy
        Which SQLite files may be read.
    trusted : bool
        Whether a database server may be asked at all.
    timeout_s : float
        How long a query may run.
    clock : Clock
    """

    def __init__(self, *, paths: PathPolicy, trusted: bool, timeout_s: float, clock: Clock) -> None:
        self._clock = clock
        self._paths = paths
        self._trusted = trusted
        self._timeout_s = timeout_s

    def check(self, source: str) -> None:
        """Raise `InvalidValue` or `AccessRefused` if this could never be read."""
        url, _query = _parsed(source)
        self._place(url)

    def read(self, source: str, max_bytes: int) -> list[dict[str, Any]]:
        """Return the rows; more than `max_bytes` of them raise `AccessRefused`."""
        url, query = _parsed(source)
        engine = self._engine(url, max_bytes)
        shown = url.render_as_string(hide_password=True)
        rows: list[dict[str, Any]] = []
        size = 0
        try:
            with engine.connect() as connection:
                result = connection.execution_options(
                    stream_results=True, max_row_buffer=_ROWS_AT_ONCE
                ).exec_driver_sql(query)
                if not result.returns_rows:
                    raise InvalidValue("query", query, "one that returns rows")
                names = list(result.keys())
                for row in result:  # one by one: a few of them may be all that is allowed
                    rows.append(record := {name: as_json(value) for name, value in zip(names, row, strict=True)})
                    size += len(str(record))
                    if size > max_bytes:
                        raise AccessRefused(f"{shown} delivers more than {max_bytes} bytes", max_bytes=max_bytes)
        except (SQLAlchemyError, ImportError) as error:
            said = getattr(error, "orig", None) or error
            if getattr(said, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG:
                raise AccessRefused(f"{shown} delivers more than {max_bytes} bytes", max_bytes=max_bytes) from None
            raise SourceUnavailable(f"{shown} did not deliver ({said})", url=shown) from error
        finally:
            engine.dispose()
        return rows

    def _place(self, url: URL) -> str | None:
        if url.get_backend_name() == "sqlite":
            return self._paths.check(url.database or "")
        if not self._trusted:
            raise AccessRefused("a database server is asked only for a caller that is trusted", host=str(url.host))
        return None

    def _engine(self, url: URL, max_bytes: int) -> Engine:
        path = self._place(url)
        if path is None:
            return self._server(url)
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=self._timeout_s),
        )
        event.listen(engine, "connect", lambda connection, _record: self._bound_sqlite(connection, max_bytes))
        return engine

    def _server(self, url: URL) -> Engine:
        engine = create_engine(url)
        if engine.dialect.name == "postgresql":
            event.listen(engine, "begin", self._bound_postgresql)
        if engine.driver == "psycopg":
            from balance.storage.silence import limit_silence  # noqa: PLC0415 (its driver is optional)

            limit_silence(engine, self._timeout_s + GRACE_S)
            _close_what_is_lost(engine)
        return engine

    def _bound_postgresql(self, connection: Connection) -> None:
        cursor = connection.connection.cursor()  # the driver's: rows are streamed, and so SQLAlchemy's would DECLARE it
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(f"SET LOCAL statement_timeout = {max(1, round(self._timeout_s * 1000))}")
        cursor.close()

    def _bound_sqlite(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max_bytes, 2**31 - 1))  # a query can make any value up
        refused = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)  # another file would escape the check of the path
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action in refused else sqlite3.SQLITE_OK)
        deadline = self._clock.now() + self._timeout_s
        connection.set_progress_handler(lambda: int(self._clock.now() > deadline), _STEPS_PER_LOOK)


def _close_what_is_lost(engine: Engine) -> None:
    """Close the cursor of a connection that is lost: SQLAlchemy leaves it open, and psycopg warns of it then."""
    opened: list[Any] = []

    def note(_connection: Connection, cursor: Any, *_said: Any) -> None:
        opened.append(cursor)

    def close(context: ExceptionContext) -> None:
        for cursor in opened if context.is_disconnect else ():
            cursor.close()

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "handle_error", close)


def _parsed(source: str) -> tuple[URL, str]:
    place, _, query = source.partition("query=")
    query = unquote(query).strip()
    try:
        url = make_url(place.rstrip("?&"))
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError):
        raise InvalidValue("source", source, _FORM) from None
    if not query or not place.endswith(("?", "&")) or (url.get_backend_name() == "sqlite" and not url.database):
        raise InvalidValue("source", source, _FORM)
    return url, query
