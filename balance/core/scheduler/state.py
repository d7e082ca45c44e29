"""Everything that the engine knows, in one place, for the parts that decide on it."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from itertools import islice
from weakref import WeakValueDictionary

from balance.core.scheduler.backfill import Earmark, lack
from balance.core.scheduler.chunk import Chunk
from balance.core.scheduler.dependency_resolver import DependencyResolver
from balance.core.scheduler.fair_share import FairShare
from balance.core.scheduler.gang import Gang
from balance.core.scheduler.instructions import Instruction
from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.lines import Line
from balance.core.scheduler.memory_peaks import MemoryPeaks
from balance.core.scheduler.placement import Placement, Score
from balance.core.scheduler.placement_learner import PlacementLearner
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.room import Hold, Room
from balance.core.scheduler.run_times import RunTimes
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.core.scheduler.timers import Timers
from balance.types import Resources

_ARRIVALS_MIN = 64


class EngineState:
    """The data of the engine; what changes it is in `Lifecycle`, `Cycle` and `Cluster`.

    Attributes
    ----------
    tasks : dict of str to Task
        All tasks that are known, finished ones too.
    history : ordered dict
        Ids of finished tasks, the oldest first.
    limits : dict of str to Room
        What each node could give at most, as an empty room.
    shapes_waiting, gangs_waiting
        In how many lines each shape stands, and how many gangs stand in line.
    preemptible : dict of str to Counter
        How many running tasks of each tenant may be stopped, by priority.
    earmarks : dict of Line to Earmark
        Room kept for lines whose first task does not fit.
    out : list of Instruction
        What has been decided and not yet been returned.
    changed : dict of str to Task
        What has changed since the changes were last taken.
    counts, queued_by_priority, running_by_priority, queued_demand : dict
        How many tasks are in each state; queued and running ones by priority; what queued ones ask for.
    chunks : Counter of Shape
        In how many rooms a chunk of each shape runs.
    passing : dict of Chunk to Task
        Rooms to be passed on, and who held them; see `Lifecycle.settle`.
    """

    def __init__(self, policy: SchedulingPolicy, score: Score) -> None:
        self.policy = policy
        self.tasks: dict[str, Task] = {}
        self.history: OrderedDict[str, None] = OrderedDict()
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        self.queued_by_priority: Counter[int] = Counter()
        self.running_by_priority: Counter[int] = Counter()
        self.queued_demand: Counter[str] = Counter()
        self.chunks: Counter[Shape] = Counter()
        self.passing: dict[Chunk, Task] = {}
        self._arrivals: deque[Task] = deque()
        self.ledger = Ledger()
        self.placement = Placement(self.ledger, score=score)
        self.learner = PlacementLearner()
        self.nearest = Placement(self.ledger, score=lack, fits=Room.could_hold)
        self.shares = FairShare(policy.tenants)
        self.timers = Timers()
        self.run_times = RunTimes()
        self.memory_peaks = MemoryPeaks()
        self.resolver = DependencyResolver()
        self.gangs: dict[str, Gang] = {}
        self.limits: dict[str, Room] = {}
        self.earmarks: dict[Line, Earmark] = {}
        self.paused = False
        self.shapes_waiting: dict[Shape, int] = {}
        self.gangs_waiting = 0
        self.preemptible: dict[str, Counter[int]] = {}
        self.seq = 0
        self.now = 0.0
        self.out: list[Instruction] = []
        self.changed: dict[str, Task] = {}
        self._shapes: WeakValueDictionary[tuple[Resources, str | None], Shape] = WeakValueDictionary()

    def shape(self, demand: Resources, reservation: str | None) -> Shape:
        """Return the one shape for this demand and reservation."""
        key = (demand, reservation)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(demand, reservation)
        return shape

    def move(self, task: Task, new: State) -> None:
        """Let `task` go from its state to `new`, in all counts."""
        old = task.state
        task.state = new
        self.counts[old] -= 1
        if old is State.QUEUED:
            self._count_waiting(task.shape, (task,), -1)
        elif old is State.RUNNING:
            self.running_by_priority[task.priority] -= 1
        if new is State.QUEUED:
            self.count_queued(task.shape, (task,))
            return
        self.counts[new] += 1
        if new is State.RUNNING:
            self.running_by_priority[task.priority] += 1

    def count_queued(self, shape: Shape, tasks: Sequence[Task]) -> None:
        """Count tasks of one shape as having come into the queue."""
        queued = self.counts[State.QUEUED] = self.counts[State.QUEUED] + len(tasks)
        self._count_waiting(shape, tasks, 1)
        self._arrivals.extend(tasks)
        if len(self._arrivals) > _ARRIVALS_MIN + 2 * queued:
            self._arrivals = deque(task for task in self._arrivals if task.state is State.QUEUED)

    def count_started(self, shape: Shape, tasks: Sequence[Task]) -> None:
        """Count queued tasks of one shape as running."""
        self.counts[State.QUEUED] -= len(tasks)
        self.counts[State.RUNNING] += len(tasks)
        self._count_waiting(shape, tasks, -1)
        for task in tasks:
            self.running_by_priority[task.priority] += 1

    def _count_waiting(self, shape: Shape, tasks: Sequence[Task], sign: int) -> None:
        by_priority = self.queued_by_priority
        for task in tasks:
            by_priority[task.priority] += sign
        for name, amount in shape.amounts:
            self.queued_demand[name] += sign * amount * len(tasks)

    def recount_priority(self, task: Task, priority: int) -> None:
        """Change a task's priority in all counts."""
        if task.hold is not None:
            self.count_preemptible(task, -1)
        counts = {State.QUEUED: self.queued_by_priority, State.RUNNING: self.running_by_priority}.get(task.state)
        if counts is not None:
            counts[task.priority] -= 1
            counts[priority] += 1
        task.priority = priority
        if task.hold is not None:
            self.count_preemptible(task, 1)

    def pass_on(self, task: Task, heir: Task) -> None:
        """Let the next of a chunk hold what `task`, which is over, held."""
        heir.hold = self.ledger.pass_on(task.task_id, heir.task_id)
        heir.started_at = self.now
        self.count_preemptible(task, -1)
        self.count_preemptible(heir, 1)
        for earmark in self.earmarks.values():
            if task.task_id in earmark.ending:
                earmark.ending.discard(task.task_id)
                earmark.ending.add(heir.task_id)

    def count_preemptible(self, task: Task, sign: int) -> None:
        """Count a running task, if it may be preempted, as having come (1) or gone (-1)."""
        if not task.spec.preemptible:
            return
        priorities = self.preemptible.setdefault(task.spec.tenant, Counter())
        priorities[task.priority] += sign
        if not priorities[task.priority]:
            del priorities[task.priority]
            if not priorities:
                del self.preemptible[task.spec.tenant]

    def longest_queued(self) -> Task | None:
        """Return the task that has been in the queue for longest."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].state is not State.QUEUED:
            arrivals.popleft()
        return arrivals[0] if arrivals else None

    def some_ids(self) -> list[str]:
        """Return the latest task ids, for a message that names the nearest; bounded, as there may be millions."""
        return list(islice(reversed(self.tasks), 1000))

    def line_of(self, task: Task) -> Line:
        """Return the line in which `task` stands or would stand, opening it if need be."""
        account = self.shares.account(task.spec.tenant)
        if task.spec.gang_id is not None:
            gang = self.gangs[task.spec.gang_id]
            if gang.line is None:
                gang.line = Line(account, task.shape, gang)
            return gang.line
        line = account.lines.get(task.shape)
        if line is None:
            line = account.lines[task.shape] = Line(account, task.shape)
        return line

    def repost(self, line: Line) -> None:
        """Note that who is first in `line` may have changed; drop it when it is empty."""
        account = line.account
        had = account.waiting_lines
        was, stood = line.posted, line.posted is not None
        line.misfit = line.unkept = -1
        account.post(line)
        if line.posted is not was and line in self.earmarks:
            self.ledger.freed()  # its earmark may yield to others now
        if stood != (line.posted is not None):
            self._count_shape(line, -1 if stood else 1)
        if line.posted is None:
            self.drop_earmark(line)
            if line.gang is None:
                account.lines.pop(line.shape, None)
            else:
                line.gang.line = None
        if (had == 0) != (account.waiting_lines == 0):
            self.shares.refresh(account)

    def _count_shape(self, line: Line, sign: int) -> None:
        if line.gang is not None:
            self.gangs_waiting += sign
        elif sign > 0:
            self.shapes_waiting[line.shape] = self.shapes_waiting.get(line.shape, 0) + 1
        elif self.shapes_waiting[line.shape] == 1:
            del self.shapes_waiting[line.shape]
        else:
            self.shapes_waiting[line.shape] -= 1

    def drop_earmark(self, line: Line) -> None:
        """Keep room for `line` no longer."""
        if self.earmarks.pop(line, None) is not None:
            self.ledger.freed()

    def earmark_on(self, room: Room) -> Earmark | None:
        """Return the earmark on a room; each room has one at most."""
        for earmark in self.earmarks.values():
            if room.key in earmark.rooms:
                return earmark
        return None

    def end_of(self, hold: Hold) -> float:
        """Return when what `hold` holds is expected to be free, in POSIX seconds."""
        task = self.tasks[hold.holder]
        end = self.run_times.expected_end(task, self.now)
        return end if task.chunk is None else max(end, task.chunk.ends_at)
