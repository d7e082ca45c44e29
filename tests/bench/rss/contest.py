"""The contest: the same tasks on the same scheduler, under rules that differ in what they ask for."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from balance.core.scheduler import TaskScheduler
from balance.core.scheduler.events import NodeJoined
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.types import Resources
from rss.executor import Attempt, Hungry, RssExecutor

MIB = 2**20
MEDIAN_BYTES, SIGMA = 16 * MIB, 0.5
FIRST_BYTES = 6 * MIB
"""What the submitter believes that a task needs: too little for nearly all."""
ROOM_BYTES = 320 * MIB
AT_ONCE = 8
RUN_S = 0.05
PATIENCE = RetryPolicy(memory=12)
OWN_BYTES = 4 * MIB
"""What an oracle adds to a size: a process takes a little more than its data."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How requests come about.

    Attributes
    ----------
    name : str
        For the table.
    growth : float
        The factor after a kill.
    learns : bool
        Whether the scheduler is told what attempts took.
    asks : bool
        Whether the submitter asks it before each task what to request.
    foresees : str
        ``largest`` or ``own``: the size that the submitter knows beforehand; empty for none.
    """

    name: str
    growth: float
    learns: bool = False
    asks: bool = False
    foresees: str = ""

    def request(self, size: int, largest: int, scheduler: TaskScheduler) -> int:
        """Return how many bytes the submitter requests for a task of this size."""
        if self.foresees:
            return OWN_BYTES + (size if self.foresees == "own" else largest)
        known = scheduler.suggest_memory("fit")["memory_bytes"] if self.asks else None
        return int(known or FIRST_BYTES)


RULES = (
    Rule("x1.5 after a kill", growth=1.5),
    Rule("x2 after a kill", growth=2.0),
    Rule("learned, used after a kill", growth=2.0, learns=True),
    Rule("learned, asked before each task", growth=2.0, learns=True, asks=True),
    Rule("the largest of all, foreseen", growth=2.0, foresees="largest"),
    Rule("each task's own, foreseen", growth=2.0, foresees="own"),
)


@dataclass(frozen=True, slots=True)
class Score:
    """How a rule fared.

    Attributes
    ----------
    kills : int
        Attempts that outgrew their request.
    wasted_s : float
        Seconds that they had run.
    slack : float
        The share of all byte-seconds that were held and not taken, from 0 to 1; a killed attempt takes nothing.
    failed : int
        Tasks that did not complete.
    total_s : float
        From the first submission to the last end.
    """

    kills: int
    wasted_s: float
    slack: float
    failed: int
    total_s: float

    @classmethod
    def of(cls, attempts: list[Attempt], tasks: int, total_s: float) -> Score:
        """Sum up attempts.

        Examples
        --------
        >>> attempts = [Attempt("a", 100, 100, 1.0, True), Attempt("a", 200, 150, 1.0, False)]
        >>> Score.of(attempts, tasks=1, total_s=2.0)
        Score(kills=1, wasted_s=1.0, slack=0.5, failed=0, total_s=2.0)
        """
        killed = [each for each in attempts if each.killed]
        held = sum(each.request_bytes * each.run_s for each in attempts)
        taken = sum(min(each.peak_bytes, each.request_bytes) * each.run_s for each in attempts if not each.killed)
        return cls(
            kills=len(killed),
            wasted_s=sum(each.run_s for each in killed),
            slack=1 - taken / held if held else math.nan,
            failed=tasks - sum(not each.killed for each in attempts),
            total_s=total_s,
        )


def sizes(count: int, seed: int) -> list[int]:
    """Return log-normal sizes in bytes, none above half of the room."""
    rng = random.Random(seed)
    return [min(ROOM_BYTES // 2, int(MEDIAN_BYTES * math.exp(SIGMA * rng.gauss(0, 1)))) for _ in range(count)]


def play(rule: Rule, given: list[int], *, every_s: float) -> Score:
    """Run tasks of the `given` sizes under a rule; with ``every_s`` 0 all are submitted at once."""
    executor = RssExecutor(tells_peaks=rule.learns)
    node = NodeJoined("n", Resources.capacity(cpu=AT_ONCE, memory=ROOM_BYTES))
    policy = SchedulingPolicy(memory_growth=rule.growth)
    scheduler = TaskScheduler(executor=executor, nodes=(node,), policy=policy)
    began = time.monotonic()
    for number, size in enumerate(given):
        _work_until(scheduler, executor, lambda due=began + number * every_s: time.monotonic() >= due)
        demand = Resources.demand(cpu=1, memory=rule.request(size, max(given), scheduler))
        spec = TaskSpec(f"fit-{number}", name="fit", demand=demand, retry=PATIENCE)
        scheduler.submit_many([(spec, Hungry(size, RUN_S))])
    _work_until(scheduler, executor, lambda: not _open(scheduler))
    return Score.of(executor.attempts, len(given), time.monotonic() - began)


def _open(scheduler: TaskScheduler) -> bool:
    states = scheduler.queue_stats()["by_state"]
    return any(states.get(name, 0) for name in ("queued", "retrying", "running"))


def _work_until(scheduler: TaskScheduler, executor: RssExecutor, done: Callable[[], bool]) -> None:
    while not done():
        scheduler.deliver(*executor.wait(0.005))
