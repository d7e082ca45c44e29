"""The actor that forecasts: it follows the history, keeps the latest forecast of each model, and tells its age.

Nothing is fitted here.  Fits run in processes of their own (`fitter`), within a budget of CPU time; whoever asks
for the models' forecasts gets what there is, at once.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from ray.exceptions import RayTaskError

from actors import fitter
from actors.base import Shell, ask
from actors.monitoring import ARRIVALS
from balance.prediction.demand import CpuBudget, ForecastBook
from balance.prediction.demand.load_predictor import ALL
from balance.timeseries.history import History

FOLLOW_S = 1.0
KEEP_S = 5.0
STEPS = 2016
"""How many steps of a series a forecast is made from, where so many are known."""

BATCH = 32
"""How many series go to a fitter at once; it does as many of them as take `fitter.CHUNK_S`."""

FRESH_S = 5.0
"""An answer that is not older is given again instead of computed anew."""

PATIENCE_S = 300.0
"""How long an answer of a fitter is awaited."""

COARSE_S = 30.0
HEAVY_S, LIGHT_S = 1.0, 0.09
"""What learning one series may take at most: where steps are at least `COARSE_S` long, and where they are shorter."""

FORECASTS = "forecasts"
DEMAND, PATTERN, TUNING = (f"balance.prediction.{part}." for part in ("demand", "pattern", "optimization"))


class PredictionActor(Shell):
    """Forecasts the demand of every model."""

    role: ClassVar[str] = "prediction"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.history = History()
        self.book = ForecastBook()
        self.book.restore(dict(self.store.scan(FORECASTS)))
        if (grid := self.store.get("prediction", "grid")) is not None:
            self.book.want(grid["step_s"], grid["steps"])
        self.cores = self.settings.forecast_cpu_share * len(os.sched_getaffinity(0))
        self.budget = CpuBudget(self.cores, clock=self.clock)
        self.made = 0
        self.failed: dict[str, str] = {}
        self._cursor: list[int] | None = None
        self._known_until = 0.0
        self._fitters: list[Any] = []
        self._due = asyncio.Condition()
        self._answers: dict[tuple[Any, ...], tuple[float, asyncio.Future[Any]]] = {}
        self.spawn(self.every(FOLLOW_S, self.follow))
        self.spawn(self.every(KEEP_S, self.keep))

    async def closed(self) -> None:
        """Keep the last forecasts."""
        await self.keep()

    async def keep(self) -> None:
        """Write down the forecasts that are new: the next incarnation tells them until it has made its own."""
        changed, grid = self.book.changed(), self.book.grid

        def write(tx: Any) -> None:
            tx.put_many(FORECASTS, changed)
            if grid is not None:
                tx.put("prediction", "grid", grid._asdict())

        if changed:
            await self.commit(write)

    # -- the history -------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take over what `monitoring` has recorded, and let the fitters look for what is due."""
        lacking = await ask("monitoring", "follow", self._cursor)
        if lacking["whole"] is not None:
            self.history = lacking["whole"]
        for series, at, value in lacking["points"]:
            self.history.add(series, at, value)
        self._cursor, self._known_until = lacking["cursor"], lacking["until"]
        if self._models():
            self._begin()
        async with self._due:
            self._due.notify_all()

    def _begin(self) -> None:
        """Start the fitters, once: a cluster that nobody asks for anything has none."""
        if not self._fitters:
            self._fitters = [fitter.start(number, self.fence.epoch) for number in range(max(1, math.ceil(self.cores)))]
            for number in range(len(self._fitters)):
                self.spawn(self._fit(number))

    def _models(self) -> list[str]:
        """Return the models of which requests are known within the reach of a forecast's past."""
        reach = STEPS * self.book.grid.step_s if self.book.grid is not None else 0.0
        return [
            series.removeprefix(ARRIVALS)
            for series in self.history.series()
            if series.startswith(ARRIVALS) and (self.history.latest(series) or 0.0) >= self._known_until - reach
        ]

    # -- the models' forecasts ---------------------------------------------------------------------

    async def rates(self, step_s: float, steps: int, models: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the latest forecast of each model's requests, without waiting for any.

        Parameters
        ----------
        step_s : float
            Seconds a step, from now on: forecasts that were made before may have other ones.
        steps : int
            How many steps ahead.
        models : list of str, optional
            Whose; all by default.

        Returns
        -------
        dict
            By model id `LoadPredictor.forecast_rate`, with ``starts_at``, ``age_s`` and ``status`` as
            `ForecastBook.latest` says.
        """
        self.book.want(step_s, steps)
        return self.book.latest(self.clock.wall(), models)

    async def refresh(self) -> dict[str, Any]:
        """Learn all models' series anew, and return when each has been forecast with that.

        Returns
        -------
        dict
            ``series`` (how many), ``seconds``, ``cpu_s``.
        """
        began, spent = self.clock.now(), self.budget.spent_s
        await asyncio.gather(*(each.expire.remote() for each in self._fitters))
        self.book.expire()
        series = self.book.expired
        async with self._due:
            self._due.notify_all()
            await self._due.wait_for(lambda: not self.book.expired)
        return {"series": series, "seconds": self.clock.now() - began, "cpu_s": self.budget.spent_s - spent}

    async def _fit(self, number: int) -> None:
        """Let one fitter do what is due of its series, the longest neglected first, as the budget allows."""
        while not self._closing:
            due = [
                name
                for name in self.book.due(self._models(), self._known_until)
                if fitter.which(name, len(self._fitters)) == number
            ]
            if not due or self.book.grid is None:
                async with self._due:
                    await self._due.wait()
                continue
            await asyncio.sleep(self.budget.wait_s())
            try:
                await self._fit_some(self._fitters[number], due[:BATCH])
                if not self.book.expired:
                    async with self._due:
                        self._due.notify_all()
            except Exception as error:  # Ray starts it anew
                self.log.warning("event=fitter_failed number=%d error=%r", number, error)
                await asyncio.sleep(FOLLOW_S)

    async def _fit_some(self, chosen: Any, names: list[str]) -> None:
        grid, now = self.book.grid, self._known_until
        assert grid is not None
        jobs = []
        for name in names:
            counts = self.history.counts(ARRIVALS + name, grid.step_s, STEPS, now)
            jobs.append(fitter.Job(name, counts[~(counts != counts)]))  # noqa: PLR0124 (NaN is not itself)
        plan = fitter.Plan(grid.step_s, grid.steps, self._learning_s(), self.settings.forecast_refresh_s)
        found = await asyncio.wait_for(chosen.forecast.remote(jobs, plan), PATIENCE_S)
        self.budget.spend(found["cpu_s"])
        for name, made in found["made"].items():
            self.book.put(name, made, grid.start(now))
            self.failed.pop(name, None)
        for name, error in found["failed"].items():
            self.failed[name] = error
            self.book.pass_over(name, grid.start(now))
        self.made += len(found["made"])

    def _learning_s(self) -> float:
        """Return what learning one series may take, a power of two: half of the budget goes into it."""
        grid = self.book.grid
        share = 0.5 * self.settings.forecast_refresh_s * self.cores / max(1, len(self._models()))
        most = HEAVY_S if grid is not None and grid.step_s >= COARSE_S else LIGHT_S
        return float(2.0 ** math.floor(math.log2(min(most, max(share, 1e-3)))))

    # -- what anybody may ask ------------------------------------------------------------------------

    async def predict_needs(self, model_id: str, recent_requests: list[Any]) -> dict[str, Any]:
        """As `ModelNeedsPredictor.predict_needs`, and ``age_s``."""
        where = DEMAND + "model_needs_predictor:ModelNeedsPredictor"
        return await self._ask_fitter(where, "predict_needs", model_id, recent_requests)

    async def predict_resources(self, model_id: str, recent_usage: list[Any]) -> dict[str, Any]:
        """As `ResourcePredictor.predict_resources`, and ``age_s``."""
        where = DEMAND + "resource_predictor:ResourcePredictor"
        return await self._ask_fitter(where, "predict_resources", model_id, recent_usage)

    async def predict_load(self, time_window: int = 60) -> dict[str, Any]:
        """As `LoadPredictor.predict_load` for the requests of all models, and ``age_s``."""
        return await self._remembered(
            ("predict_load", time_window),
            lambda: self._ask_fitter(DEMAND + "load_predictor:LoadPredictor", "predict_load", time_window, series=ALL),
        )

    async def record(self, at: float, count: float = 1.0) -> None:
        """Record that `count` requests came at POSIX second `at`, for `predict_load`."""
        await ask("monitoring", "record", [(ALL, at, count)])

    async def _remembered(self, key: tuple[Any, ...], make: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Return the answer to a question that was asked lately, with its age; those who ask at once share one."""
        now = self.clock.now()
        at, known = self._answers.get(key, (-math.inf, None))
        if known is None or now - at > FRESH_S:
            self._answers = {key: kept for key, kept in self._answers.items() if now - kept[0] <= FRESH_S}
            known = asyncio.ensure_future(make())
            at, _ = self._answers[key] = (now, known)
            known.add_done_callback(lambda done: self._forget(key) if done.cancelled() or done.exception() else None)
        answer = await asyncio.shield(known)
        return {**answer, "age_s": self.clock.now() - at}

    def _forget(self, key: tuple[Any, ...]) -> None:
        self._answers.pop(key, None)

    async def _ask_fitter(self, where: str, method: str, *arguments: Any, series: str | None = None) -> dict[str, Any]:
        """Let a class answer in a fitter's process, with the part of the history that is about its first argument."""
        subject = str(arguments[0]) if series is None else series
        names = [
            name for name in self.history.series() if name == subject or name.endswith((f"/{subject}", f":{subject}"))
        ]
        self._begin()
        chosen = self._fitters[fitter.which(subject, len(self._fitters))]
        call = chosen.answer.remote(where, method, self.history.part(names), arguments)
        try:
            answer, cpu_s = await asyncio.wait_for(call, PATIENCE_S)
        except RayTaskError as error:
            raise error.cause from None
        self.budget.spend(cpu_s)
        return {**answer, "age_s": 0.0}

    async def stats(self) -> dict[str, Any]:
        """Return what is forecast, and what it takes.

        Returns
        -------
        dict
            ``made``: how many forecasts; ``series``: of how many models there is one; ``oldest_s``: the age of the
            oldest; ``failed``: by model, why there is no new one; ``cpu_s``: CPU seconds of the fitters so far;
            ``cores``: how many they may take on average; ``fitters``: their names as actors.
        """
        ages = [each["age_s"] for each in self.book.latest(self.clock.wall()).values()]
        return {
            "made": self.made,
            "series": len(ages),
            "oldest_s": max(ages, default=0.0),
            "failed": dict(self.failed),
            "cpu_s": self.budget.spent_s,
            "cores": self.cores,
            "fitters": [fitter.name_of(number, self.fence.epoch) for number in range(len(self._fitters))],
        }
