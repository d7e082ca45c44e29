"""Time series points, kept so that a restarted predictor does not begin with nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from balance.storage.schema import samples
from balance.types import check_id, check_int, check_number

if TYPE_CHECKING:
    from balance.storage.sql import Sql


class SampleRecords:
    """The points, inside one transaction; one value for each series and moment, the last one written.

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("prediction")) as tx:
    ...     tx.samples.append_many([("demand/m", 60.0, 4.0), ("demand/m", 120.0, 7.0)])
    >>> with store.reading() as tx:
    ...     tx.samples.range("demand/m", start=100.0), tx.samples.series()
    ([(120.0, 7.0)], ['demand/m'])
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def append_many(self, points: Iterable[tuple[str, float, float]]) -> None:
        """Add ``(series, at, value)`` points; `at` in POSIX seconds; NaN and infinity raise `InvalidValue`."""
        rows = {
            (check_id("series", series), check_number("at", at)): check_number("value", value)
            for series, at, value in points
        }
        if rows:
            statement = self._sql.insert(samples)
            self._sql.write(
                statement.on_conflict_do_update(
                    index_elements=["series", "at"], set_={"value": statement.excluded.value}
                ),
                [{"series": series, "at": at, "value": value} for (series, at), value in rows.items()],
            )

    def range(
        self, series: str, start: float | None = None, end: float | None = None, limit: int = 100_000
    ) -> list[tuple[float, float]]:
        """Return the latest `limit` points ``(at, value)`` with ``start <= at < end``, oldest first."""
        query = select(samples.c.at, samples.c.value).where(samples.c.series == series)
        if start is not None:
            query = query.where(samples.c.at >= start)
        if end is not None:
            query = query.where(samples.c.at < end)
        newest_first = query.order_by(samples.c.at.desc()).limit(check_int("limit", limit, minimum=0))
        return [(row.at, row.value) for row in self._sql.read(newest_first)][::-1]

    def series(self) -> list[str]:
        """Return the names of all series, sorted."""
        return list(self._sql.read(select(samples.c.series).distinct().order_by(samples.c.series)).scalars())

    def prune(self, before: float) -> int:
        """Forget points older than `before` (POSIX seconds) and return how many went."""
        return int(self._sql.write(delete(samples).where(samples.c.at < before)).rowcount)
