"""Forecasts and backtests of many series, in processes of their own; what one series does wrong stays with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

from balance.clock import SystemClock
from balance.errors import ClusterError

#: Of the seconds that a series may take this part goes into learning; the rest is for the last fit that it began,
#: and for the fits at the end of the series, which the budget of the learning does not count.
_LEARNING = 0.45
#: Series that go to a process at once.
_CHUNK = 2


class Job(NamedTuple):
    """One series, and what is asked of it."""

    series_id: str
    values: Any
    horizon: int
    season: tuple[int, ...] | None
    budget_s: float
    origins: int = 0


class CpuClock(SystemClock):
    """A clock that measures this process's CPU time: a budget means the same on a busy machine.

    Examples
    --------
    >>> clock = CpuClock()
    >>> clock.now() <= clock.now()
    True
    """

    def now(self) -> float:
        return time.process_time()


def forecast(job: Job) -> dict[str, Any]:
    """Return the forecast of one series: the keys of `Forecast.to_dict`, ``series_id`` and ``cpu_s``.

    What nobody foresaw is a ``status`` too: ``failed``, with the last value repeated.

    Examples
    --------
    >>> made = forecast(Job("a", [5.0] * 40, 2, None, 0.05))
    >>> made["status"], [round(value, 6) for value in made["point"]]
    ('ok', [5.0, 5.0])
    """
    from balance.timeseries import CombinedForecaster  # noqa: PLC0415 (numpy: the worker pays)

    clock = CpuClock()
    began = clock.now()
    forecaster = CombinedForecaster(clock=clock, budget_s=_LEARNING * job.budget_s)
    try:
        made = forecaster.forecast(job.values, job.horizon, job.season).to_dict()
    except Exception as error:  # the other series are worth something without this one
        made = CombinedForecaster(clock=clock).forecast([], job.horizon).to_dict()
        last = next((float(value) for value in reversed(list(job.values)) if abs(value) <= 1e100), 0.0)
        made["point"] = [last] * job.horizon
        made["quantiles"] = {level: [last] * job.horizon for level in made["quantiles"]}
        made |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"series_id": job.series_id, **made, "cpu_s": clock.now() - began}


def backtest(job: Job) -> dict[str, Any]:
    """Return how each method did on one series: ``series_id``, ``methods`` (of `MethodAccuracy.to_dict`), ``error``."""
    from balance.prediction.optimization.rolling_origin import rolling_origin  # noqa: PLC0415 (as above)

    found: list[dict[str, Any]] = []
    error = None
    try:
        made = rolling_origin(
            job.values,
            job.horizon,
            job.season,
            origins=job.origins,
            budget_s=_LEARNING * job.budget_s,
            clock=CpuClock(),
        )
        found = [one.to_dict() for one in made]
    except Exception as problem:  # as above
        error = f"{type(problem).__name__}: {problem}"
    return {"series_id": job.series_id, "methods": found, "error": error}


def _leave_interrupts() -> None:
    """Let Ctrl-C end the command, which ends this process when its series are done: no tracebacks of workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(work: Callable[[Job], dict[str, Any]], jobs: Sequence[Job], processes: int) -> Iterator[dict[str, Any]]:
    """Yield what `work` makes of each job, in their order, with so many processes; here, where one is enough.

    Raises
    ------
    ClusterError
        A process died: out of memory, most likely.
    """
    # One series a core: a linear algebra library that takes all cores for each would only stand in its own way.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if processes <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    # Not forked: the progress bar has a thread.
    context = get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_leave_interrupts) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=_CHUNK if len(jobs) > 4 * processes else 1)
        except BrokenProcessPool:
            raise ClusterError("a process that forecast died, most likely for want of memory; try --jobs 1") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
