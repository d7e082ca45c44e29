"""Chunks: short tasks that one decision starts together, to run one after another in one room.

What a decision, a message and a wake-up cost is shared by the members (docs/adr/0012-chunks.md).  All of
them are ``running``, as they are promised to one executor; only one at a time **holds** the room.  As it
is over, the room passes on to the next, so that the ledger, the fair share and preemption see one task.

How many: by measured run time no more than fit into `chunk_s`, and no more than the line's fair split over
the rooms that are free or run such chunks already (guided self-scheduling: Polychronopoulos & Kuck, IEEE
Trans. Computers C-36(12), 1987), so that the last of a line do not queue behind one another beside an idle
room.
"""

from __future__ import annotations

from collections.abc import Iterator

from balance.core.scheduler.lines import Line
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.run_times import RunTimes
from balance.core.scheduler.task import Task


class Chunk:
    """The members of one chunk, first to run first.

    A member belongs to it as long as its `Task.chunk` says so; the first of those holds the room.

    Attributes
    ----------
    began_at, ends_at : float
        When it was started, and when all are expected to be over, in POSIX seconds.

    Examples
    --------
    >>> from balance.core.scheduler.shape import Shape
    >>> from balance.core.scheduler.spec import TaskSpec
    >>> tasks = [Task(TaskSpec(name), None, Shape(TaskSpec(name).demand), 0, 0.0) for name in "abc"]
    >>> chunk = Chunk(tasks, began_at=0.0, ends_at=1.0)
    >>> tasks[0].chunk = tasks[1].chunk = None
    >>> chunk.next().task_id
    'c'
    """

    __slots__ = ("_first", "_tasks", "began_at", "ends_at")

    def __init__(self, tasks: list[Task], began_at: float, ends_at: float) -> None:
        self._tasks = tasks
        self._first = 0
        self.began_at = began_at
        self.ends_at = ends_at
        for task in tasks:
            task.chunk = self

    def next(self) -> Task | None:
        """Return the first that still belongs to it; None if none does.  O(1) amortised."""
        tasks = self._tasks
        while self._first < len(tasks):
            task = tasks[self._first]
            if task.chunk is self:
                return task
            self._first += 1
        return None

    def members(self) -> Iterator[Task]:
        """Yield those who still belong to it, the one that holds the room first."""
        return (task for task in self._tasks[self._first :] if task.chunk is self)


def take_chunk(
    line: Line, policy: SchedulingPolicy, run_times: RunTimes, slots: int, most: int
) -> tuple[list[Task], float]:
    """Take the first tasks that may run as one chunk out of `line`.

    Parameters
    ----------
    line : Line
        In which someone stands.
    policy, run_times
        Limits and measurements.
    slots : int
        How many tasks of the line could run at the same time.
    most : int
        How many may be taken at most.

    Returns
    -------
    tasks : list of Task
        In the order of the line, which its caller posts anew; the first alone if it has to run by itself.
    run_s : float
        How many seconds they are expected to take together; 0 for one alone.
    """
    first = line.head()
    assert first is not None, "an empty line was posted"
    name = first.spec.name
    each_s = run_times.mean_s(name)
    most = min(most, policy.chunk_max, -(-len(line) // max(slots, 1)))
    taken = [line.pop()]
    if most < 2 or each_s is None or not _sociable(first):
        return taken, 0.0
    total_s = each_s
    while len(taken) < most and (task := line.head()) is not None:
        spec = task.spec
        if spec.name != name:
            name = spec.name
            each_s = run_times.mean_s(name)
        if each_s is None or total_s + each_s > policy.chunk_s:
            break
        if spec.preemptible is not first.spec.preemptible or not _sociable(task):
            break
        total_s += each_s
        taken.append(line.pop())
    return taken, total_s


def _sociable(task: Task) -> bool:
    spec = task.spec
    return spec.idempotent and spec.timeout_s is None and spec.gang_id is None and not task.solo
