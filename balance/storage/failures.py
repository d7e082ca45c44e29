"""What a database says when it fails, turned into what a person has to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError, SQLAlchemyError

from balance.errors import StorageError

#: A part of the driver's message, and the advice; the first that matches is taken.
_ADVICE = (
    ("connection refused", "no server answers there; start it, or name the right host and port"),
    ("connection is lost", "the server went away; what was acknowledged is there when it is back"),
    ("server closed the connection", "the server went away; what was acknowledged is there when it is back"),
    ("terminating connection", "the server is being stopped; what was acknowledged is there when it is back"),
    ("timeout expired", "no server answers there; see whether the host and the port are right and can be reached"),
    ("authentication failed", "the server does not take this user or password; correct the URL"),
    ("no password supplied", "the server asks for a password; put one in the URL or in the file ~/.pgpass"),
    ("said nothing for", "it hangs, or its machine does; what was acknowledged is there when it is back"),
    ("statement timeout", "it has too much to do, or its disk is too slow; see pg_stat_activity"),
    ("lock timeout", "another process holds what is to be written; see pg_locks, or give it time"),
    ("too many", "the server takes no more connections; raise its max_connections"),
    ("does not exist", "create it, or correct the URL"),
    ("connection to server", "no server answers there; start it, or correct the URL"),
    ("permission denied", "give this user the right to create tables there"),
    ("no space left", "free some space there, then start again: nothing that was acknowledged is lost"),
    ("locked", "another process holds the database; see which one has the file open, or give it time"),
    ("full", "free some space there, then start again: nothing that was acknowledged is lost"),
    ("not a database", "the file is no database of Balance; name another one, or move this one away"),
    ("malformed", "the file is damaged; restore it from a copy, or move it away to begin anew"),
    ("readonly", "the file or its folder can't be written by this user; change its permissions"),
    ("unable to open", "the folder does not exist or can't be read; create it, or name another one"),
    ("disk i/o", "the disk did not read or write; check it, and that the folder is on a local disk"),
)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn the driver's errors inside the block into `StorageError`; `where` names the database.

    Examples
    --------
    >>> from sqlalchemy.exc import OperationalError
    >>> with explained("x.db"):
    ...     raise OperationalError("BEGIN", {}, Exception("database is locked"))
    Traceback (most recent call last):
    ...
    balance.errors.StorageError: the store x.db failed (database is locked): another process holds the database; ...
    """
    try:
        yield
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        advice = next((advice for part, advice in _ADVICE if part in said.lower()), "see the log of the database")
        raise StorageError(f"the store {where} failed ({said}): {advice}", store=where, cause=said) from error


def breaks_transaction(error: BaseException) -> bool:
    """Say whether the database itself failed: whatever the transaction did before is undone, or may be.

    SQLite undoes the whole transaction by itself when the disk is full or can't be read, and goes on outside of
    any; a lost server has forgotten it.  What merely refuses a value leaves the transaction as it was.

    Examples
    --------
    >>> from sqlalchemy.exc import IntegrityError, OperationalError
    >>> breaks_transaction(OperationalError("INSERT", {}, Exception("database or disk is full")))
    True
    >>> breaks_transaction(IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed")))
    False
    """
    refusals = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
    return isinstance(error, DBAPIError) and (error.connection_invalidated or not isinstance(error, refusals))
