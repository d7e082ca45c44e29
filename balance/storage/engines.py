"""Opening databases: what SQLite and PostgreSQL each need so that what is committed stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from balance.errors import ConfigurationError, StorageError

#: The option of a connection that says whether its transactions write.
WRITES = "balance_writes"

ORPHAN_S = 60.0
"""After how many idle seconds PostgreSQL ends a transaction: one whose process is gone or hangs holds up others."""

STATEMENT_S = 60.0
"""After how long PostgreSQL ends a statement, waiting for others left out."""

GRACE_S = 10.0
"""How much later a server that has not ended it is given up: it hangs."""

SILENCE_S = 30.0
"""After how long a network that swallows what is sent counts as broken; TCP itself waits for a quarter of an hour."""

# Built once (json.dumps with options builds one for every value); NaN is no JSON and is refused.
_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parsed(url: str) -> URL:
    """Return a URL taken apart; `ConfigurationError` if it names no database that Balance knows.

    Examples
    --------
    >>> parsed("postgresql+psycopg://balance@db/balance").host
    'db'
    """
    try:
        found = make_url(url)
        known = found.get_backend_name() in ("sqlite", "postgresql")
        found.get_dialect()
    except (ArgumentError, NoSuchModuleError):
        known = False
    if not known:
        raise ConfigurationError(
            f"the store URL {url!r} can't be used; expected sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
            url=url,
        )
    return found


def in_memory(url: URL) -> bool:
    """Say whether the database is SQLite's in memory, which has one connection only."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def open_engine(url: URL, busy_timeout_s: float) -> Engine:
    """Return an engine that waits up to `busy_timeout_s` seconds for another process that writes."""
    return (_sqlite if url.get_backend_name() == "sqlite" else _postgres)(url, busy_timeout_s)


def _sqlite(url: URL, busy_timeout_s: float) -> Engine:
    options: dict[str, Any] = {"connect_args": {"timeout": busy_timeout_s, "check_same_thread": False}}
    if in_memory(url):
        options["poolclass"] = StaticPool
    else:
        _create_private_file(Path(str(url.database)))
    engine = create_engine(url, json_serializer=_as_json, **options)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _create_private_file(path: Path) -> None:
    """Create the file before SQLite does, which would let everyone read it; the log beside it inherits the mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageError(
            f"the store {str(path)!r} can't be opened ({error.strerror}); "
            "create its folder and make it writable for this user, or name another one",
            store=str(path),
        ) from None


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own idea of when to begin would break BEGIN IMMEDIATE and savepoints; `_begin_sqlite` does it.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: to upgrade a read in the middle fails without waiting.
    immediate = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _postgres(url: URL, busy_timeout_s: float) -> Engine:
    # libpq knows no shorter one than 2 s.
    patience = {
        "connect_timeout": max(2, round(busy_timeout_s)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "tcp_user_timeout": round(SILENCE_S * 1000),
    }
    try:
        # Before a connection is used it is asked whether it still lives: a server that came back is found again.
        engine = create_engine(url, json_serializer=_as_json, pool_pre_ping=True, connect_args=patience)
    except ImportError as error:
        raise ConfigurationError(
            f"PostgreSQL needs a driver that is not installed ({error.name}): pip install 'balance[postgres]'",
            driver=error.name,
        ) from None

    statement_s = STATEMENT_S + busy_timeout_s

    def configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {round(statement_s * 1000)}")
            cursor.execute(f"SET lock_timeout = {max(1, round(busy_timeout_s * 1000))}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {round(ORPHAN_S * 1000)}")
        connection.commit()

    if engine.driver == "psycopg":
        from balance.storage.silence import limit_silence  # noqa: PLC0415 (the driver is optional)

        limit_silence(engine, statement_s + GRACE_S)
    event.listen(engine, "connect", configure)
    return engine
