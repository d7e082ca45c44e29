"""What the scheduler has to remember: every task, and the functions that they call.

A task's row is written before the submission is acknowledged and carries all that a restarted scheduler
needs to go on (`unfinished`).  Functions are kept once, by the hash of their pickle, however many tasks
call them.

Invariant: a row has a ``finished_at`` exactly if its state is one of `TERMINAL`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, func, select, update

from balance.errors import Conflict, UnknownId
from balance.storage.schema import functions, tasks
from balance.storage.sql import chunked, completed_row
from balance.types import check_id, check_priority

if TYPE_CHECKING:
    from balance.storage.sql import Sql

#: States that a task never leaves.
TERMINAL = frozenset({"completed", "failed", "cancelled", "timed_out", "denied", "upstream_failed"})

_DEFAULTS: dict[str, Any] = {
    "task_id": None,
    "state": "queued",
    "priority": 5,
    "tenant": "default",
    "spec": None,
    "function_hash": None,
    "call": None,
    "submitted_at": None,
    "started_at": None,
    "finished_at": None,
    "attempt": 0,
    "node": None,
    "outcome": None,
    "result": None,
}


class TaskRecords:
    """The tasks, inside one transaction.

    A row is a dict with ``task_id`` and any of ``state``, ``priority``, ``tenant``, ``spec`` (JSON),
    ``function_hash``, ``call`` (bytes), ``submitted_at``, ``started_at``, ``finished_at`` (POSIX seconds),
    ``attempt``, ``node``, ``outcome`` (JSON), ``result`` (bytes).

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("scheduler")) as tx:
    ...     tx.tasks.insert([{"task_id": "a", "priority": 1}, {"task_id": "b"}])
    ...     tx.tasks.update([{"task_id": "a", "state": "completed", "outcome": {"run_s": 0.2}}])
    >>> with store.reading() as tx:
    ...     tx.tasks.counts_by_state(), [row["task_id"] for row in tx.tasks.unfinished()]
    ({'completed': 1, 'queued': 1}, ['b'])
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def insert(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add tasks; all or none.

        Raises
        ------
        Conflict
            An id is there already, or twice among `rows`.
        InvalidValue
            An empty id, a priority that is none, a value that is not JSON, an unknown column.
        """
        now = self._sql.clock.wall()
        whole = [self._whole(row, now) for row in rows]
        if not whole:
            return
        with self._sql.savepoint() as undo:
            statement = self._sql.insert(tasks).on_conflict_do_nothing(index_elements=["task_id"])
            complete = self._sql.write(statement, whole).rowcount == len(whole)
            if not complete:
                undo.rollback()
        if not complete:  # which one it was is asked only now: a submission that succeeds pays nothing for it
            raise self._conflict([row["task_id"] for row in whole])

    def _whole(self, row: Mapping[str, Any], now: float) -> dict[str, Any]:
        whole = completed_row(row, _DEFAULTS)
        check_id("task_id", whole["task_id"])
        check_priority(whole["priority"])
        if whole["submitted_at"] is None:
            whole["submitted_at"] = now
        _stamp_finish(whole, now)
        return whole

    def _conflict(self, ids: list[str]) -> Conflict:
        known = self._existing(ids)
        for task_id in ids:
            if task_id in known:
                return Conflict(f"there is a task {task_id!r} already; use an id once", task_id=task_id)
            known.add(task_id)
        raise AssertionError("rows were refused although no id is there twice")

    def update(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Change the columns that each row names; several rows of one task are applied in their order.

        A terminal ``state`` dates ``finished_at`` where the row does not; any other state clears it.

        Raises
        ------
        UnknownId
            No such task.
        """
        now = self._sql.clock.wall()
        merged: dict[str, dict[str, Any]] = {}
        for row in rows:
            change = dict(row)
            _stamp_finish(change, now)
            merged.setdefault(check_id("task_id", change.pop("task_id", None)), {}).update(change)
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for task_id, change in merged.items():
            if change:
                completed_row({"task_id": task_id, **change}, _DEFAULTS)
                by_columns.setdefault(tuple(sorted(change)), []).append({**change, "the_task": task_id})
        with self._sql.savepoint():
            for columns, changes in by_columns.items():
                statement = (
                    update(tasks)
                    .where(tasks.c.task_id == bindparam("the_task"))
                    .values({column: bindparam(column) for column in columns})
                )
                if self._sql.write(statement, changes).rowcount != len(changes):
                    raise self._unknown([change["the_task"] for change in changes])

    def _unknown(self, ids: list[str]) -> UnknownId:
        there = self._existing(ids)
        missing = next(task_id for task_id in ids if task_id not in there)
        return UnknownId("task", missing, self._sql.read(select(tasks.c.task_id).limit(1000)).scalars())

    def _existing(self, ids: list[str]) -> set[str]:
        found: set[str] = set()
        for some in chunked(ids):
            found.update(self._sql.read(select(tasks.c.task_id).where(tasks.c.task_id.in_(some))).scalars())
        return found

    def get(self, task_id: str) -> dict[str, Any] | None:
        """Return the row with all its columns, or None."""
        found = self._sql.rows(select(tasks).where(tasks.c.task_id == task_id))
        return found[0] if found else None

    def unfinished(self) -> list[dict[str, Any]]:
        """Return every row that is not in a terminal state, in the order of submission."""
        return self._sql.rows(select(tasks).where(tasks.c.finished_at.is_(None)).order_by(tasks.c.seq))

    def finished(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the rows that finished last, newest first, without their blobs."""
        light = [column for column in tasks.c if column.name not in ("call", "result")]
        return self._sql.rows(
            select(*light)
            .where(tasks.c.finished_at.is_not(None))
            .order_by(tasks.c.finished_at.desc(), tasks.c.seq.desc())
            .limit(limit)
        )

    def counts_by_state(self) -> dict[str, int]:
        """Return how many tasks are in each state, sorted by state."""
        found = self._sql.read(select(tasks.c.state, func.count()).group_by(tasks.c.state).order_by(tasks.c.state))
        return {state: int(count) for state, count in found}

    def prune(self, before: float) -> int:
        """Forget tasks that finished before `before` (POSIX seconds), and functions that no task calls any more.

        Returns
        -------
        int
            How many tasks were forgotten.
        """
        gone = self._sql.write(delete(tasks).where(tasks.c.finished_at < before)).rowcount
        self._sql.write(delete(functions).where(~exists().where(tasks.c.function_hash == functions.c.hash)))
        return int(gone)

    def put_functions(self, blobs: Mapping[str, bytes]) -> None:
        """Keep pickled functions by their hash; one that is there already is left alone."""
        rows = [{"hash": check_id("hash", key), "blob": blob} for key, blob in blobs.items()]
        if rows:
            self._sql.write(self._sql.insert(functions).on_conflict_do_nothing(index_elements=["hash"]), rows)

    def functions(self, hashes: Iterable[str] | None = None) -> dict[str, bytes]:
        """Return the pickled functions by hash: all of them, or those asked for that exist."""
        query = select(functions.c.hash, functions.c.blob)
        parts = [query] if hashes is None else [query.where(functions.c.hash.in_(some)) for some in chunked(hashes)]
        return {row.hash: bytes(row.blob) for part in parts for row in self._sql.read(part)}


def _stamp_finish(row: dict[str, Any], now: float) -> None:
    if "state" in row:
        row["finished_at"] = (row.get("finished_at") or now) if row["state"] in TERMINAL else None
