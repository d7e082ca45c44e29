"""The actor that forecasts: it follows the history, keeps the latest forecast of each model, and tells its age.

Nothing is fitted here.  Fits run in processes of their own (`fitter`), within a budget of CPU time; whoever asks
for the models' forecasts gets what there is, at once.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from ray.util.metrics import Gauge

from actors import fitter
from actors.base import Shell, ask
from actors.monitoring import ARRIVALS
from actors.questions import PATIENCE_S, Questions
from balance.prediction.demand import CpuBudget, ForecastBook
from balance.prediction.demand.forecast_book import Grid
from balance.prediction.demand.load_predictor import ALL
from balance.prediction.optimization import Referee
from balance.timeseries.history import History

FOLLOW_S = 1.0
KEEP_S = 5.0
STEPS = 2016
"""How many steps of a series a forecast is made from, where so many are known."""

HISTORY = 600
"""How many steps before a forecast the simple rival that it is compared with may know."""

JUDGED_EVERY_S = 60.0
"""How often it is written down how forecasts did."""

BATCH = 32
"""How many series go to a fitter at once; it does as many of them as take `fitter.CHUNK_S`."""

COARSE_S = 30.0
HEAVY_S, LIGHT_S = 1.0, 0.09
"""What learning one series may take at most: where steps are at least `COARSE_S` long, and where they are shorter."""

FORECASTS, WISHES = "forecasts", "forecast_wishes"
ASKED_S = 600.0
"""A model of which nobody has asked for a forecast for so long gets none made any more."""

MOST_WISHES = 4
"""In how many different steps forecasts are made at once; those that nobody has asked for longest go."""

NEEDS, RESOURCES, LOAD, USAGE, BEHAVIOR, TREND, TUNER = (
    f"balance.prediction.{where}"
    for where in (
        "demand.model_needs_predictor:ModelNeedsPredictor",
        "demand.resource_predictor:ResourcePredictor",
        "demand.load_predictor:LoadPredictor",
        "pattern.usage_analyzer:UsageAnalyzer",
        "pattern.behavior_analyzer:BehaviorAnalyzer",
        "pattern.trend_detector:TrendDetector",
        "optimization.prediction_tuner:PredictionTuner",
    )
)


@dataclass(slots=True, eq=False)
class Wish:
    """Forecasts in certain steps that somebody asks for; by model, or None for all of them, when that was last."""

    book: ForecastBook
    asked_at: dict[str | None, float] = field(default_factory=dict)

    def ask(self, models: list[str] | None, now: float) -> None:
        """Note that these models' forecasts are asked for, and forget whose were not for long."""
        for model in [None] if models is None else models:
            self.asked_at[model] = now
        for model in [model for model, at in self.asked_at.items() if now - at > ASKED_S]:
            del self.asked_at[model]


class PredictionActor(Shell):
    """Forecasts the demand of every model."""

    role: ClassVar[str] = "prediction"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.history = History()
        self.wishes: dict[Grid, Wish] = {}
        self.cores = self.settings.forecast_cpu_share * len(os.sched_getaffinity(0))
        self.budget = CpuBudget(self.cores, clock=self.clock)
        self.made = 0
        self.failed: dict[str, str] = {}
        self.referee = Referee()
        self._judged_until = self.clock.now()
        self._error = Gauge("balance_forecast_error", "Error over that of the simple rival.", tag_keys=("model",))
        self._inside = Gauge("balance_forecast_coverage", "Share inside the 80 % interval.", tag_keys=("model",))
        self._age = Gauge("balance_forecast_age_seconds", "Age of the oldest forecast.")
        self._cursor: list[int] | None = None
        self._known_until = 0.0
        self._fitters: list[Any] = []
        self._due = asyncio.Condition()
        self._questions = Questions(self._fitter_of, lambda: self.history, self.budget, self.clock)
        self._take_up()
        self.spawn(self.every(FOLLOW_S, self.follow))
        self.spawn(self.every(KEEP_S, self.keep))

    async def closed(self) -> None:
        """Keep the last forecasts."""
        await self.keep()

    def _take_up(self) -> None:
        """Read the forecasts of an earlier incarnation, and who wished for them."""
        for _, body in self.store.scan(WISHES):
            models = None if body["all"] else body["models"]
            self._wish(float(body["step_s"]), int(body["steps"]), models)
        for grid, wish in self.wishes.items():
            wish.book.restore(dict(self.store.scan(f"{FORECASTS}/{grid}")))
        if (scores := self.store.get("prediction", "referee")) is not None:
            self.referee.restore(scores)

    async def keep(self) -> None:
        """Write down the forecasts that are new: the next incarnation tells them until it has made its own."""
        changed = {grid: new for grid, wish in self.wishes.items() if (new := wish.book.changed())}
        asked = {
            str(grid): {
                **grid._asdict(),
                "all": None in wish.asked_at,
                "models": sorted(model for model in wish.asked_at if model is not None),
            }
            for grid, wish in self.wishes.items()
        }

        now, scores = self.clock.now(), None
        if now - self._judged_until >= JUDGED_EVERY_S:
            self._judged_until, scores = now, self.referee.snapshot()

        def write(tx: Any) -> None:
            tx.put_many(WISHES, asked)
            if scores is not None:
                tx.put("prediction", "referee", scores)
            for grid, forecasts in changed.items():
                tx.put_many(f"{FORECASTS}/{grid}", forecasts)

        if changed:
            await self.commit(write)

    # -- the history -------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take over what `monitoring` has recorded, and let the fitters look for what is due."""
        lacking = await ask("monitoring", "follow", self._cursor)
        if lacking["whole"] is not None:
            self.history = pickle.loads(lacking["whole"])  # noqa: S301 (from our own actor)
        for series, at, value in lacking["points"]:
            self.history.add(series, at, value)
        self._cursor, self._known_until = lacking["cursor"], lacking["until"]
        if self._models():
            self._begin()
        async with self._due:
            self._due.notify_all()
        await self._judge()
        now = self.clock.wall()
        ages = [each["age_s"] for wish in self.wishes.values() for each in wish.book.latest(now).values()]
        self._age.set(max(ages, default=0.0))

    async def _judge(self) -> None:
        """Score the forecasts whose truth has come; what loses to the simple method is not used next."""
        refit: set[str] = set()
        for wish in self.wishes.values():
            step_s, steps = wish.book.grid
            for name, kept in wish.book.ripe(self._known_until):
                known = self.history.counts(ARRIVALS + name, step_s, HISTORY + steps, kept.until)
                past = known[:-steps]
                made = {**kept.made, "seasons": kept.made.get("seasons", ())}
                verdict = self.referee.judge(f"{wish.book.grid}/{name}", made, known[-steps:].tolist(), past.tolist())
                if verdict["action"] in {"demote", "take_back"}:
                    self.log.info("event=forecast_%s model=%s reason=%s", verdict["action"], name, verdict["reason"])
                if self.referee.refits():
                    refit.add(name)
                self._show(name, self.referee.reports()[f"{wish.book.grid}/{name}"])
                await asyncio.sleep(0)
        if refit:
            await asyncio.gather(*(each.expire.remote(sorted(refit)) for each in self._fitters))

    def _show(self, name: str, report: dict[str, Any]) -> None:
        if report["mase"] is not None:
            self._error.set(report["mase"], tags={"model": name})
        inside = (report["coverage"].get("0.8") or {}).get("observed")
        if inside is not None:
            self._inside.set(inside, tags={"model": name})

    def _begin(self) -> None:
        """Start the fitters, once: a cluster that nobody asks for anything has none."""
        if not self._fitters:
            self._fitters = [fitter.start(number, self.fence.epoch) for number in range(max(1, math.ceil(self.cores)))]
            for number in range(len(self._fitters)):
                self.spawn(self._fit(number))

    def _models(self, wish: Wish | None = None) -> list[str]:
        """Return the models whose requests are to be forecast: those that had any within the reach of the past."""
        if wish is None:
            return sorted({name for each in self.wishes.values() for name in self._models(each)})
        since = self._known_until - STEPS * wish.book.grid.step_s
        everyone = None in wish.asked_at
        names = self.history.series() if everyone else sorted(f"{ARRIVALS}{model}" for model in wish.asked_at)
        return [
            name.removeprefix(ARRIVALS)
            for name in names
            if name.startswith(ARRIVALS) and (self.history.latest(name) or -math.inf) >= since
        ]

    # -- the models' forecasts ---------------------------------------------------------------------

    async def rates(self, step_s: float, steps: int, models: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the latest forecast of each model's requests, without waiting for any.

        Who has asked once gets new forecasts made, at every step, until nobody asks for such ones for a while.

        Parameters
        ----------
        step_s : float
            Seconds a step: a whole multiple of a second.
        steps : int
            How many steps ahead.
        models : list of str, optional
            Whose; of all of which requests were recorded by default.

        Returns
        -------
        dict
            By model id `LoadPredictor.forecast_rate`, with ``starts_at``, ``age_s`` and ``status`` as
            `ForecastBook.latest` says.
        """
        return self._wish(step_s, steps, models).book.latest(self.clock.wall(), models)

    def _wish(self, step_s: float, steps: int, models: list[str] | None) -> Wish:
        """Note what is asked for, and return it."""
        self.history.counts(ALL, step_s, 1, 0.0)  # raises where the history has no such steps
        book = ForecastBook(step_s, steps)
        wish = self.wishes.setdefault(book.grid, Wish(book))
        wish.ask(models, self.clock.now())
        if len(self.wishes) > MOST_WISHES:
            del self.wishes[min(self.wishes, key=lambda grid: max(self.wishes[grid].asked_at.values(), default=0.0))]
        return wish

    async def refresh(self, step_s: float, steps: int) -> dict[str, Any]:
        """Learn the series of those steps anew, and return when each has been forecast with that.

        Returns
        -------
        dict
            ``series`` (how many), ``seconds``, ``cpu_s``.
        """
        began, spent = self.clock.now(), self.budget.spent_s
        await asyncio.gather(*(each.expire.remote() for each in self._fitters))
        wish = self.wishes.get(Grid(step_s, steps))
        if wish is None:
            return {"series": 0, "seconds": 0.0, "cpu_s": 0.0}
        wish.book.expire()
        series = wish.book.expired
        async with self._due:
            self._due.notify_all()
            await self._due.wait_for(lambda: not wish.book.expired)
        return {"series": series, "seconds": self.clock.now() - began, "cpu_s": self.budget.spent_s - spent}

    async def _fit(self, number: int) -> None:
        """Let one fitter do what is due of its series, the longest neglected first, as the budget allows."""
        while not self._closing:
            found = self._next(number)
            if found is None:
                async with self._due:
                    await self._due.wait()
                continue
            await asyncio.sleep(self.budget.wait_s())
            try:
                await self._fit_some(self._fitters[number], *found)
            except Exception as error:  # Ray starts it anew
                self.log.warning("event=fitter_failed number=%d error=%r", number, error)
                await asyncio.sleep(FOLLOW_S)

    def _next(self, number: int) -> tuple[Wish, list[str]] | None:
        """Return what a fitter is to do now: of the wishes the one that is most steps behind."""
        best: tuple[float, Wish, list[str]] | None = None
        for wish in self.wishes.values():
            due = [
                name
                for name in wish.book.due(self._models(wish), self._known_until)
                if fitter.which(name, len(self._fitters)) == number
            ]
            if due:
                late = wish.book.late_steps(due[0], self._known_until)
                if best is None or late > best[0]:
                    best = (late, wish, due[:BATCH])
        return None if best is None else best[1:]

    async def _fit_some(self, chosen: Any, wish: Wish, names: list[str]) -> None:
        book, now = wish.book, self._known_until
        step_s, steps = book.grid
        jobs = []
        for name in names:
            counts = self.history.counts(ARRIVALS + name, step_s, STEPS, now)
            plain = self.referee.plain(f"{book.grid}/{name}")
            jobs.append(fitter.Job(name, counts[~np.isnan(counts)], plain))
        plan = fitter.Plan(step_s, steps, self._learning_s(wish), self.settings.forecast_refresh_s)
        found = await asyncio.wait_for(chosen.forecast.remote(jobs, plan), PATIENCE_S)
        self.budget.spend(found["cpu_s"])
        for name, made in found["made"].items():
            book.put(name, made, book.grid.start(now))
            self.failed.pop(name, None)
        for name, error in found["failed"].items():
            self.failed[name] = error
            book.pass_over(name, book.grid.start(now))
        self.made += len(found["made"])
        if not book.expired:
            async with self._due:
                self._due.notify_all()

    def _learning_s(self, wish: Wish) -> float:
        """Return what learning one series may take, a power of two: half of the budget goes into it."""
        share = 0.5 * self.settings.forecast_refresh_s * self.cores / max(1, len(self._models()))
        most = HEAVY_S if wish.book.grid.step_s >= COARSE_S else LIGHT_S
        return float(2.0 ** math.floor(math.log2(min(most, max(share, 1e-3)))))

    # -- what anybody may ask: the contract's classes, on the recorded history ---------------------

    async def predict_needs(self, model_id: str, recent_requests: list[Any]) -> dict[str, Any]:
        """As `ModelNeedsPredictor.predict_needs`, and ``age_s``."""
        return await self._questions.now(model_id, NEEDS, "predict_needs", model_id, recent_requests)

    async def predict_resources(self, model_id: str, recent_usage: list[Any]) -> dict[str, Any]:
        """As `ResourcePredictor.predict_resources`, and ``age_s``."""
        return await self._questions.now(model_id, RESOURCES, "predict_resources", model_id, recent_usage)

    async def predict_load(self, time_window: int = 60) -> dict[str, Any]:
        """As `LoadPredictor.predict_load` for the requests of all models, and ``age_s``."""
        return await self._questions.lately(ALL, LOAD, "predict_load", time_window)

    async def analyze_usage(self, model_id: str, time_window: int = 60) -> dict[str, Any]:
        """As `UsageAnalyzer.analyze_usage` for the model's requests, and ``age_s``."""
        return await self._questions.lately(model_id, USAGE, "analyze_usage", model_id, time_window)

    async def analyze_behavior(self, model_id: str, time_window: int = 300) -> dict[str, Any]:
        """As `BehaviorAnalyzer.analyze_behavior` for the model's requests, and ``age_s``."""
        return await self._questions.lately(model_id, BEHAVIOR, "analyze_behavior", model_id, time_window)

    async def detect_trend(self, model_id: str, time_window: int = 86400) -> dict[str, Any]:
        """As `TrendDetector.detect_trend` for the model's requests, and ``age_s``."""
        return await self._questions.lately(model_id, TREND, "detect_trend", model_id, time_window)

    async def tune_predictions(self, model_id: str, prediction_data: dict[str, Any]) -> dict[str, Any]:
        """As `PredictionTuner.tune_predictions`, and ``age_s``."""
        return await self._questions.now(model_id, TUNER, "tune_predictions", model_id, prediction_data)

    async def monitor_accuracy(
        self, model_id: str, actual_data: dict[str, Any], predicted_data: dict[str, Any]
    ) -> dict[str, Any]:
        """As `AccuracyMonitor.monitor_accuracy`, and ``age_s``; the models' own forecasts are scored without it."""
        return {**self.referee.monitor.monitor_accuracy(model_id, actual_data, predicted_data), "age_s": 0.0}

    async def optimize_model(self, model_id: str, accuracy_data: dict[str, Any]) -> dict[str, Any]:
        """As `ModelOptimizer.optimize_model`, and ``age_s``."""
        return {**self.referee.optimizer.optimize_model(model_id, accuracy_data), "age_s": 0.0}

    async def accuracy(self) -> dict[str, dict[str, Any]]:
        """Return how the models' forecasts have done of late, by step and model: see `Referee.reports`."""
        return self.referee.reports()

    async def record(self, at: float, count: float = 1.0) -> None:
        """Record that `count` requests came at POSIX second `at`, for `predict_load`."""
        await ask("monitoring", "record", [(ALL, at, count)])

    def _fitter_of(self, subject: str) -> Any:
        self._begin()
        return self._fitters[fitter.which(subject, len(self._fitters))]

    async def stats(self) -> dict[str, Any]:
        """Return what is forecast, and what it takes.

        Returns
        -------
        dict
            ``made``: how many forecasts; ``series``: how many are kept; ``oldest_s``: the age of the oldest;
            ``failed``: by model, why there is no new one; ``cpu_s``: CPU seconds of the fitters so far; ``cores``: how
            many they may take on average; ``fitters``: their names as actors.
        """
        now = self.clock.wall()
        ages = [each["age_s"] for wish in self.wishes.values() for each in wish.book.latest(now).values()]
        return {
            "made": self.made,
            "series": len(ages),
            "oldest_s": max(ages, default=0.0),
            "failed": dict(self.failed),
            "cpu_s": self.budget.spent_s,
            "cores": self.cores,
            "fitters": [fitter.name_of(number, self.fence.epoch) for number in range(len(self._fitters))],
        }
