"""Documents: JSON objects by collection and key, for state that is small and has a shape of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, select

from balance.errors import InvalidValue
from balance.storage.schema import documents
from balance.types import check_id

if TYPE_CHECKING:
    from balance.storage.sql import Sql


class DocumentRecords:
    """The documents, inside one transaction (`Transaction` has these methods itself).

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("docs")) as tx:
    ...     tx.put("models", "whisper", {"replicas": 2})
    >>> store.get("models", "whisper")
    {'replicas': 2}
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def put(self, collection: str, key: str, body: Mapping[str, Any]) -> None:
        """Write one document, over what was there."""
        self.put_many(collection, {key: body})

    def put_many(self, collection: str, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Write several documents of one collection.

        Raises
        ------
        InvalidValue
            An empty collection or key, a body that is no mapping, or a value that is not JSON.
        """
        check_id("collection", collection)
        now = self._sql.clock.wall()
        rows = []
        for key, body in bodies.items():
            if not isinstance(body, Mapping):
                raise InvalidValue(f"document {key!r}", body, "a dict of JSON values")
            rows.append({"collection": collection, "key": check_id("key", key), "body": dict(body), "updated_at": now})
        if rows:
            statement = self._sql.insert(documents)
            new = statement.excluded
            self._sql.write(
                statement.on_conflict_do_update(
                    index_elements=["collection", "key"], set_={"body": new.body, "updated_at": new.updated_at}
                ),
                rows,
            )

    def get(self, collection: str, key: str) -> dict[str, Any] | None:
        """Return the document, or None."""
        found = self._sql.read(select(documents.c.body).where(_is(collection, key))).first()
        return dict(found.body) if found else None

    def delete(self, collection: str, key: str) -> bool:
        """Remove the document and say whether there was one."""
        return bool(self._sql.write(delete(documents).where(_is(collection, key))).rowcount)

    def keep_newest(self, collection: str, count: int) -> int:
        """Remove all but the `count` documents of the collection that were written last; return how many went."""
        written = select(documents.c.updated_at).where(documents.c.collection == collection)
        newest = written.order_by(documents.c.updated_at.desc()).offset(count).limit(1)
        oldest_kept = self._sql.read(newest).scalar_one_or_none()
        if oldest_kept is None:
            return 0
        old = and_(documents.c.collection == collection, documents.c.updated_at <= oldest_kept)
        return int(self._sql.write(delete(documents).where(old)).rowcount)

    def scan(self, collection: str) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(key, body)`` of every document of the collection, sorted by key."""
        found = self._sql.read(
            select(documents.c.key, documents.c.body)
            .where(documents.c.collection == collection)
            .order_by(documents.c.key)
        )
        return [(row.key, dict(row.body)) for row in found]


def _is(collection: str, key: str) -> Any:
    return and_(documents.c.collection == collection, documents.c.key == key)
