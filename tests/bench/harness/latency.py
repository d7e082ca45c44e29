"""How long an urgent task waits: samples taken at a steady pace, whatever became of those before."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

WAITERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """One urgent task.

    Attributes
    ----------
    begun_s : float
        From just before it was submitted until its function began, by the machine's wall clock.
    answered_s : float
        Until its result was there.
    """

    begun_s: float
    answered_s: float


def take(
    submit: Callable[[], Any],
    result: Callable[[Any], float],
    *,
    count: int,
    every_s: float,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[Sample]:
    """Submit a task every `every_s` seconds and return how long each took.

    A task is submitted when it is due, not when the one before it is over: a slow one must not hide how the
    next would have fared (G. Tene, "How NOT to measure latency": coordinated omission).

    Parameters
    ----------
    submit : callable
        Submits one task and returns what stands for it.
    result : callable
        Waits for a task and returns the wall-clock time at which its function began.
    count : int
        How many to submit at most.
    every_s : float
        Between two of them.
    goes_on : callable
        Whether what they are measured against still goes on; asked when a result is there.  A task that is
        answered when it does not is no sample, and none is submitted after it.

    Examples
    --------
    >>> found = take(time.time, lambda begun: begun + 0.5, count=3, every_s=0.0)
    >>> len(found), all(0.5 <= sample.begun_s < 0.6 for sample in found)
    (3, True)
    >>> take(time.time, lambda begun: begun, count=3, every_s=0.0, goes_on=lambda: False)
    []
    """
    over = False

    def answer(task: Any, submitted: float, began: float) -> Sample | None:
        nonlocal over
        begun = result(task)
        sample = Sample(begun - submitted, time.perf_counter() - began)
        if not goes_on():
            over = True
            return None
        return sample

    answers: list[Future[Sample | None]] = []
    with ThreadPoolExecutor(min(count, WAITERS_MAX)) as waiters:
        due = time.perf_counter()
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            if over:
                break
            due += every_s
            submitted, began = time.time(), time.perf_counter()
            answers.append(waiters.submit(answer, submit(), submitted, began))
    return [sample for each in answers if (sample := each.result()) is not None]
