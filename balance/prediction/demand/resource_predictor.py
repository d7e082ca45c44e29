"""How much CPU, memory, storage and GPU a model will use, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Dict

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.prediction.demand.steps import mean_by_step, recorded
from balance.timeseries.combination import CombinedForecaster
from balance.timeseries.forecast import Forecast, Forecaster
from balance.timeseries.history import History
from balance.timeseries.series import Array
from balance.timeseries.timestamps import parse_timestamp
from balance.types import check_id, check_int, check_number

#: What is forecast, with its unit.
UNITS = {"cpu": "cores", "memory": "bytes", "storage": "bytes", "gpu": "devices"}
#: Records looked at: the newest in the order of the list.
MOST_RECORDS = 20_000


class ResourcePredictor:
    """Forecast what a model will use of each resource.

    Parameters
    ----------
    history : History, optional
        Where to look for gauges (series ``<resource>:<model_id>``) when no usage is passed.
    clock : Clock, optional
        Measures the forecaster's budget, and says what is recent in the history.
    forecaster : Forecaster, optional
        Makes the forecasts.
    horizon_steps : int, default 12
        Steps ahead.

    Examples
    --------
    >>> usage = [{"timestamp": 10.0 * i, "cpu": 2.0, "memory": 2**30} for i in range(50)]
    >>> made = ResourcePredictor().predict_resources("whisper", usage)
    >>> made["status"], made["status_by_resource"]["gpu"], made["horizon_s"]
    ('ok', 'not_measured', 120.0)
    >>> round(made["recommended"]["cpu"], 6)
    2.0
    """

    def __init__(
        self,
        *,
        history: History | None = None,
        clock: Clock | None = None,
        forecaster: Forecaster | None = None,
        horizon_steps: int = 12,
    ) -> None:
        self._clock: Clock = clock or default("clock")
        self._history = history
        self._forecaster: Forecaster = forecaster or CombinedForecaster(clock=self._clock)
        self._horizon = check_int("horizon_steps", horizon_steps, minimum=1)

    def predict_resources(self, model_id: str, recent_usage: list) -> dict:  # type: ignore[type-arg]  # the contract's
        """Forecast each resource's use over the next steps.

        Parameters
        ----------
        model_id : str
            The model.
        recent_usage : list of dict
            Each with any of ``cpu`` (cores), ``memory`` (bytes), ``storage`` (bytes), ``gpu`` (devices), and
            optionally ``timestamp``.  Missing, None, NaN and infinite readings are gaps.  Where all records are
            dated their order does not matter; otherwise each is one step, in the order of the list.

        Returns
        -------
        dict
            ``model_id``;
            ``status``: ``ok`` where every measured resource has a forecast, else ``insufficient_data``;
            ``status_by_resource``: ``ok``, ``insufficient_data`` or ``not_measured`` (then it is in none of the below);
            ``horizon_steps``; ``step_s``, ``horizon_s``: seconds, or None where records are not dated;
            ``unit``, ``point``, ``quantiles``, ``method``, ``reason``, ``seasons``, ``weights``, ``notes``,
            ``backtest``: each by resource, as in `DemandForecast.to_dict`;
            ``recommended``: by resource, the largest 0.9 quantile ahead: what to reserve;
            ``record_count``.

        Raises
        ------
        InvalidValue
            A record that is no dict, a negative reading or one that is no number, a bad timestamp.
        """
        check_id("model_id", model_id)
        if not isinstance(recent_usage, list | tuple):
            raise InvalidValue("recent_usage", recent_usage, "a list of dicts")
        records = recent_usage[-MOST_RECORDS:]
        if not records and self._history is not None:
            readings, step_s = self._recorded(self._history, model_id)
        else:
            readings, step_s = _by_step(*_read(records))
        forecasts = {
            resource: self._forecaster.forecast(values, self._horizon)
            for resource, values in readings.items()
            if np.isfinite(values).any()
        }
        return self._result(model_id, forecasts, step_s, len(records))

    def _recorded(self, history: History, model_id: str) -> tuple[Dict[str, Array], float | None]:
        now = self._clock.wall()
        found = {resource: recorded(history, f"{resource}:{model_id}", "mean", now) for resource in UNITS}
        return {resource: values for resource, (values, _) in found.items()}, found["cpu"][1]

    def _result(
        self, model_id: str, forecasts: Dict[str, Forecast], step_s: float | None, record_count: int
    ) -> Dict[str, Any]:
        made = {resource: forecast.to_dict() for resource, forecast in forecasts.items()}
        enough = bool(made) and all(one["status"] == "ok" for one in made.values())
        keys = ("point", "quantiles", "method", "reason", "seasons", "weights", "notes", "backtest")
        return {
            "model_id": model_id,
            "status": "ok" if enough else "insufficient_data",
            "status_by_resource": {name: made[name]["status"] if name in made else "not_measured" for name in UNITS},
            "horizon_steps": self._horizon,
            "step_s": step_s,
            "horizon_s": None if step_s is None else step_s * self._horizon,
            "unit": {resource: UNITS[resource] for resource in made},
            **{key: {resource: one[key] for resource, one in made.items()} for key in keys},
            "recommended": {name: float(forecast.quantiles[0.9].max()) for name, forecast in forecasts.items()},
            "record_count": record_count,
        }


def _read(records: Any) -> tuple[list[float], Dict[str, list[float]]]:
    """Return the times (empty unless every record has one) and each resource's readings, NaN for gaps."""
    times: list[float] = []
    readings: Dict[str, list[float]] = {resource: [] for resource in UNITS}
    for record in records:
        if not isinstance(record, Mapping):
            raise InvalidValue("usage", record, "a dict with any of " + ", ".join(UNITS))
        if record.get("timestamp") is not None:
            times.append(parse_timestamp(record["timestamp"]))
        for resource, values in readings.items():
            values.append(_reading(resource, record.get(resource)))
    return (times if len(times) == len(records) else []), readings


def _by_step(times: list[float], readings: Dict[str, list[float]]) -> tuple[Dict[str, Array], float | None]:
    """Return each resource's readings in equal steps, and the step in seconds; None where a step is a record."""
    binned = {resource: mean_by_step(times, values) for resource, values in readings.items()} if times else {}
    series, step_s = {}, None
    for resource, values in readings.items():
        made = binned.get(resource)
        series[resource], step_s = made or (np.array(values, dtype=float), step_s)
    return series, step_s


def _reading(resource: str, value: object) -> float:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.nan
    return check_number(resource, value, minimum=0, what=f"number of {UNITS[resource]}")
