"""Who waits: tasks in lines, lines in accounts.

Tasks of one tenant and one shape stand in one **line**: they are interchangeable, so when the first does
not fit, none does, and a decision looks at lines, not at tasks.

**Aging without re-sorting.**  With linear aging the effective priority at time ``t`` is
``priority - (t - eligible_at) / step``.  Multiply by ``step`` and add ``t``: the order is that of
``eligible_at + priority * step``, in which ``t`` does not occur.  So each task gets this key once and
stands where it belongs for ever (the idea of Linux's and multics' virtual deadlines).

Entries that no longer hold (a task was cancelled, its priority changed) stay in the heaps until they are
met or outnumber the others: every operation is O(log n) amortised.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balance.core.scheduler.heaps import in_order
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.task import Task

if TYPE_CHECKING:
    from balance.core.scheduler.fair_share import Account
    from balance.core.scheduler.gang import Gang

_STALE_MIN = 8

TaskEntry = tuple[float, int, Task]  # key, sequence number, the task


class Line:
    """Queued tasks of one account and shape (or one gang), first to run first.

    Attributes
    ----------
    posted : tuple or None
        The entry under which the account knows this line: the key of its first task.
    misfit, unkept : int
        The ledger's `releases` when the first task was last found not to fit, and when no room was found
        that could be kept for it; -1 for not known.
    unholdable : int
        The ledger's `capacity_version` when no room was found that could hold it even when empty.
    """

    __slots__ = ("account", "gang", "heap", "misfit", "posted", "shape", "stale", "unholdable", "unkept")

    def __init__(self, account: Account, shape: Shape, gang: Gang | None = None) -> None:
        self.account = account
        self.shape = shape
        self.gang = gang
        self.heap: list[TaskEntry] = []
        self.stale = 0
        self.posted: LineEntry | None = None
        self.misfit = self.unkept = self.unholdable = -1

    def __len__(self) -> int:
        return len(self.heap) - self.stale

    @property
    def key(self) -> tuple[str, str]:
        """A stable name: the tenant, and the gang or shape."""
        return (self.account.name, self.gang.gang_id if self.gang else repr(self.shape))

    def head(self) -> Task | None:
        """Return the task that runs first; None if nobody waits."""
        heap = self.heap
        while heap:
            entry = heap[0]
            if entry[2].entry is entry:
                return entry[2]
            heapq.heappop(heap)
            self.stale -= 1
        return None

    def push(self, task: Task, key: float) -> None:
        """Let `task` wait under `key`."""
        entry = (key, task.seq, task)
        task.entry = entry
        heapq.heappush(self.heap, entry)

    def pop(self) -> Task:
        """Take out the task that `head` has just returned."""
        task = heapq.heappop(self.heap)[2]
        task.entry = None
        return task

    def discard(self, task: Task) -> None:
        """Let `task` wait no longer."""
        first = self.heap[0] is task.entry
        task.entry = None
        if first:
            heapq.heappop(self.heap)
            return
        self.stale += 1
        if self.stale > _STALE_MIN and self.stale * 2 > len(self.heap):
            self.heap = [entry for entry in self.heap if entry[2].entry is entry]
            heapq.heapify(self.heap)
            self.stale = 0

    def tasks(self) -> Iterator[Task]:
        """Yield who waits, first to run first; O(k log k) for the first k."""
        for entry in in_order(self.heap):
            if entry[2].entry is entry:
                yield entry[2]


LineEntry = tuple[float, int, int, Line]  # key and sequence number of the first task, unique tick, the line
