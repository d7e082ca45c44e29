"""Gangs: tasks that start together or not at all.

A gang stands in a line of its own, under the key of its longest-waiting member, as soon as all of its
members are ready.  While it is incomplete its members are ``queued`` but stand nowhere.
"""

from __future__ import annotations

from balance.core.scheduler.lines import Line
from balance.core.scheduler.task import Task
from balance.errors import Conflict


class Gang:
    """The members of one gang.

    Attributes
    ----------
    members : dict of str to Task
        All that are not over yet.
    ready : dict of str to Task
        Those that only wait for the others and for room.
    joined : int
        How many have been submitted so far.
    completed : int
        How many are done; a gang that starts again needs the others only.
    failed_by : str or None
        The first member that ended without being completed: the others are cancelled.
    """

    __slots__ = ("completed", "failed_by", "gang_id", "joined", "line", "members", "ready", "size")

    def __init__(self, gang_id: str, size: int) -> None:
        self.gang_id = gang_id
        self.size = size
        self.members: dict[str, Task] = {}
        self.ready: dict[str, Task] = {}
        self.joined = 0
        self.completed = 0
        self.failed_by: str | None = None
        self.line: Line | None = None

    @property
    def complete(self) -> bool:
        """Whether everyone who has yet to run is ready."""
        return 0 < len(self.ready) == self.size - self.completed

    def join(self, task: Task) -> None:
        """Take a new member; `Conflict` when the gang is full or of another size or tenant."""
        self.check(task.spec.gang_size, task.spec.tenant, 1)
        self.members[task.task_id] = task
        self.joined += 1

    def check(self, size: int, tenant: str, newcomers: int) -> None:
        """Raise `Conflict` unless `newcomers` of a gang of `size` may join."""
        if size != self.size:
            raise Conflict(
                f"gang {self.gang_id!r} has {self.size} members, not {size}", gang_id=self.gang_id, size=self.size
            )
        if self.joined + newcomers > self.size:
            raise Conflict(f"gang {self.gang_id!r} is full", gang_id=self.gang_id, size=self.size)
        first = next(iter(self.members.values()), None)
        if first is not None and first.spec.tenant != tenant:
            raise Conflict(f"gang {self.gang_id!r} belongs to tenant {first.spec.tenant!r}", gang_id=self.gang_id)

    def in_placing_order(self) -> list[Task]:
        """Return the ready members, the hardest to place first."""
        return sorted(
            self.ready.values(),
            key=lambda task: (-task.shape.gpu, -task.shape.memory, -task.shape.cpu, task.seq),
        )
