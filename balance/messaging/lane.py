"""One partition of a subscription: a bounded buffer, its workers, and how far it is handled.

A lane commits the offset before which everything is handled, and what is handled beyond it.  What handlers return to be
sent goes with the commit of their messages, as one.  Commits run one at a time; what is handled meanwhile goes with the
next.

Whether a commit that failed was taken is not known here.  So a lane then waits until it has heard from the broker how
far the group is (`resync`), and drops what that covers: nothing is sent twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from balance.messaging.broker import Record, Send
from balance.messaging.delivery import DeliveryPolicy
from balance.messaging.progress import Ranges, covers, merged

#: Above this many buffered bytes a lane is not read, however few messages they are.
BUFFER_BYTES = 4 * 2**20
#: About how much goes with one commit at most, in bytes.
COMMIT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Progress:
    """What a lane wants to commit.

    Attributes
    ----------
    partition : int
        Of what.
    offset : int
        Everything before it is handled.
    beyond : ranges
        What is handled beyond it.
    sends : list of Send
        What goes with it.
    """

    partition: int
    offset: int
    beyond: Ranges
    sends: list[Send]


class Lane:
    """The messages of one partition between poll and commit.

    Parameters
    ----------
    number, start : int
        The partition, and the offset to read from.
    beyond : ranges
        What the group has handled beyond it.
    policy : DeliveryPolicy
        Buffer, concurrency, commit interval, grace.
    deliver : async callable
        Handles one record for good (delivers or dead-letters it); returns what is to be sent.
    commit : async callable
        Takes a `Progress`; says whether the broker took it.
    on_room : callable
        Called when a lane that was full has room again, and when it wants to be told how far the group is.
    """

    def __init__(
        self,
        number: int,
        start: int,
        beyond: Ranges = (),
        *,
        policy: DeliveryPolicy,
        deliver: Callable[[Record], Awaitable[Sequence[Send]]],
        commit: Callable[[Progress], Awaitable[bool]],
        on_room: Callable[[], None],
    ) -> None:
        self.position = start
        self.is_unsure = False
        self._number = number
        self._committed = start
        self._covered = beyond
        self._policy = policy
        self._half = policy.buffer // 2
        self._deliver = deliver
        self._send_commit = commit
        self._on_room = on_room
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._open: dict[int, None] = {}  # taken and not handled yet, in order of offset
        self._ready: dict[int, Sequence[Send]] = {}  # handled, with what has not been sent yet
        self._ready_bytes = 0
        self._wake = asyncio.Event()
        self._ending = False
        self._committing = asyncio.Lock()
        self._commit_task: asyncio.Task[None] | None = None
        self._workers = [asyncio.create_task(self._work()) for _ in range(policy.concurrency)]

    @property
    def buffered(self) -> int:
        """How many messages wait."""
        return len(self._queue)

    @property
    def room(self) -> int:
        """How many more messages to read; 0 until half of the buffer is free again."""
        held = len(self._queue) + len(self._ready)  # what can't be sent holds up reading, too
        if held > self._half or self._queued_bytes + self._ready_bytes > BUFFER_BYTES // 2:
            return 0
        return self._policy.buffer - held

    def take(self, record: Record) -> None:
        """Buffer one record; one that was taken or handled before is left out."""
        if record.offset >= self.position:
            self.position = record.offset + 1
            if not covers(self._covered, record.offset):
                self._queue.append(record)
                self._queued_bytes += len(record.value)
                self._open[record.offset] = None
                self._wake.set()

    def resync(self, committed: int, beyond: Ranges) -> None:
        """Take over how far the group is, whoever brought it there; what that covers is not sent any more."""
        self._committed, self._covered, self.is_unsure = committed, beyond, False
        self.position = max(self.position, committed)
        waiting = [record for record in self._queue if not self._is_covered(record.offset)]
        self._queue, self._queued_bytes = deque(waiting), sum(len(record.value) for record in waiting)
        for offset in [offset for offset in self._open if self._is_covered(offset)]:
            del self._open[offset]
        self._forget([offset for offset in self._ready if self._is_covered(offset)])
        self._commit_soon()

    async def finish(self) -> None:
        """Let the workers finish what they handle now (up to the grace) and commit it; what waits stays for later."""
        self._ending = True
        for record in self._queue:
            del self._open[record.offset]
            self.position = min(self.position, record.offset)
        self._queue.clear()
        self._wake.set()
        _, slow = await asyncio.wait(self._workers, timeout=self._policy.grace_s)
        for task in slow:
            task.cancel()
        async with self._committing:  # one that is under way is never given up: it may be taken
            if self._commit_task is not None:
                self._commit_task.cancel()
                slow.add(self._commit_task)
        await asyncio.gather(*slow, return_exceptions=True)
        while self._has_news and await self._commit_once():
            pass

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
                sends = await self._deliver(record)
                if record.offset in self._open:  # else the group has done it meanwhile
                    del self._open[record.offset]
                    if sends:
                        self._ready[record.offset] = sends
                        self._ready_bytes += _size(sends)
                    self._commit_soon()
            self._wake.clear()
            if not self._ending:
                await self._wake.wait()

    def _is_covered(self, offset: int) -> bool:
        return offset < self._committed or covers(self._covered, offset)

    def _commit_soon(self) -> None:
        if self._commit_task is None or self._commit_task.done():  # for each message: what is new is looked at there
            self._commit_task = asyncio.create_task(self._commit())

    @property
    def _has_news(self) -> bool:
        return not self.is_unsure and (bool(self._ready) or self._progress([]).offset > self._committed)

    async def _commit(self) -> None:
        while self._has_news:
            await self._commit_once()
            await asyncio.sleep(self._policy.commit_every_s)

    async def _commit_once(self) -> bool:
        async with self._committing:
            chosen, size = [], 0
            for offset in sorted(self._ready):
                if size >= COMMIT_BYTES:
                    break
                chosen.append(offset)
                size += _size(self._ready[offset])
            progress = self._progress(chosen)
            taken = await self._send_commit(progress)
            if taken:
                self._committed, self._covered = progress.offset, progress.beyond
                self._forget(chosen)
            elif self._ready or self._covered or progress.beyond:
                self.is_unsure = True
                self._on_room()
            return taken

    def _forget(self, offsets: Sequence[int]) -> None:
        """Drop what was sent; there may be room for more then."""
        was_full = not self.room
        for offset in offsets:
            self._ready_bytes -= _size(self._ready.pop(offset, ()))
        if was_full and self.room:
            self._on_room()

    def _progress(self, chosen: Sequence[int]) -> Progress:
        """Return what is handled, the messages of `chosen` included: their sends go with it."""
        # Workers take messages in order: what was not taken lies behind all that was.
        upper = self._queue[0].offset if self._queue else self.position
        missing = self._ready.keys() - set(chosen)
        open_ = sorted([*(offset for offset in self._open if offset < upper), *missing])
        edges = [*open_, upper]
        beyond = [(start + 1, end) for start, end in zip(open_, edges[1:], strict=True)]
        offset = edges[0]
        # Of what was handled before this lane began, some may not have been read yet.
        ranges = merged([*beyond, *self._covered], above=offset)
        if not open_ and ranges and ranges[0][0] <= offset:
            offset, ranges = ranges[0][1], ranges[1:]
        return Progress(self._number, offset, ranges, [send for one in chosen for send in self._ready[one]])


def _size(sends: Sequence[Send]) -> int:
    return sum(len(send.record.value) for send in sends)
