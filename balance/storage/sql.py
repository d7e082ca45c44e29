"""One open transaction as the record classes see it: run a statement, know the time, refuse to write if reading.

It hides the two places where SQLite and PostgreSQL differ (the insert that knows ``ON CONFLICT``) and
SQLite's bound on parameters.  It knows no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError

from balance.errors import InvalidValue, StorageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, CursorResult, Executable

    from balance.clock import Clock

#: Ids in one ``IN (...)``: well under SQLite's 32,766 parameters, large enough to amortise the statement.
IDS_PER_STATEMENT = 2000


class Sql:
    """A connection inside a transaction.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Open, with its transaction begun.
    clock : Clock
        Dates what is written.
    writable : bool
        False for a reading transaction: every write then raises `StorageError`.
    """

    __slots__ = ("_connection", "_insert", "_writable", "clock")

    def __init__(self, connection: Connection, clock: Clock, writable: bool) -> None:
        self._connection = connection
        self._writable = writable
        self._insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        self.clock = clock

    def read(self, statement: Executable) -> CursorResult[*tuple[Any, ...]]:
        """Run a query."""
        return self._connection.execute(statement)

    def rows(self, statement: Executable) -> list[dict[str, Any]]:
        """Run a query and return its rows as dicts."""
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def write(
        self, statement: Executable, rows: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement that changes rows, once for each of `rows` where given."""
        if not self._writable:
            raise StorageError("this transaction only reads; take one that writes: store.transaction(fence)")
        try:
            return self._connection.execute(statement, rows) if rows is not None else self.read(statement)
        except StatementError as error:
            if isinstance(error.orig, TypeError | ValueError):  # what json.dumps says of a value that is not JSON
                raise InvalidValue("a stored value", str(error.orig), "JSON types only") from None
            raise

    def insert(self, table: Table) -> Any:
        """Return an insert that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return self._insert(table)

    def savepoint(self) -> AbstractContextManager[Any]:
        """Return a context: what fails inside it is undone alone, and the transaction goes on."""
        return self._connection.begin_nested()


def chunked(ids: Iterable[str], size: int = IDS_PER_STATEMENT) -> Iterator[list[str]]:
    """Yield the ids in lists of at most `size`, in their order.

    Examples
    --------
    >>> list(chunked("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    everything = list(ids)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def completed_row(row: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return `row` with every column of `defaults`; `InvalidValue` names a column that does not exist.

    Examples
    --------
    >>> completed_row({"state": "queued"}, {"state": None, "priority": 5})
    {'state': 'queued', 'priority': 5}
    """
    whole = {**defaults, **row}
    if len(whole) != len(defaults):
        unknown = sorted(set(row) - set(defaults))
        raise InvalidValue("row", ", ".join(unknown), "only the columns " + ", ".join(defaults))
    return whole
