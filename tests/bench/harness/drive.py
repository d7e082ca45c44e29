"""Requests for a model at a rate that changes, sent and awaited by a program that has Ray alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVERY_S = 0.1
"""How often what has come meanwhile is sent."""

PATIENCE_S = 60.0


@dataclass(slots=True)
class Drive:
    """What became of the requests.

    Attributes
    ----------
    since : float
        Those before are not counted.
    sent : int
        How many.
    latency_s : list of float
        From sending a request to having its answer, in the order of the answers.
    failed : int
        Requests that ended otherwise.
    """

    since: float = 0.0
    sent: int = 0
    latency_s: list[float] = field(default_factory=list)
    failed: int = 0

    def missed(self, objective_s: float) -> int:
        """Return how many took longer than the objective, or failed."""
        return sum(1 for latency in self.latency_s if latency > objective_s) + self.failed


def arrivals(rates: Sequence[float], seed: int) -> list[float]:
    """Return moments, in seconds from the beginning, of requests at so many a second in each second.

    They come evenly, each moved by chance within its turn: the same load for everybody, with the noise of a clock.

    Examples
    --------
    >>> moments = arrivals([2.0, 0.0, 1.0], seed=1)
    >>> [int(moment) for moment in moments]
    [0, 0, 2]
    """
    rng = np.random.default_rng(seed)
    whole = np.floor(np.cumsum(rates) + 1e-9)
    counts = np.diff(np.r_[0.0, whole]).astype(int)
    return [
        float(second + (turn + rng.random()) / count) for second, count in enumerate(counts) for turn in range(count)
    ]


def drive(
    ray: Any,
    model: str,
    moments: Sequence[float],
    look: Callable[[float], None],
    *,
    since: float = 0.0,
    look_every_s: float = 0.5,
) -> Drive:
    """Send requests at their moments, await every answer, and call `look` with the time now and then.

    Those that are sent before `since` are not counted.
    """
    batches = ray.get_actor("batches", namespace="balance")
    begun, made = time.monotonic(), Drive(since)
    pending = _Pending()
    next_one, looked, number = 0, 0.0, 0
    while next_one < len(moments) or len(pending):
        now = time.monotonic() - begun
        if now > (moments[-1] if len(moments) else 0.0) + PATIENCE_S:
            made.failed += len(pending)  # whenever they were sent: they never end
            break
        due = []
        while next_one < len(moments) and moments[next_one] <= now:
            due.append(moments[next_one])
            next_one += 1
        if due:
            requests = [{"model_id": model, "text": f"{model}-{number + place}"} for place in range(len(due))]
            number += len(due)
            made.sent += sum(moment >= made.since for moment in due)
            pending.accepting[batches.submit_requests.remote(requests)] = due
        if now - looked >= look_every_s:
            looked = now
            look(now)
        _collect(ray, batches, pending, made, begun)
    return made


@dataclass(slots=True)
class _Pending:
    """References that are awaited, with the moments of the requests that they stand for."""

    accepting: dict[Any, list[float]] = field(default_factory=dict)
    answers: dict[Any, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.answers) + sum(len(each) for each in self.accepting.values())


def _collect(ray: Any, batches: Any, pending: _Pending, made: Drive, begun: float) -> None:
    """Take what has been accepted and answered within a moment."""
    everything = [*pending.accepting, *pending.answers]
    if not everything:
        time.sleep(EVERY_S)
        return
    ready, _ = ray.wait(everything, num_returns=len(everything), timeout=EVERY_S)
    for reference in ready:
        if reference in pending.accepting:
            ids, moments = ray.get(reference)["request_ids"], pending.accepting.pop(reference)
            for request_id, moment in zip(ids, moments, strict=True):
                pending.answers[batches.answer.remote(request_id, PATIENCE_S)] = moment
        else:
            moment = pending.answers.pop(reference)
            if moment < made.since:
                continue
            if ray.get(reference)["status"] == "completed":
                made.latency_s.append(time.monotonic() - begun - moment)
            else:
                made.failed += 1
