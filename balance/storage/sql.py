"""One open transaction as the record classes see it: run a statement, know the time, refuse to write if reading.

It hides the two places where SQLite and PostgreSQL differ (the insert that knows ``ON CONFLICT``) and
SQLite's bound on parameters.  It knows no table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, StatementError

from balance.errors import InvalidValue, StorageError
from balance.storage.failures import breaks_transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, Executable

    from balance.clock import Clock

T = TypeVar("T")

_STORABLE = "JSON types only, text without lone surrogates, integers of 64 bits"

#: Ids in one ``IN (...)``: well under SQLite's 32,766 parameters, large enough to amortise the statement.
IDS_PER_STATEMENT = 2000

#: Values in one statement: within SQLite's 32,766 parameters.
VALUES_PER_STATEMENT = 32_000


class Bulk(NamedTuple):
    """A statement that takes many rows.

    Attributes
    ----------
    head, tail : str
        What stands before and after the rows.
    types : tuple of str
        PostgreSQL's names for the types of a row's values.
    """

    head: str
    types: tuple[str, ...]
    tail: str = ""


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

    __slots__ = ("_connection", "_insert", "_on_postgres", "_writable", "clock")

    def __init__(self, connection: Connection, clock: Clock, writable: bool) -> None:
        self._connection = connection
        self._writable = writable
        self._on_postgres = connection.dialect.name == "postgresql"
        self._insert = postgresql.insert if self._on_postgres else sqlite.insert
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
            raise _only_reads()
        with _values_refused():
            return self._connection.execute(statement, rows) if rows is not None else self.read(statement)

    def bulk(self, statement: Bulk, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run a statement for all rows, in their order, in as few goes as the database takes.

        On SQLite a third less work than ``executemany``.  And a busy thread that takes Python's lock whenever a
        statement gives it back keeps it for 5 ms each time (``sys.getswitchinterval``): so the fewer, the better.

        Parameters
        ----------
        rows : sequence of tuple
            Of what the driver takes: no conversion is made.

        Returns
        -------
        int
            How many rows were changed.
        """
        if not self._writable:
            raise _only_reads()
        changed = done = 0
        columns = len(statement.types)
        while done < len(rows):
            size = min(len(rows) - done, VALUES_PER_STATEMENT // columns)
            values: tuple[Any, ...]
            if self._on_postgres:
                text = _with_arrays(statement)
                values = tuple(map(list, zip(*rows[done : done + size], strict=True)))
            else:
                size = 1 << (size.bit_length() - 1)  # powers of two: few texts, so that the driver has them prepared
                text = _with_values(statement, size)
                values = tuple(chain.from_iterable(rows[done : done + size]))
            with _values_refused():
                changed += self._connection.exec_driver_sql(text, values).rowcount
            done += size
        return changed

    def insert(self, table: Table) -> Any:
        """Return an insert that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return self._insert(table)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Open a block: what fails inside it is undone alone, and the transaction goes on."""
        # SQLAlchemy's own begin_nested costs 0.1 ms, five times as much.
        execute = self._connection.exec_driver_sql
        execute("SAVEPOINT balance")  # of several with one name, the innermost is meant
        try:
            yield
        except BaseException as error:
            if not breaks_transaction(error):
                execute("ROLLBACK TO SAVEPOINT balance")
                execute("RELEASE SAVEPOINT balance")
            raise
        execute("RELEASE SAVEPOINT balance")

    def write_apart(self, write: Callable[[Sequence[T]], None], rows: Sequence[T]) -> list[tuple[T, Exception]]:
        """Call ``write(rows)``; where that is refused, write each half apart, down to the rows that are at fault.

        Returns
        -------
        list of (row, exception)
            The rows that can't be written, and why.  A failure of the database itself is raised.
        """
        try:
            with self.savepoint():
                write(rows)
        except Exception as error:
            if breaks_transaction(error):
                raise
            if len(rows) == 1:
                return [(rows[0], error)]
            middle = len(rows) // 2
            return self.write_apart(write, rows[:middle]) + self.write_apart(write, rows[middle:])
        return []


@contextmanager
def _values_refused() -> Iterator[None]:
    """Turn what is said of a value that can't be stored into `InvalidValue`."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:  # of what turns values into JSON, text and numbers
        raise InvalidValue("a stored value", str(error), _STORABLE) from None
    except DataError as error:
        raise InvalidValue("a stored value", str(error.orig), "what the database takes") from None
    except StatementError as error:
        if isinstance(error.orig, TypeError | ValueError):
            raise InvalidValue("a stored value", str(error.orig), _STORABLE) from None
        raise


@lru_cache(maxsize=64)
def _with_values(statement: Bulk, rows: int) -> str:
    row = f"({', '.join('?' * len(statement.types))})"
    return f"{statement.head} VALUES {', '.join([row] * rows)} {statement.tail}"


@lru_cache(maxsize=64)
def _with_arrays(statement: Bulk) -> str:
    # One array for each column: thousands of single parameters cost PostgreSQL and its driver more than twice as much.
    arrays = ", ".join(f"%s::{kind}[]" for kind in statement.types)
    return f"{statement.head} SELECT * FROM unnest({arrays}) {statement.tail}"  # noqa: S608 (of constants alone)


def _only_reads() -> StorageError:
    return StorageError("this transaction only reads; take one that writes: store.transaction(fence)")


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
