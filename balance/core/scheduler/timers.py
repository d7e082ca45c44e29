"""What falls due when: delays, retries, timeouts and deadlines in one heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import IntEnum

from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task

_COMPACT_MIN = 1024


class Due(IntEnum):
    """What a timer is for; at the same moment the smaller goes first."""

    RELEASE = 0  #: a delayed or retrying task may queue
    TIMEOUT = 1  #: an attempt has run for too long
    DEADLINE = 2  #: the result is worth nothing from now on


Timer = tuple[float, int, int, int, Task]


def still_holds(timer: Timer) -> bool:
    """Say whether a timer means anything still; the task may have moved on."""
    when, kind, _, attempt, task = timer
    if kind == Due.RELEASE:
        return task.due_at == when and task.state in (State.DELAYED, State.RETRYING)
    if kind == Due.TIMEOUT:
        if task.state is not State.RUNNING or task.attempt != attempt or task.started_at is None:
            return False
        return when == task.started_at + (task.spec.timeout_s or 0.0)
    return not task.state.terminal


class Timers:
    """Moments and the tasks that they concern.

    A timer is not cancelled: when its moment comes it is looked at, and dropped if the task has moved
    on.  So that a cancelled task does not stay in memory until a far deadline, all are looked at each
    time their number has doubled; O(log n) amortised.

    Examples
    --------
    >>> from balance.core.scheduler.shape import Shape
    >>> from balance.core.scheduler.spec import TaskSpec
    >>> task = Task(TaskSpec("t", deadline=9.0), None, Shape(TaskSpec("t").demand), 0, 0.0)
    >>> timers = Timers()
    >>> timers.add(9.0, Due.DEADLINE, task)
    >>> timers.next_due(), timers.pop_due(8.0), timers.pop_due(9.0) == (Due.DEADLINE, task)
    (9.0, None, True)
    """

    def __init__(self, holds: Callable[[Timer], bool] = still_holds) -> None:
        self._holds = holds
        self._heap: list[Timer] = []
        self._compact_at = _COMPACT_MIN

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, kind: Due, task: Task) -> None:
        """Remember that `kind` falls due for `task` at `when` (POSIX seconds)."""
        heapq.heappush(self._heap, (when, int(kind), task.seq, task.attempt, task))
        if len(self._heap) > self._compact_at:
            self._heap = [timer for timer in self._heap if self._holds(timer)]
            heapq.heapify(self._heap)
            self._compact_at = max(_COMPACT_MIN, 2 * len(self._heap))

    def next_due(self) -> float | None:
        """Return the next moment at which something falls due; None if nothing will."""
        heap = self._heap
        while heap and not self._holds(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> tuple[Due, Task] | None:
        """Take out the first thing that is due at `now`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        timer = heapq.heappop(self._heap)
        return Due(timer[1]), timer[4]
