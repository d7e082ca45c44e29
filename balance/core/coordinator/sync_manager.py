"""Copies between places: what is to be copied, how far it is, and how it ended.

The manager decides and remembers; a `Copier` moves the bytes.  An actor that must not block runs the
three steps itself: `begin`, the copy in a thread (its progress comes back through `progressed`), and
`finished` or `failed`.  `execute_sync` is these steps in a row.

Invariants: one run of a task at a time; the destination is either what it was or a verified copy (the
copier's promise); what `get_sync_status` says survives a restart, and a run that a restart cut off is
``interrupted`` and resumes where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Dict

from balance.core.coordinator.ports import Copier, CopyReport, Journal, Progress
from balance.defaults import default
from balance.errors import AccessRefused, BalanceError, Conflict, InvalidValue, UnknownId
from balance.types import check_id, check_int

if TYPE_CHECKING:
    from balance.clock import Clock

_COLLECTION = "sync_tasks"


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """A task and where it is.

    Attributes
    ----------
    sync_id, source, destination : str
    size_bytes : int
        As registered, then as the source turned out to be.
    state : str
        ``registered``, ``running``, ``completed``, ``unchanged``, ``conflict``, ``failed``, ``interrupted``.
    bytes_done, bytes_total : int
        Of the run under way, or the last one.
    copied_bytes, changed_bytes, files, changed_files : int
        See `CopyReport`.
    attempts : int
        Runs begun.
    started_at, finished_at : float or None
        POSIX seconds, of the last run.
    digest, error : str or None
        What was copied, or why it was not.
    """

    sync_id: str
    source: str
    destination: str
    size_bytes: int
    state: str = "registered"
    bytes_done: int = 0
    bytes_total: int = 0
    copied_bytes: int = 0
    changed_bytes: int = 0
    files: int = 0
    changed_files: int = 0
    attempts: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    digest: str | None = None
    error: str | None = None

    def to_dict(self, now: float) -> dict[str, Any]:
        """Return the attributes as JSON values, and ``rate_bytes_s``, ``elapsed_s`` at `now` (POSIX seconds)."""
        until = now if self.state == "running" else self.finished_at
        elapsed_s = max(0.0, until - self.started_at) if until is not None and self.started_at is not None else 0.0
        rate = self.bytes_done / elapsed_s if elapsed_s else 0.0
        return {**asdict(self), "elapsed_s": elapsed_s, "rate_bytes_s": rate}


class SyncManager:
    """Registers copies, runs them, and says how they are.

    Parameters
    ----------
    copier : Copier, optional
        Moves the bytes; any fsspec place to any other where left out.
    clock : Clock, optional
    journal : Journal, optional
        Where tasks are remembered; nowhere where left out.

    Notes
    -----
    For one thread at a time, as an actor gives it.

    Examples
    --------
    >>> import fsspec
    >>> with fsspec.open("memory://sync-doc/a.txt", "wb") as file:
    ...     _ = file.write(b"hello")
    >>> sync = SyncManager()
    >>> sync.register_sync_task("greeting", "memory://sync-doc/a.txt", "memory://sync-doc/b.txt", 5)
    >>> sync.execute_sync("greeting")["state"], sync.execute_sync("greeting")["state"]
    ('completed', 'unchanged')
    """

    def __init__(
        self, *, copier: Copier | None = None, clock: Clock | None = None, journal: Journal | None = None
    ) -> None:
        self._copier: Copier = copier or default("copier")
        self._clock: Clock = clock or default("clock")
        self._journal = journal
        self._counts: Counter[str] = Counter()
        self._tasks: dict[str, SyncStatus] = {}
        for key, body in journal.scan(_COLLECTION) if journal else ():
            task = SyncStatus(**body)
            self._tasks[key] = replace(task, state="interrupted") if task.state == "running" else task

    def register_sync_task(self, sync_id: str, source: str, destination: str, size: int) -> None:
        """Name a copy; the same again changes nothing.

        Parameters
        ----------
        sync_id : str
        source, destination : str
            URLs, as fsspec knows them: of one file each, or of one folder each.
        size : int
            How many bytes to expect.

        Raises
        ------
        Conflict
            The id stands for another copy already.
        InvalidValue, AccessRefused
            This could never be copied.
        """
        self._register(sync_id, source, destination, size, in_memory=False)

    def register_content(self, sync_id: str, source: str, size: int, destination: str) -> None:
        """Name a copy of bytes that lie in memory (`source` says where they came from)."""
        self._register(sync_id, source, destination, size, in_memory=True)

    def _register(self, sync_id: str, source: str, destination: str, size: int, *, in_memory: bool) -> None:
        task = SyncStatus(
            check_id("sync_id", sync_id),
            check_id("source", source),
            check_id("destination", destination),
            check_int("size", size, minimum=0),
        )
        known = self._tasks.get(sync_id)
        if known is None:
            try:
                self._copier.check(None if in_memory else source, destination)
            except BalanceError as error:
                self._count("refused", f"refused_{error.code}")
                raise
            self._store(replace(task, bytes_total=task.size_bytes))
        elif (known.source, known.destination) != (task.source, task.destination):
            raise Conflict(
                f"sync task {sync_id!r} copies {known.source!r} to {known.destination!r} already; "
                "use another id for another copy",
                sync_id=sync_id,
            )

    def execute_sync(self, sync_id: str) -> Dict[str, Any]:
        """Copy, now; what an earlier run copied already is not copied again.

        Returns
        -------
        dict
            As `get_sync_status`; ``state`` is ``completed``, ``unchanged`` (the destination was right
            already), ``conflict`` (the source changed meanwhile; run it again) or ``failed`` (see ``error``).
        """
        task = self.begin(sync_id)
        return self._run(sync_id, lambda report: self._copier.copy(task.source, task.destination, report))

    def write_content(self, sync_id: str, source: str, content: bytes, destination: str) -> Dict[str, Any]:
        """Copy bytes that lie in memory (`source` says where they came from); returns as `execute_sync`."""
        self.register_content(sync_id, source, len(content), destination)
        self.begin(sync_id)
        return self._run(sync_id, lambda report: self._copier.write(content, destination, report))

    def _run(self, sync_id: str, copy: Callable[[Progress], CopyReport]) -> dict[str, Any]:
        try:
            report = copy(lambda done, total: self.progressed(sync_id, done, total))
        except BalanceError as error:
            return self.failed(sync_id, error)
        except BaseException as error:  # a bug or an interrupt: the task is not left "running"
            self.failed(sync_id, error)
            raise
        return self.finished(sync_id, report)

    def begin(self, sync_id: str) -> SyncStatus:
        """Note that a run starts; `Conflict` if one is under way, of this task or to the same place."""
        task = self._task(sync_id)
        if task.state == "running":
            raise Conflict(f"sync task {sync_id!r} is running already; its status says how far it is", sync_id=sync_id)
        for other in self._tasks.values():
            if other.state == "running" and _overlap(other.destination, task.destination):
                raise Conflict(
                    f"sync task {other.sync_id!r} writes to {other.destination!r} now; let it end first",
                    sync_id=sync_id,
                )
        started = replace(
            task,
            state="running",
            attempts=task.attempts + 1,
            started_at=self._clock.wall(),
            finished_at=None,
            bytes_done=0,
            error=None,
        )
        self._store(started)
        return started

    def progressed(self, sync_id: str, done_bytes: int, total_bytes: int) -> None:
        """Note how far a run is; not journalled, for the copier keeps what a resumption needs."""
        self._tasks[sync_id] = replace(self._task(sync_id), bytes_done=done_bytes, bytes_total=total_bytes)

    def finished(self, sync_id: str, report: CopyReport) -> Dict[str, Any]:
        """Note how a run ended and return the status."""
        ended = replace(
            self._task(sync_id),
            state="completed" if report.status == "copied" else report.status,
            size_bytes=report.size_bytes,
            bytes_done=0 if report.status == "conflict" else report.size_bytes,
            bytes_total=report.size_bytes,
            copied_bytes=report.copied_bytes,
            changed_bytes=report.changed_bytes,
            files=report.files,
            changed_files=report.changed_files,
            finished_at=self._clock.wall(),
            digest=report.digest,
            error="the source changed while it was read" if report.status == "conflict" else None,
        )
        self._store(ended)
        self._count(ended.state)
        self._counts["copied_bytes"] += report.copied_bytes
        return self.get_sync_status(sync_id)

    def failed(self, sync_id: str, error: BaseException) -> Dict[str, Any]:
        """Note that a run failed and return the status."""
        refused = isinstance(error, AccessRefused | InvalidValue)  # seen only when the source was opened
        self._count(*(("refused", f"refused_{type(error).__name__}") if refused else ("failed",)))
        said = f"{type(error).__name__}: {error}"
        self._store(replace(self._task(sync_id), state="failed", finished_at=self._clock.wall(), error=said))
        return self.get_sync_status(sync_id)

    def get_sync_status(self, sync_id: str) -> Dict[str, Any]:
        """Say where a task is.

        Returns
        -------
        dict
            ``sync_id``, ``source``, ``destination``, ``state`` (see `SyncStatus`), ``bytes_done``,
            ``bytes_total``, ``size_bytes``, ``copied_bytes``, ``changed_bytes`` (bytes), ``files``,
            ``changed_files``, ``rate_bytes_s``,
            ``elapsed_s``, ``attempts``, ``started_at``, ``finished_at`` (POSIX seconds or None),
            ``digest``, ``error`` (or None).

        Raises
        ------
        UnknownId
            No such task.
        """
        return self._task(sync_id).to_dict(self._clock.wall())

    def list_sync_tasks(self) -> list[dict[str, Any]]:
        """Return the status of every task, sorted by id."""
        return [self.get_sync_status(sync_id) for sync_id in sorted(self._tasks)]

    def counts(self) -> dict[str, int]:
        """Return what came of the runs since the start.

        Returns
        -------
        dict
            ``completed``, ``unchanged``, ``conflict``, ``failed``, ``refused`` and ``refused_<error>`` (runs, and
            registrations of what could never be copied), ``copied_bytes``; what never happened is left out.
        """
        return dict(sorted(self._counts.items()))

    def _count(self, *names: str) -> None:
        self._counts.update(names)

    def forget(self, sync_id: str) -> None:
        """Remove a task that is not running; `Conflict` if it is."""
        if self._task(sync_id).state == "running":
            raise Conflict(f"sync task {sync_id!r} is running; let it end first", sync_id=sync_id)
        if self._journal:
            self._journal.delete(_COLLECTION, sync_id)
        del self._tasks[sync_id]

    def _task(self, sync_id: str) -> SyncStatus:
        check_id("sync_id", sync_id)
        if sync_id not in self._tasks:
            raise UnknownId("sync task", sync_id, self._tasks)
        return self._tasks[sync_id]

    def _store(self, task: SyncStatus) -> None:
        if self._journal:  # first the journal: if it fails, nothing has changed
            self._journal.put(_COLLECTION, task.sync_id, asdict(task))
        self._tasks[task.sync_id] = task


def _overlap(one: str, other: str) -> bool:
    one, other = one.rstrip("/"), other.rstrip("/")
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
