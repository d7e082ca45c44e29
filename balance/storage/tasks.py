"""What the scheduler has to remember: every task, and the functions that they call.

A task is one row of ``tasks`` from its submission on, one of ``open_tasks`` until it is over, and one of
``task_ends`` from then on.  None of them is looked up to be written: rows come with their number (`seq`),
and thousands of them go in one statement.  Functions are kept once, by the hash of their pickle, however
many tasks call them.

Invariant: a task that was added has a row in ``open_tasks`` or one in ``task_ends``, not in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from balance.errors import Conflict
from balance.storage.schema import functions, open_tasks, task_ends, tasks
from balance.storage.sql import Bulk, chunked
from balance.types import check_id

if TYPE_CHECKING:
    from balance.storage.sql import Sql

#: ``(seq, task_id, spec, submitted_at, function_hash, call)``: a number that no other task has, the id, JSON
#: text, POSIX seconds, the function's hash and the pickled arguments (or None, both).
New = tuple[int, str, str, float, str | None, bytes | None]
#: ``(seq, state, eligible_at, progress)``: the task's number, where it stands, since when it could run (POSIX
#: seconds or None), and JSON text with whatever else has happened to it, or None.
Open = tuple[int, str, float | None, str | None]
#: ``(seq, state, attempt, eligible_at, started_at, finished_at, node, run_s, progress, output, value)``: how it
#: ended, what it printed (text or None), and what it returned (bytes or None); times as above, `run_s` in seconds.
End = tuple[
    int,
    str,
    int,
    float | None,
    float | None,
    float,
    str | None,
    float | None,
    str | None,
    str | None,
    bytes | None,
]


class Unfinished(NamedTuple):
    """A task that is not over, as it was written."""

    seq: int
    task_id: str
    spec: str
    submitted_at: float
    function_hash: str | None
    call: bytes | None
    state: str
    eligible_at: float | None
    progress: str | None


class Finished(NamedTuple):
    """A task that is over, without its call and its result."""

    seq: int
    task_id: str
    spec: str
    submitted_at: float
    function_hash: str | None
    state: str
    attempt: int
    eligible_at: float | None
    started_at: float | None
    finished_at: float
    node: str | None
    run_s: float | None
    progress: str | None


_SUBMITTED = tasks.c["seq", "task_id", "spec", "submitted_at", "function_hash"]
_ENDED = task_ends.c["state", "attempt", "eligible_at", "started_at", "finished_at", "node", "run_s", "progress"]
_UNFINISHED = select(*_SUBMITTED, tasks.c.call, *open_tasks.c["state", "eligible_at", "progress"]).join(
    open_tasks, open_tasks.c.seq == tasks.c.seq
)
_FINISHED = select(*_SUBMITTED, *_ENDED).join(task_ends, task_ends.c.seq == tasks.c.seq)

_ADD = Bulk(
    "INSERT INTO tasks (seq, task_id, spec, submitted_at, function_hash, call)",
    ("bigint", "text", "text", "float8", "text", "bytea"),
    # The same task again is no conflict: a write that is made up for may have been there in part.
    "ON CONFLICT (seq) DO UPDATE SET spec = excluded.spec WHERE tasks.task_id = excluded.task_id",
)
_OPEN = Bulk(
    "INSERT INTO open_tasks (seq, state, eligible_at, progress)",
    ("bigint", "text", "float8", "text"),
    "ON CONFLICT (seq) DO UPDATE SET "
    "state = excluded.state, eligible_at = excluded.eligible_at, progress = excluded.progress",
)
_END = Bulk(
    "INSERT INTO task_ends "
    "(seq, state, attempt, eligible_at, started_at, finished_at, node, run_s, progress, output, value)",
    ("bigint", "text", "int", "float8", "float8", "float8", "text", "float8", "text", "text", "bytea"),
    "ON CONFLICT (seq) DO NOTHING",
)
_CLOSE, _FORGET_TASK, _FORGET_END = (
    Bulk(f"DELETE FROM {table} WHERE seq IN (", ("bigint",), ")")  # noqa: S608 (of constants alone)
    for table in ("open_tasks", "tasks", "task_ends")
)


class _Taken(Exception):
    """A number stands for another id."""


class TaskRecords:
    """The tasks, inside one transaction.

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("scheduler")) as tx:
    ...     tx.tasks.add([(1, "a", "{}", 10.0, None, None), (2, "b", "{}", 10.0, None, None)])
    ...     tx.tasks.set_open([(1, "queued", 10.0, None), (2, "queued", 10.0, None)])
    ...     tx.tasks.end([(1, "completed", 1, 10.0, 11.0, 11.2, "n1", 0.2, None, None, b"42")])
    >>> with store.reading() as tx:
    ...     tx.tasks.counts_by_state(), [row.task_id for row in tx.tasks.unfinished()], tx.tasks.result("a")
    ({'completed': 1, 'queued': 1}, ['b'], b'42')
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def add(self, rows: Sequence[New]) -> None:
        """Add tasks; all or none.  One that was added before, with the same number and id, stays as it is.

        Raises
        ------
        Conflict
            A number stands for another id, an id is there under another number, or one comes twice.
        """
        try:
            with self._sql.savepoint():
                if self._sql.bulk(_ADD, rows) != len(rows):
                    raise _Taken
        except (IntegrityError, _Taken):
            # Which one it was is asked only now: a submission that succeeds pays nothing for it.
            raise self._conflict(rows) from None

    def _conflict(self, rows: Sequence[New]) -> Conflict:
        known: dict[str, int] = {}
        for some in chunked(row[1] for row in rows):
            there = select(tasks.c.task_id, tasks.c.seq).where(tasks.c.task_id.in_(some))
            known.update((row[0], row[1]) for row in self._sql.read(there))
        for seq, task_id, *_ in rows:
            if known.setdefault(task_id, seq) != seq:
                return Conflict(f"there is a task {task_id!r} already; use an id once", task_id=task_id)
        return Conflict("there are tasks with these numbers already; read what is there before you add some")

    def set_open(self, rows: Sequence[Open]) -> None:
        """Note where tasks stand that are not over; each number at most once."""
        self._sql.bulk(_OPEN, rows)

    def end(self, rows: Sequence[End]) -> None:
        """Note that tasks are over; each number at most once.  The first end of a task stays."""
        self._sql.bulk(_END, rows)
        self._sql.bulk(_CLOSE, [(row[0],) for row in rows])

    def unfinished(self) -> list[Unfinished]:
        """Return every task that is not over, in the order of submission."""
        return [Unfinished(*row) for row in self._sql.read(_UNFINISHED.order_by(tasks.c.seq))]

    def finished(self, limit: int = 1000) -> list[Finished]:
        """Return the tasks that finished last, newest first."""
        newest = (task_ends.c.finished_at.desc(), task_ends.c.seq.desc())
        return [Finished(*row) for row in self._sql.read(_FINISHED.order_by(*newest).limit(limit))]

    def find(self, task_ids: Iterable[str]) -> list[Unfinished | Finished]:
        """Return those of these tasks that there are, the finished ones first."""
        found: list[Unfinished | Finished] = []
        for some in chunked(task_ids):
            these = tasks.c.task_id.in_(some)
            found += [Finished(*row) for row in self._sql.read(_FINISHED.where(these).order_by(tasks.c.seq))]
            found += [Unfinished(*row) for row in self._sql.read(_UNFINISHED.where(these).order_by(tasks.c.seq))]
        return found

    def get(self, task_id: str) -> Unfinished | Finished | None:
        """Return a task, or None; what it returned is to be had from `result`."""
        return next(iter(self.find([task_id])), None)

    def results(self, task_ids: Iterable[str]) -> dict[str, tuple[bytes | None, str | None]]:
        """Return, for those of these tasks that are over, what each returned (as handed in) and what it printed."""
        query = select(tasks.c.task_id, task_ends.c.value, task_ends.c.output).join(
            task_ends, task_ends.c.seq == tasks.c.seq
        )
        return {
            row[0]: (row[1], row[2])
            for some in chunked(task_ids)
            for row in self._sql.read(query.where(tasks.c.task_id.in_(some)))
        }

    def result(self, task_id: str) -> bytes | None:
        """Return what a task that is over returned, as it was handed in; None if it is not over or returned nothing."""
        return self.results([task_id]).get(task_id, (None, None))[0]

    def calls(self, task_ids: Iterable[str]) -> dict[str, tuple[str | None, bytes | None]]:
        """Return, for those of these tasks that there are, the function's hash and the pickled arguments."""
        query = select(tasks.c.task_id, tasks.c.function_hash, tasks.c.call)
        return {
            row[0]: (row[1], row[2])
            for some in chunked(task_ids)
            for row in self._sql.read(query.where(tasks.c.task_id.in_(some)))
        }

    def latest(self) -> Unfinished | Finished | None:
        """Return the task that was submitted last, or None."""
        found = self._sql.read(select(tasks.c.task_id).order_by(tasks.c.seq.desc()).limit(1)).scalar()
        return None if found is None else self.get(found)

    def counts_by_state(self) -> dict[str, int]:
        """Return how many tasks are in each state, sorted by state; reads them all."""
        found: dict[str, int] = {}
        for table in (open_tasks, task_ends):
            found.update(
                (row[0], int(row[1]))
                for row in self._sql.read(select(table.c.state, func.count()).group_by(table.c.state))
            )
        return dict(sorted(found.items()))

    def prune(self, before: float, limit: int = 10_000) -> int:
        """Forget tasks that finished before `before` (POSIX seconds), with their results, the oldest first.

        Parameters
        ----------
        limit : int
            How many at most: others wait for the disk meanwhile.

        Returns
        -------
        int
            How many tasks were forgotten; as many as `limit` where there may be more.
        """
        old = select(task_ends.c.seq).where(task_ends.c.finished_at < before).order_by(task_ends.c.finished_at)
        seqs = list(self._sql.read(old.limit(limit)).scalars())
        for statement in (_FORGET_TASK, _FORGET_END):
            self._sql.bulk(statement, [(seq,) for seq in seqs])
        return len(seqs)

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
