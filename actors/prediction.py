"""The actor that forecasts: fits run in a thread, so that a call for what is known never waits for one."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from actors.base import Shell
from balance.prediction.demand import LoadPredictor, ModelNeedsPredictor, ResourcePredictor
from balance.timeseries.history import History


class PredictionActor(Shell):
    """Forecasts the demand of every model with statsmodels and its rivals."""

    role: ClassVar[str] = "prediction"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.history = History()
        self.load = LoadPredictor(history=self.history, clock=self.clock)
        self.needs = ModelNeedsPredictor(history=self.history, clock=self.clock)
        self.resources = ResourcePredictor(history=self.history, clock=self.clock)
        self._turn = asyncio.Lock()
        self.made = 0

    async def predict_needs(self, model_id: str, recent_requests: list[Any]) -> dict[str, Any]:
        """As `ModelNeedsPredictor.predict_needs`."""
        async with self._turn:
            return await asyncio.to_thread(self.needs.predict_needs, model_id, recent_requests)

    async def predict_resources(self, model_id: str, recent_usage: list[Any]) -> dict[str, Any]:
        """As `ResourcePredictor.predict_resources`."""
        async with self._turn:
            return await asyncio.to_thread(self.resources.predict_resources, model_id, recent_usage)

    async def predict_load(self, time_window: int = 60) -> dict[str, Any]:
        """As `LoadPredictor.predict_load`."""
        async with self._turn:
            return await asyncio.to_thread(self.load.predict_load, time_window)

    async def record(self, at: float, count: float = 1.0) -> None:
        """As `LoadPredictor.record`."""
        self.load.record(at, count)

    async def forecast_rates(
        self, series: dict[str, list[float | None]], step_s: float, horizon_steps: int
    ) -> dict[str, dict[str, Any]]:
        """Forecast the arrivals of several models; see `LoadPredictor.forecast_rate`.

        Parameters
        ----------
        series : dict of str to list
            Counts of the last complete steps by model, oldest first; None where nothing is known.
        """

        def work() -> dict[str, dict[str, Any]]:
            return {
                name: self.load.forecast_rate(name, known, step_s, horizon_steps)
                for name, values in sorted(series.items())
                if (known := [value for value in values if value is not None])
            }

        async with self._turn:
            made = await asyncio.to_thread(work)
        self.made += len(made)
        return made

    async def stats(self) -> dict[str, Any]:
        """Return ``made``: how many forecasts."""
        return {"made": self.made}
