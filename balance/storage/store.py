"""The durable state: one database, many readers, one writer for each owner, fenced by epoch.

SQLite by default, with a write-ahead log and a real fsync at every commit (``synchronous=FULL``):
what `Store.transaction` returned from is there after a ``kill -9`` and after a power cut.  The same
SQL runs on PostgreSQL by URL.

Invariants
----------
* A write transaction checks its epoch inside the transaction itself, so no newer owner can slip in
  between the check and the commit.
* In one process a write waits for the write before it; between processes SQLite's own lock does that.

It does not share one object between processes: each process opens its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select

from balance.defaults import default
from balance.errors import NotReady, StaleEpoch, StorageError
from balance.storage.engines import WRITES, in_memory, open_engine, parsed
from balance.storage.failures import explained
from balance.storage.fence import Fence
from balance.storage.schema import REVISION, owners
from balance.storage.sql import Sql
from balance.storage.transaction import Transaction
from balance.storage.upgrade import prepare, revision_of, unhurried
from balance.types import check_id, check_number

if TYPE_CHECKING:
    from balance.clock import Clock

# The row stays locked until the commit: on PostgreSQL by FOR SHARE, on SQLite by BEGIN IMMEDIATE.
_EPOCH = select(owners.c.epoch).where(owners.c.owner == bindparam("owner")).with_for_update(read=True)


class Store:
    """A database of Balance.

    Parameters
    ----------
    url : str, default "sqlite://"
        SQLAlchemy URL: ``sqlite://`` in memory, ``sqlite:////var/lib/balance/balance.db`` a file (created
        with mode 0600), ``postgresql+psycopg://...`` a server.
    clock : Clock, optional
        Dates what is written.
    busy_timeout_s : float, default 10
        How long to wait for another process that is writing.

    Raises
    ------
    ConfigurationError
        The URL can't be read or names a database that Balance does not know.
    StorageError
        The database can't be opened, or a newer Balance wrote it; the message says what to do.

    Examples
    --------
    >>> store = Store()
    >>> fence = store.acquire("scheduler")
    >>> with store.transaction(fence) as tx:
    ...     tx.put("nodes", "n1", {"cpu": 4})
    >>> store.scan("nodes")
    [('n1', {'cpu': 4})]
    >>> newer = store.acquire("scheduler")
    >>> with store.transaction(fence) as tx:
    ...     tx.delete("nodes", "n1")
    Traceback (most recent call last):
    ...
    balance.errors.StaleEpoch: 'scheduler' was taken over: epoch 1 may not write any more, 2 does
    >>> store.close()
    """

    def __init__(self, url: str = "sqlite://", *, clock: Clock | None = None, busy_timeout_s: float = 10.0) -> None:
        self._clock: Clock = clock or default("clock")
        where = parsed(url)
        self.where = where.render_as_string(hide_password=True)
        self._in_memory = in_memory(where)
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._closed = False
        self._engine = open_engine(where, check_number("busy_timeout_s", busy_timeout_s, minimum=0))
        try:
            self._prepare()
        except BaseException:
            self._engine.dispose()
            raise

    def _prepare(self) -> None:
        with explained(self.where):
            with self._connected(writes=False) as connection, connection.begin():
                ready = revision_of(connection) == REVISION
            if not ready:
                with self._connected(writes=True) as connection, connection.begin(), unhurried(connection):
                    prepare(connection, self.where)

    @contextmanager
    def _connected(self, *, writes: bool) -> Iterator[Connection]:
        with self._engine.connect().execution_options(**{WRITES: writes}) as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this thread's turn to write (in memory there is one connection: to read, too)."""
        me = threading.get_ident()
        if self._holder == me:
            raise StorageError("this thread has a transaction open already; use that one's methods")
        with self._lock:
            self._holder = me
            try:
                yield
            finally:
                self._holder = None

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady(f"the store {self.where} is closed", store=self.where)

    def acquire(self, owner: str) -> Fence:
        """Take over as the one that writes for `owner`; every older fence of that owner is stale from now on.

        Returns
        -------
        Fence
            With an epoch one higher than the last.
        """
        check_id("owner", owner)
        self._check_open()
        with self._turn(), explained(self.where), self._connected(writes=True) as connection, connection.begin():
            sql = Sql(connection, self._clock, writable=True)
            first = sql.insert(owners).values(owner=owner, epoch=1)
            taken = first.on_conflict_do_update(index_elements=["owner"], set_={"epoch": owners.c.epoch + 1}).returning(
                owners.c.epoch
            )
            return Fence(owner, int(sql.write(taken).scalar_one()))

    @contextmanager
    def transaction(self, fence: Fence) -> Iterator[Transaction]:
        """Open a transaction that writes; it commits at the end of the block, or undoes everything if that raises.

        Raises
        ------
        StaleEpoch
            A newer owner has taken over (or this store never knew the fence): nothing was written.
        StorageError
            The database failed, or this thread has a transaction open already.
        """
        self._check_open()
        with self._turn(), explained(self.where), self._connected(writes=True) as connection, connection.begin():
            self._check_epoch(connection, fence)
            yield Transaction(Sql(connection, self._clock, writable=True))

    def _check_epoch(self, connection: Connection, fence: Fence) -> None:
        epoch = connection.execute(_EPOCH, {"owner": fence.owner}).scalar_one_or_none()
        if epoch != fence.epoch:
            now = "nobody" if epoch is None else epoch
            raise StaleEpoch(
                f"{fence.owner!r} was taken over: epoch {fence.epoch} may not write any more, {now} does",
                owner=fence.owner,
                epoch=fence.epoch,
                current=epoch,
            )

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a transaction that only reads, all of it at one moment; writing in it raises `StorageError`."""
        self._check_open()
        if self._in_memory:
            with self._turn(), self._snapshot() as tx:
                yield tx
        else:
            with self._snapshot() as tx:
                yield tx

    @contextmanager
    def _snapshot(self) -> Iterator[Transaction]:
        with explained(self.where), self._connected(writes=False) as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield Transaction(Sql(connection, self._clock, writable=False))

    def get(self, collection: str, key: str) -> dict[str, Any] | None:
        """Return one document, or None."""
        with self.reading() as tx:
            return tx.get(collection, key)

    def scan(self, collection: str) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(key, document)`` of a whole collection, sorted by key."""
        with self.reading() as tx:
            return tx.scan(collection)

    def conservation(self) -> dict[str, Any]:
        """Check that no accepted request got lost; see `RequestRecords.conservation`.

        Returns
        -------
        dict
            ``accepted``, ``completed``, ``failed``, ``dead_lettered``, ``in_flight`` (requests), ``holds``.
        """
        with self.reading() as tx:
            return tx.requests.conservation()

    def close(self) -> None:
        """Close every connection, after a transaction that is under way; closing twice is fine."""
        if not self._closed:
            with self._turn():
                self._closed = True
                self._engine.dispose()

    def __repr__(self) -> str:
        return f"Store({self.where!r})"
