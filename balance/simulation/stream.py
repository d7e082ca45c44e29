"""A synthetic stream of equal tasks: one user, one kind of work, one demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from dataclasses import replace as changed
from itertools import islice

from balance.core.scheduler.spec import TaskSpec
from balance.simulation.arrivals import Arrivals, at_once
from balance.simulation.job import Job
from balance.simulation.lengths import Hint, Lengths, constant, no_hint
from balance.types import check_int


@dataclass(frozen=True, slots=True)
class Stream:
    """Tasks that are alike, but for when they come and how long they take.

    Iterating twice gives the same jobs twice.  A stream without `count` is endless: the simulation's
    `until_s` ends it.

    Attributes
    ----------
    template : TaskSpec
        What all of them are; `task_id` is the prefix of their ids, followed by ``-0``, ``-1``, ...
    arrivals : Arrivals
        When they come; all at the beginning when left out.
    lengths : Lengths
        How long they take; one second when left out.
    hint : Hint
        What the submitter says about the run time; nothing when left out.
    count : int or None
        How many.
    seed : int
        The same seed makes the same stream.

    Examples
    --------
    >>> from balance.simulation.arrivals import poisson
    >>> stream = Stream(TaskSpec("small"), poisson(1.0), count=2, seed=7)
    >>> [(job.spec.task_id, round(job.at_s, 2)) for job in stream]
    [('small-0', 1.2), ('small-1', 1.27)]
    """

    template: TaskSpec
    arrivals: Arrivals = field(default_factory=at_once)
    lengths: Lengths = field(default_factory=lambda: constant(1.0))
    hint: Hint = no_hint
    count: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count is not None:
            check_int("count", self.count, minimum=0)

    def __iter__(self) -> Iterator[Job]:
        from numpy.random import SeedSequence, default_rng  # noqa: PLC0415 (importing the package stays cheap)

        # Generators of their own: another arrival process leaves the run times as they are.
        when, what, said = (default_rng(child) for child in SeedSequence(self.seed).spawn(3))
        prefix = self.template.task_id
        pairs = zip(self.arrivals(when), self.lengths(what), strict=False)
        for number, (at_s, run_s) in enumerate(islice(pairs, self.count)):
            hint_s = self.hint(said, run_s)
            expected = self.template.expected_run_s if hint_s is None else hint_s
            yield Job(at_s, run_s, changed(self.template, task_id=f"{prefix}-{number}", expected_run_s=expected))
