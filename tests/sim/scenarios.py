"""What the scenarios share: streams of one tenant, and how long someone whose turn it was had to wait."""

from __future__ import annotations

from typing import Any

import numpy as np

from balance.core.scheduler.spec import TaskSpec
from balance.simulation import History, Job, Lengths, Stream, poisson
from balance.types import Resources


def endless(name: str, demand: Resources, rate_per_s: float, lengths: Lengths, seed: int, **spec: Any) -> Stream:
    """Return an endless stream of one kind of task; `spec` are further fields of `TaskSpec`."""
    hint = spec.pop("hint", None)
    template = TaskSpec(name, name=name, demand=demand, **spec)
    stream = Stream(template, poisson(rate_per_s), lengths, seed=seed)
    return stream if hint is None else Stream(template, poisson(rate_per_s), lengths, hint, seed=seed)


def later(stream: Stream, by_s: float) -> Any:
    """Yield the jobs of a stream, each `by_s` seconds later."""
    return (Job(job.at_s + by_s, job.run_s, job.spec) for job in stream)


def named(history: History, prefix: str) -> list[int]:
    """Return the numbers of the tasks whose id begins with `prefix`."""
    return [number for number, task_id in enumerate(history.task_ids) if task_id.startswith(prefix)]


def delays(history: History, prefix: str) -> list[tuple[float, float]]:
    """Return for each task with this prefix ``(waited, longest)``, in seconds.

    `waited` counts from the moment at which everyone who came before it had started (its turn), `longest` is
    the longest run among those that ran at that moment: what it has to wait for at most if nobody is let
    in between.
    """
    out = []
    run_s = history.finished - history.started
    others = np.ones(len(run_s), dtype=bool)
    others[named(history, prefix)] = False
    for number in named(history, prefix):
        start = history.started[number]
        if np.isnan(start):
            continue
        before = history.started[:number]
        turn = max(np.max(before[before <= start], initial=0.0), history.submitted[number])
        ran = others & (history.started <= turn) & ~(history.finished <= turn)
        out.append((float(start - turn), float(np.nanmax(run_s[ran], initial=0.0))))
    return out


def relative_shares(history: History, begin: float, end: float) -> dict[str, float]:
    """Return each tenant's part of what all of them held (dominant shares) in a window."""
    shares = history.dominant_shares(begin, end)
    return {tenant: share / sum(shares.values()) for tenant, share in shares.items()}
