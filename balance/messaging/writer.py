"""The one thread that changes the log.

Callers hand in jobs and get a future; the thread takes whatever has gathered, does it in one go (one sync for many
appends: group commit, as in databases since DeWitt et al. 1984) and then resolves the futures.  Since nobody else
writes, the log needs no locks; since nobody waits in the caller's thread, an event loop is never blocked by a disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from balance.errors import NotReady, StorageError
from balance.messaging.partition import Body, PartitionLog

#: Above this much waiting, `LogWriter.full_until` asks callers to hold back.
MAX_WAITING_BYTES = 32 * 2**20


class Append:
    """A job: batches for some partitions; its future gives, for each of those, the offset of the first record.

    Parameters
    ----------
    parts : list of (PartitionLog, list of Body)
        What goes where.
    on_durable : callable
        Called in the writer's thread once all of it is on disk, before the future is resolved.
    """

    __slots__ = ("future", "on_durable", "parts", "size_bytes")

    def __init__(self, parts: list[tuple[PartitionLog, list[Body]]], on_durable: Callable[[], None]) -> None:
        self.parts = parts
        self.on_durable = on_durable
        self.size_bytes = sum(len(body.data) for _, bodies in parts for body in bodies)
        self.future: Future[list[int]] = Future()


class Together:
    """A job: batches for some partitions, and the batch of the book that says so; all of it or nothing.

    Parameters
    ----------
    book : PartitionLog
        Where the batch goes that makes it happen: once that is on disk, the rest is.
    entry : callable
        Returns that batch; gets, for each of `parts`, the offset that its first record will have.
    parts : list of (PartitionLog, list of Body)
        What goes where, each partition once.
    on_durable : callable
        As of `Append`.
    """

    __slots__ = ("book", "entry", "future", "on_durable", "parts", "size_bytes")

    def __init__(
        self,
        book: PartitionLog,
        entry: Callable[[list[int]], Body],
        parts: list[tuple[PartitionLog, list[Body]]],
        on_durable: Callable[[], None],
    ) -> None:
        self.book = book
        self.entry = entry
        self.parts = parts
        self.on_durable = on_durable
        self.size_bytes = 2 * sum(len(body.data) for _, bodies in parts for body in bodies)
        self.future: Future[None] = Future()


class Call:
    """A job: a function to run in the writer's thread; its future gives what it returns."""

    __slots__ = ("function", "future", "size_bytes")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self.size_bytes = 0


Job = Append | Together | Call


class LogWriter:
    """Runs jobs in one thread, many at a time.

    Parameters
    ----------
    wall : callable
        Gives the POSIX time in seconds that dates a batch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._wake = threading.Condition()
        self._waiting: list[Job] = []
        self._waiting_bytes = 0
        self._closed = False
        self._round_done: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="balance-log-writer", daemon=True)
        self._thread.start()

    def full_until(self) -> Future[None] | None:
        """Return None if there is room, else a future that is resolved when what waits now is done."""
        with self._wake:
            return self._round_done if self._waiting_bytes >= MAX_WAITING_BYTES else None

    def submit(self, *jobs: Job) -> None:
        """Queue `jobs`; they are done in the same round, calls first and appends last.

        Raises
        ------
        NotReady
            The log is closed.
        """
        with self._wake:
            if self._closed:
                raise NotReady("the embedded log is closed")
            self._waiting += jobs
            self._waiting_bytes += sum(job.size_bytes for job in jobs)
            self._wake.notify()

    def close(self) -> None:
        """Finish what is queued and end the thread; safe to call twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                jobs, self._waiting, self._waiting_bytes = self._waiting, [], 0
                done, self._round_done = self._round_done, Future()
            if not jobs:
                return
            # Of a caller that was cancelled before we took its job, nothing is written.
            taken = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            for job in taken:
                if isinstance(job, Call):
                    _resolve(job.future, job.function)
            self._do_together([job for job in taken if isinstance(job, Together)])
            self._append([job for job in taken if isinstance(job, Append)])
            done.set_result(None)

    def _do_together(self, jobs: list[Together]) -> None:
        """Write what belongs together, all jobs of the round at once: first the book, then the rest."""
        if not jobs:
            return
        wall = self._wall()
        ends: dict[PartitionLog, int] = {}
        written: dict[PartitionLog, list[Body]] = {job.book: [] for job in jobs}
        for job in jobs:
            bases = []
            for partition, bodies in job.parts:
                bases.append(ends.get(partition, partition.end_offset))
                ends[partition] = bases[-1] + sum(body.records for body in bodies)
                written.setdefault(partition, []).extend(bodies)
            written[job.book].append(job.entry(bases))
        staged: list[PartitionLog] = []
        try:
            for partition, bodies in written.items():
                partition.stage(bodies, timestamp_s=wall)
                staged.append(partition)
        except Exception as error:  # noqa: BLE001 (every caller must hear of it, whatever it was)
            for partition in staged:  # the book first: without its batch nothing of the rest counts
                partition.unstage()
            for job in jobs:
                job.future.set_exception(error if isinstance(error, StorageError) else StorageError(str(error)))
            return
        for partition in staged:
            partition.show()
        for job in jobs:
            job.on_durable()
            job.future.set_result(None)

    def _append(self, jobs: list[Append]) -> None:
        """Write each partition once for all jobs, then tell every job how it went."""
        by_partition: dict[PartitionLog, list[tuple[Append, list[Body]]]] = {}
        for job in jobs:
            for partition, bodies in job.parts:
                by_partition.setdefault(partition, []).append((job, bodies))
        first: dict[tuple[Append, PartitionLog], int] = {}
        failures: dict[Append, Exception] = {}
        for partition, parts in by_partition.items():
            try:
                offsets = partition.write([b for _, bodies in parts for b in bodies], timestamp_s=self._wall())
            except Exception as error:  # noqa: BLE001 (every caller must hear of it, whatever it was)
                failures.update(dict.fromkeys((job for job, _ in parts), error))
                continue
            at = 0
            for job, bodies in parts:
                first[job, partition] = offsets[at]
                at += len(bodies)
        for job in jobs:
            if (failure := failures.get(job)) is None:
                job.on_durable()
                job.future.set_result([first[job, partition] for partition, _ in job.parts])
            else:
                job.future.set_exception(failure if isinstance(failure, StorageError) else StorageError(str(failure)))


def _resolve(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:  # noqa: BLE001 (it belongs to the caller, not to this thread)
        future.set_exception(error)
