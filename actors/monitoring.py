"""The actor that measures: once a second it asks every other actor for its figures and keeps their history."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict, deque
from typing import Any, ClassVar

from ray.util.metrics import Gauge, Histogram

from actors.base import Shell, ask
from actors.chronicle import Chronicle, Point
from balance.prediction.demand.load_predictor import ALL
from balance.timeseries.history import History

PERIOD_S = 1.0
KEEP_S = 5.0
RECORDED = 7200
"""Seconds of second-by-second records that are kept for a report; the history in tiers reaches further back."""

ARRIVALS = "arrivals/"
"""What the series of a model's requests begin with."""

ASKED = ("resource_allocator", "scheduler", "batches", "data_coordinator", "messaging")
LATENCY_BOUNDS_S = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]


class MonitoringActor(Shell):
    """Observes the system for the balancing loop, for reports and for Ray's metrics."""

    role: ClassVar[str] = "monitoring"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.history = History()
        self.chronicle = Chronicle(self.history, self.fence.epoch)
        self.chronicle.restore(self.store)
        self.latest: dict[str, Any] = {}
        self.records: deque[dict[str, Any]] = deque(maxlen=RECORDED)
        self.start_latency: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=20_000))
        self.problems: dict[str, dict[str, Any]] = {}
        self._queued = Gauge("balance_queued", "Requests and tasks that wait.", tag_keys=("model",))
        self._running = Gauge("balance_running", "Batches that run.", tag_keys=("model",))
        self._cpu = Gauge("balance_cpu_cores", "Cores of the cluster.", tag_keys=("kind",))
        self._latency = Histogram(
            "balance_start_latency_seconds",
            "From accepted to started.",
            boundaries=LATENCY_BOUNDS_S,
            tag_keys=("priority",),
        )
        self.spawn(self.every(PERIOD_S, self.measure))
        self.spawn(self.every(KEEP_S, self.keep))

    async def closed(self) -> None:
        """Keep what was measured last."""
        await self.keep()

    async def keep(self) -> None:
        """Write down what is new; the next incarnation forecasts from it."""
        page = self.chronicle.page()
        try:
            await self.commit(page.write)
        except BaseException:
            self.chronicle.not_written(page)
            raise

    async def measure(self) -> None:
        """Ask everyone once and record what they say; who does not answer is recorded as a problem."""
        answers = await asyncio.gather(*(ask(role, "stats", patience_s=5.0) for role in ASKED), return_exceptions=True)
        seen: dict[str, Any] = {"at": self.clock.wall()}
        for role, answer in zip(ASKED, answers, strict=True):
            if isinstance(answer, BaseException):
                self._problem(role, answer)
            else:
                seen[role] = answer
        self.latest = seen
        self._keep(seen)

    def _problem(self, role: str, error: BaseException) -> None:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        known = self.problems.setdefault(
            role + message, {"at": self.clock.wall(), "where": role, "message": message, "count": 0}
        )
        known["count"] += 1

    def _keep(self, seen: dict[str, Any]) -> None:
        batches = seen.get("batches", {})
        arrived = Counter((model_id, float(math.floor(at))) for at, model_id in batches.get("arrived", ()))
        self.chronicle.add(Point(ARRIVALS + model_id, at, float(count)) for (model_id, at), count in arrived.items())
        self.chronicle.add(Point(ALL, at, float(count)) for (_, at), count in arrived.items())
        for priority, latency_s in batches.get("start_latency", ()):
            self.start_latency[priority].append(latency_s)
            self._latency.observe(latency_s, tags={"priority": str(priority)})
        waiting: dict[str, int] = defaultdict(int)
        for model_id, model in batches.get("models", {}).items():
            self._queued.set(model["queued"], tags={"model": model_id})
            self._running.set(model["running"], tags={"model": model_id})
            for priority, count in model["queued_by_priority"].items():
                waiting[str(priority)] += count
        for priority, count in seen.get("scheduler", {}).get("queue", {}).get("queued_by_priority", {}).items():
            waiting[priority] += count
        record: dict[str, Any] = {"at": seen["at"], "queued_by_priority": dict(waiting)}
        cluster = seen.get("resource_allocator", {}).get("cluster")
        if cluster:
            record["cluster"] = cluster
            for kind in ("total", "reserved", "used"):
                value = cluster[kind]["cpu"]
                if value is not None:
                    self._cpu.set(value, tags={"kind": kind})
        self.records.append(record)

    async def record(self, points: list[tuple[str, float, float]]) -> None:
        """Record points of any series; what other actors forecast from.

        Parameters
        ----------
        points : list of (str, float, float)
            Series, POSIX second, value.  ``arrivals/<model>`` counts requests; `ALL` those of all models.
        """
        self.chronicle.add(Point(series, at, value) for series, at, value in points)

    async def follow(self, cursor: list[int] | None) -> dict[str, Any]:
        """Return what a follower of the history lacks (see `Chronicle.since`), and ``until`` when all is known."""
        return {**self.chronicle.since(cursor), "until": self.latest.get("at", 0.0)}

    async def observe(self, step_s: float, steps: int) -> dict[str, Any]:
        """Return the latest figures and the arrivals of the models in service, for the balancing loop.

        Returns
        -------
        dict
            ``at``, each asked actor's ``stats`` under its name, and ``arrivals``: by model id the counts
            of the last `steps` complete steps of `step_s` seconds, oldest first (None: not known).
        """
        now = self.clock.wall()
        arrivals = {
            model_id: [
                None if value != value else float(value)  # noqa: PLR0124 (NaN is not itself)
                for value in self.history.counts(ARRIVALS + model_id, step_s, steps, now)
            ]
            for model_id in self.latest.get("batches", {}).get("models", {})
        }
        return {**self.latest, "arrivals": arrivals}

    async def recorded(self, since: float) -> dict[str, Any]:
        """Return what was recorded since a moment (POSIX seconds), for a report.

        Returns
        -------
        dict
            ``records`` (a dict a second), ``arrivals`` (by model: ``[at, count]`` per second),
            ``start_latency`` (seconds by priority), ``problems``, and the ``latest`` figures.
        """
        now = self.clock.wall()
        seconds = max(1, min(RECORDED, int(now - since)))
        arrivals: dict[str, list[list[float]]] = {}
        for name in self.history.series():
            if name.startswith(ARRIVALS):
                counts = self.history.counts(name, PERIOD_S, seconds, now)
                first = int(now) - seconds
                arrivals[name.removeprefix(ARRIVALS)] = [
                    [first + index, 0.0 if value != value else float(value)]  # noqa: PLR0124
                    for index, value in enumerate(counts)
                ]
        return {
            "records": [record for record in self.records if record["at"] >= since],
            "arrivals": arrivals,
            "start_latency": {priority: list(values) for priority, values in self.start_latency.items()},
            "problems": list(self.problems.values()),
            "latest": self.latest,
        }

    async def stats(self) -> dict[str, Any]:
        """Return ``series`` (names), ``records`` (how many), ``problems``."""
        return {
            "series": self.history.series(),
            "records": len(self.records),
            "problems": list(self.problems.values()),
        }
