"""The processes in which forecasts are fitted, so that no actor's loop shares its interpreter with a fit.

They belong to the `prediction` actor: Ray ends them when it ends, and starts one that died anew.  The operating
system gives them what the control plane leaves (`os.nice`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import NAMESPACE
from balance.prediction.demand import LoadPredictor
from balance.prediction.optimization.referee import COMBINATION
from balance.timeseries.combination import CombinedForecaster
from balance.timeseries.methods import NAIVE
from balance.timeseries.profiles import SEASONAL_NAIVE
from balance.timeseries.series import Array

PREFIX = "forecaster-"
"""What the names of these actors begin with."""

YIELDS_BY = 15
"""How much nicer a fit is to the scheduler of the operating system than the actors are; more so than tasks."""

CHUNK_S = 0.25
"""A call's fits are cut so that they take about this long: whoever asks for something else is heard after it."""


class Job(NamedTuple):
    """One series to be forecast: its id and its counts, oldest first; with the simple method if `plain`."""

    series: str
    values: Array
    plain: bool = False


class Plan(NamedTuple):
    """How to forecast: step, horizon, and what learning anew may take and when it is due."""

    step_s: float
    steps: int
    budget_s: float
    refresh_s: float


class FitterActor:
    """One process that fits.

    Parameters
    ----------
    name : str
        Its name among the actors.
    yields_by : int
        See `YIELDS_BY`.

    Examples
    --------
    >>> import numpy as np
    >>> fitter = FitterActor("forecaster-1", yields_by=0)
    >>> found = fitter.forecast([Job("whisper", np.full(60, 4.0))], Plan(1.0, 3, 0.05, 60.0))
    >>> [round(value, 6) for value in found["made"]["whisper"]["point"]], found["cpu_s"] > 0
    ([4.0, 4.0, 4.0], True)
    """

    def __init__(self, name: str, yields_by: int = YIELDS_BY) -> None:
        self.name = name
        os.nice(yields_by)
        self._load = LoadPredictor()
        self._simple = LoadPredictor(forecaster=CombinedForecaster(methods=(SEASONAL_NAIVE, NAIVE)))
        self._refresh_s = 0.0
        self._asked: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Balance<{self.name}>"

    def ping(self) -> dict[str, Any]:
        """Answer with who this is: ``role``, ``state``, ``pid``."""
        return {"role": self.name, "state": "ready", "pid": os.getpid()}

    def forecast(self, jobs: Sequence[Job], plan: Plan) -> dict[str, Any]:
        """Forecast as many of `jobs`, in their order, as take about `CHUNK_S` seconds; at least one.

        Returns
        -------
        dict
            ``made``: `LoadPredictor.forecast_rate` by series; ``failed``: what was raised, by series;
            ``cpu_s``: what it took of this process.
        """
        if plan.refresh_s != self._refresh_s:
            self._load, self._refresh_s = LoadPredictor(refresh_s=plan.refresh_s), plan.refresh_s
        began = time.process_time()
        made: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for job in jobs:
            try:
                made[job.series] = self._made(job, plan)
            except Exception as error:  # one series that makes no sense does not keep the others waiting
                failed[job.series] = f"{type(error).__name__}: {error}"
            if time.process_time() - began > CHUNK_S:
                break
        return {"made": made, "failed": failed, "cpu_s": time.process_time() - began}

    def _made(self, job: Job, plan: Plan) -> dict[str, Any]:
        """Return the forecast that is to be used; beside the simple one the other is made, to be judged on."""
        how = (job.series, job.values, plan.step_s, plan.steps)
        combined = self._load.forecast_rate(*how, budget_s=plan.budget_s)
        if not job.plain:
            return combined
        return {**self._simple.forecast_rate(*how, budget_s=0.0), "rivals": {COMBINATION: combined["point"]}}

    def expire(self, series: Sequence[str] | None = None) -> None:
        """Let what was learnt of these series (of all by default) be learnt anew by their next forecasts."""
        self._load.expire(series)

    def answer(self, where: str, method: str, history: Any, arguments: Sequence[Any]) -> tuple[Any, float]:
        """Return what a class of `balance.prediction` answers, and the CPU seconds that it took.

        Parameters
        ----------
        where : str
            ``module:class``.
        method : str
            Of the class.
        history : History
            What it reads, if it reads one.
        arguments : sequence
            Of the method.
        """
        began = time.process_time()
        module, _, name = where.partition(":")
        kind = getattr(importlib.import_module(module), name)
        if "history" in inspect.signature(kind).parameters:
            made = kind(history=history)
        else:  # what it has learnt of a model serves it the next time
            made = self._asked.setdefault(where, kind())
        return getattr(made, method)(*arguments), time.process_time() - began


def which(series: str, count: int) -> int:
    """Return which of so many fitters a series belongs to: the one that has learnt of it.

    Examples
    --------
    >>> which("whisper", 1), which("whisper", 4) == which("whisper", 4)
    (0, True)
    """
    return zlib.crc32(series.encode()) % count


def name_of(number: int, epoch: int) -> str:
    """Return the name of a fitter; the epoch keeps it from one that is just dying.

    Examples
    --------
    >>> name_of(0, 3)
    'forecaster-3-0'
    """
    return f"{PREFIX}{epoch}-{number}"


def start(number: int, epoch: int) -> Any:
    """Start one fitter on this node and return its handle."""
    name = name_of(number, epoch)
    where = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1, "max_task_retries": 2}
    return ray.remote(FitterActor).options(**options, scheduling_strategy=where).remote(name)
