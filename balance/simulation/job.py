"""One piece of work of a simulated workload: what is submitted, when, and how long it really takes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from balance.core.scheduler.spec import TaskSpec
from balance.types import check_number


@dataclass(frozen=True, slots=True)
class Job:
    """A task that arrives.

    Attributes
    ----------
    at_s : float
        When it is submitted, in seconds since the simulation began.
    run_s : float
        How long an undisturbed attempt runs, in seconds.  The scheduler is not told: what it may know
        beforehand is ``spec.expected_run_s``.
    spec : TaskSpec
        The task.  Its moments (`not_before`, `deadline`) count from the beginning of the simulation too.

    Examples
    --------
    >>> Job(0.5, 10.0, TaskSpec("fit-1")).spec.task_id
    'fit-1'
    """

    at_s: float
    run_s: float
    spec: TaskSpec

    def __post_init__(self) -> None:
        check_number("at_s", self.at_s, minimum=0, what="number of seconds")
        check_number("run_s", self.run_s, minimum=0, what="number of seconds")


def merged(*streams: Iterable[Job]) -> Iterator[Job]:
    """Yield the jobs of several streams, each in order of time, in order of time; earlier streams first at a tie.

    Examples
    --------
    >>> one, two = [Job(0, 1, TaskSpec("a")), Job(2, 1, TaskSpec("c"))], [Job(1, 1, TaskSpec("b"))]
    >>> [job.spec.task_id for job in merged(one, two)]
    ['a', 'b', 'c']
    """
    return heapq.merge(*streams, key=lambda job: job.at_s)
