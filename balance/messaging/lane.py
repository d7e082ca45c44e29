"""One partition of a subscription: a bounded buffer, its workers, and how far it is handled.

A lane commits the offset before which everything is handled, so with several workers a slow message holds the commit
back while later ones go on.  Commits run one at a time; what is handled meanwhile goes with the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from balance.messaging.broker import Record
from balance.messaging.delivery import DeliveryPolicy

#: Above this many buffered bytes a lane is not read, however few messages they are.
BUFFER_BYTES = 4 * 2**20


class Lane:
    """The messages of one partition between poll and commit.

    Parameters
    ----------
    number, start : int
        The partition, and the offset to read from.
    policy : DeliveryPolicy
        Buffer, concurrency, commit interval, grace.
    deliver : async callable
        Handles one record for good (delivers or dead-letters it).
    commit : async callable
        Takes partition and offset; says whether the broker took the commit.
    on_room : callable
        Called when a lane that was full has room again.
    """

    def __init__(
        self,
        number: int,
        start: int,
        *,
        policy: DeliveryPolicy,
        deliver: Callable[[Record], Awaitable[None]],
        commit: Callable[[int, int], Awaitable[bool]],
        on_room: Callable[[], None],
    ) -> None:
        self.position = start
        self._number = number
        self._committed = start
        self._policy = policy
        self._deliver = deliver
        self._send_commit = commit
        self._on_room = on_room
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._open: dict[int, None] = {}  # taken and not handled yet, in order of offset
        self._wake = asyncio.Event()
        self._ending = False
        self._commit_task: asyncio.Task[None] | None = None
        self._workers = [asyncio.create_task(self._work()) for _ in range(policy.concurrency)]

    @property
    def buffered(self) -> int:
        """How many messages wait."""
        return len(self._queue)

    @property
    def room(self) -> int:
        """How many more messages to read; 0 until half of the buffer is free again."""
        is_free = len(self._queue) <= self._policy.buffer // 2 and self._queued_bytes <= BUFFER_BYTES // 2
        return self._policy.buffer - len(self._queue) if is_free else 0

    @property
    def committable(self) -> int:
        """The offset before which everything is handled."""
        return next(iter(self._open), self.position)

    def take(self, record: Record) -> None:
        """Buffer one record; one that was taken before is left out."""
        if record.offset >= self.position:
            self.position = record.offset + 1
            self._queue.append(record)
            self._queued_bytes += len(record.value)
            self._open[record.offset] = None
            self._wake.set()

    async def finish(self) -> None:
        """Let the workers finish what they handle now (up to the grace) and commit it; what waits stays for later."""
        self._ending = True
        self._queue.clear()
        self._wake.set()
        _, slow = await asyncio.wait(self._workers, timeout=self._policy.grace_s)
        for task in slow:
            task.cancel()
        if self._commit_task is not None:
            self._commit_task.cancel()
            slow.add(self._commit_task)
        await asyncio.gather(*slow, return_exceptions=True)
        await self._commit_once()

    def abandon(self) -> None:
        """Stop at once and commit nothing: the partition belongs to another member."""
        for task in [*self._workers, *([self._commit_task] if self._commit_task else [])]:
            task.cancel()

    async def _work(self) -> None:
        while not self._ending:
            while self._queue:
                was_full = not self.room
                record = self._queue.popleft()
                self._queued_bytes -= len(record.value)
                if was_full and self.room:
                    self._on_room()
                await self._deliver(record)
                del self._open[record.offset]
                if self._commit_task is None or self._commit_task.done():
                    self._commit_task = asyncio.create_task(self._commit())
            self._wake.clear()
            if not self._ending:
                await self._wake.wait()

    async def _commit(self) -> None:
        while self.committable > self._committed:
            await self._commit_once()
            await asyncio.sleep(self._policy.commit_every_s)

    async def _commit_once(self) -> None:
        offset = self.committable
        if offset > self._committed and await self._send_commit(self._number, offset):
            self._committed = offset
