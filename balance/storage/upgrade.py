"""Bringing a database to the tables that this Balance knows.

An empty one gets them all at once; one that an older Balance wrote goes through the revisions that came since
(`balance.storage.migrations`, with Alembic); one that a newer Balance wrote is refused, for what is in it may
mean something else there.  All of it happens in one transaction, and in one process at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, String, Table, insert, inspect, select, text

from balance.errors import StorageError
from balance.storage.schema import REVISION, metadata, owners

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

# Alembic's own table, as it lays it out.
_version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

_LOCK = 0x62616C616E6365
"""Of PostgreSQL's advisory locks the one that stands for the schema."""


def revision_of(connection: Connection) -> str | None:
    """Return the revision that a database is at; None if it has none."""
    if not inspect(connection).has_table(_version.name):
        return None
    return connection.execute(select(_version.c.version_num)).scalar()


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Let the statements of this transaction take as long as they need: of large tables, minutes."""
    driver: Any = connection.connection.driver_connection
    if not hasattr(driver, "silence_s"):
        yield
        return
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    before, driver.silence_s = driver.silence_s, math.inf
    try:
        yield
    finally:
        driver.silence_s = before


def prepare(connection: Connection, where: str) -> None:
    """Create the tables, or bring them up to date, inside the transaction that is open.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction that writes.
    where : str
        The database's name, for messages.

    Raises
    ------
    StorageError
        The database is none of Balance's, or a newer Balance wrote it; nothing is changed.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = revision_of(connection)
    if found == REVISION:
        return
    if found is None:
        if inspect(connection).has_table(owners.name):
            raise StorageError(
                f"the store {where} has tables with these names but no revision: something else made them, or a "
                "Balance from before its first release; name another store, or move this one away",
                store=where,
            )
        metadata.create_all(connection)
        connection.execute(insert(_version).values(version_num=REVISION))
    else:
        _migrate(connection, where, found)


def _migrate(connection: Connection, where: str, found: str) -> None:
    # Here and not at the top: it takes longer to import than to open a store, and hardly any opening needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = alembic_config()
    try:
        ScriptDirectory.from_config(config).get_revision(found)
    except CommandError:
        raise StorageError(
            f"the store {where} is at revision {found!r}, which this Balance does not know (it knows up to "
            f"{REVISION!r}); run the Balance that wrote it or a newer one, or name another store",
            store=where,
            found=found,
            expected=REVISION,
        ) from None
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def alembic_config() -> Config:
    """Return how Alembic finds the revisions."""
    from alembic.config import Config  # noqa: PLC0415 (as above)

    config = Config()
    config.set_main_option("script_location", "balance.storage:migrations")
    return config
