"""Many small writes, one fsync: a thread that commits together what callers hand in meanwhile.

An fsync costs milliseconds, a row microseconds.  While one commit is on its way to the disk the next
writes queue up, and then go in one transaction (group commit, as in DeWitt et al., "Implementation
techniques for main memory database systems", 1984).  A caller's future resolves after that commit, so
what it acknowledges is durable.

Invariants: writes are applied in the order in which they were handed in; one that raises is undone
alone (a savepoint); a future gets its result only after the commit; the queue is bounded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from balance.errors import NotReady, StorageError
from balance.storage.failures import breaks_transaction
from balance.types import check_int, check_number

if TYPE_CHECKING:
    from balance.storage.fence import Fence
    from balance.storage.store import Store
    from balance.storage.transaction import Transaction

T = TypeVar("T")
_Entry = tuple[Callable[["Transaction"], Any], "Future[Any]"]


class GroupCommit:
    """The one way in which a busy actor writes.

    Parameters
    ----------
    store : Store
        Where to.
    fence : Fence
        The right to do so; when it is stale every write fails with `StaleEpoch`.
    max_batch : int, default 1000
        How many writes one commit may carry.
    max_queue : int, default 100_000
        How many writes may wait; then `submit` waits too.

    Notes
    -----
    From asyncio: ``await asyncio.wrap_future(commit.submit(fn))``.

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> commit = GroupCommit(store, store.acquire("batches"))
    >>> done = commit.submit(lambda tx: tx.requests.accept([{"request_id": "r", "model_id": "m"}]))
    >>> done.result(timeout=5)
    ['r']
    >>> commit.close()
    """

    def __init__(self, store: Store, fence: Fence, *, max_batch: int = 1000, max_queue: int = 100_000) -> None:
        self._store = store
        self._fence = fence
        self._max_batch = check_int("max_batch", max_batch, minimum=1)
        self._max_queue = check_int("max_queue", max_queue, minimum=1)
        self._waiting: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.commits = 0
        self.writes = 0
        self._thread = threading.Thread(target=self._run, name=f"commit-{fence.owner}", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[[Transaction], T], *, wait_s: float = 30.0) -> Future[T]:
        """Hand in a write.

        Parameters
        ----------
        fn : callable
            Takes the `Transaction`, writes, and returns the future's result.  It runs in the writer's thread,
            so it must not block.
        wait_s : float, default 30
            How long to wait for room in the queue; 0 to not wait (then from asyncio, too).

        Returns
        -------
        concurrent.futures.Future
            Resolves after the commit, with what `fn` returned or raised, or with the `StorageError` of the commit.

        Raises
        ------
        StorageError
            The queue stayed full: the disk does not keep up.
        NotReady
            After `close`.
        """
        future: Future[T] = Future()
        wait_s = check_number("wait_s", wait_s, minimum=0)
        with self._changed:
            room = self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._max_queue, wait_s)
            if self._closed:
                raise NotReady("the writer is closed; nothing can be written through it any more")
            if not room:
                raise StorageError(
                    f"{self._max_queue} writes are waiting for the disk already; send less, or use a faster disk",
                    waiting=self._max_queue,
                )
            self._waiting.append((fn, future))
            self._changed.notify_all()
        return future

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything handed in before is durable (or failed)."""
        self.submit(lambda _tx: None).result(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Commit what was handed in, then stop the thread; closing twice is fine."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
                self._changed.notify_all()
            if not taken:
                return
            batch = [entry for entry in taken if entry[1].set_running_or_notify_cancel()]
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Entry]) -> None:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._store.transaction(self._fence) as tx:
                for fn, future in batch:
                    try:
                        with tx.savepoint():
                            results.append((future, fn(tx), None))
                    except BaseException as error:
                        if breaks_transaction(error):
                            raise
                        results.append((future, None, error))  # whatever else a caller's write raises is that caller's
        except BaseException as error:  # noqa: BLE001 (a commit that fails fails everyone in it, and the thread goes on)
            for _fn, future in batch:
                future.set_exception(error)
            return
        self.commits += 1
        self.writes += len(batch)
        for future, result, failure in results:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
