"""A transaction: documents by its own methods, and the typed records beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from balance.storage.decisions import DecisionRecords
from balance.storage.documents import DocumentRecords
from balance.storage.requests import RequestRecords
from balance.storage.samples import SampleRecords
from balance.storage.tasks import TaskRecords

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from balance.storage.sql import Sql

T = TypeVar("T")


class Transaction(DocumentRecords):
    """What happens in here happens together or not at all.

    Attributes
    ----------
    tasks : TaskRecords
    requests : RequestRecords
    decisions : DecisionRecords
    samples : SampleRecords

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("me")) as tx:
    ...     tx.put("notes", "first", {"text": "hello"})
    ...     tx.requests.accept([{"request_id": "r", "model_id": "m"}])
    ['r']
    """

    def __init__(self, sql: Sql) -> None:
        super().__init__(sql)
        self.tasks = TaskRecords(sql)
        self.requests = RequestRecords(sql)
        self.decisions = DecisionRecords(sql)
        self.samples = SampleRecords(sql)

    def savepoint(self) -> AbstractContextManager[Any]:
        """Return a context: what fails inside it is undone alone, and the transaction goes on."""
        return self._sql.savepoint()

    def write_apart(self, write: Callable[[Sequence[T]], None], rows: Sequence[T]) -> list[tuple[T, Exception]]:
        """Call ``write(rows)`` and return the rows that it refuses with the reasons; the others are written.

        Examples
        --------
        >>> from balance.storage import Store
        >>> store = Store()
        >>> with store.transaction(store.acquire("me")) as tx:
        ...     tx.write_apart(lambda rows: tx.put_many("c", dict(rows)), [("a", {"n": 1}), ("b", {"n": object()})])
        [(('b', {'n': <object object at ...>}), InvalidValue(...))]
        >>> store.scan("c")
        [('a', {'n': 1})]
        """
        return self._sql.write_apart(write, rows)
