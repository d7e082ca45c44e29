"""How many requests will come: the forecast that the balancing loop asks for at every tick.

Two costs are kept apart.  The backtest that weighs the methods (tens of milliseconds) is done when a series
is new or what was learnt has aged, within a budget; a forecast with it costs a few milliseconds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Dict, NamedTuple, Optional

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.prediction.demand.result import DemandForecast
from balance.prediction.demand.steps import recorded
from balance.timeseries import Calibration, CombinedForecaster
from balance.timeseries.history import History
from balance.timeseries.series import Array
from balance.types import check_id, check_int, check_number

#: The series of `record` and `predict_load` unless another is named.
ALL = "all"
#: A forecast is cut into at least this many steps where the history is fine enough.
_STEPS = 6


@dataclass(frozen=True, slots=True, eq=False)
class _Learnt:
    calibration: Calibration | None
    at: float
    values: int


class _Key(NamedTuple):
    series_id: str
    step_s: float
    horizon: int
    season: int | tuple[int, ...] | None
    budget_s: float


class LoadPredictor:
    """Forecast request rates, out of recorded history or of counts that are passed in.

    Parameters
    ----------
    history : History, optional
        Where `record` writes and `predict_load` reads; shared with whoever else records.
    clock : Clock, optional
        Dates records and ages what was learnt.
    forecaster : CombinedForecaster, optional
        Makes the forecasts.
    refresh_s : float, default 30
        After so many seconds what was learnt of a series is learnt anew; sooner where the series has grown
        by half since.
    max_series : int, default 2000
        Series of which something is remembered; the one used longest ago is forgotten first.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> predictor = LoadPredictor(clock=clock)
    >>> for _ in range(300):
    ...     predictor.record(clock.wall(), 2)
    ...     clock.advance(1)
    >>> made = predictor.predict_load(time_window=60)
    >>> made["status"], made["step_s"], [round(v) for v in made["point"]], round(made["total"])
    ('ok', 10.0, [20, 20, 20, 20, 20, 20], 120)
    """

    def __init__(
        self,
        *,
        history: History | None = None,
        clock: Clock | None = None,
        forecaster: CombinedForecaster | None = None,
        refresh_s: float = 30.0,
        max_series: int = 2000,
    ) -> None:
        self._clock: Clock = clock or default("clock")
        self._history = History() if history is None else history
        self._forecaster = forecaster or CombinedForecaster(clock=self._clock)
        self._refresh_s = check_number("refresh_s", refresh_s, minimum=0, what="number of seconds")
        self._max_series = check_int("max_series", max_series, minimum=1)
        self._learnt: OrderedDict[_Key, _Learnt] = OrderedDict()

    def record(self, at: float, count: float = 1.0, series_id: str = ALL) -> None:
        """Record that `count` requests came at POSIX second `at`; `InvalidValue` for a negative count."""
        self._history.add(series_id, at, check_number("count", count, minimum=0))

    def predict_load(self, time_window: int = 60) -> dict:  # type: ignore[type-arg]  # the contract's annotation
        """Forecast the requests of the next `time_window` seconds from all that was recorded.

        Parameters
        ----------
        time_window : int, default 60
            Seconds ahead, at least the history's finest step.

        Returns
        -------
        dict
            The keys of `DemandForecast.to_dict` (``unit`` is ``requests_per_step``), those of `forecast_rate`,
            and ``total``: requests forecast for the whole window.
        """
        return self.predict_series(ALL, time_window)

    def predict_series(self, series_id: str, time_window: float, budget_s: float = 0.05) -> Dict[str, Any]:
        """Do what `predict_load` does for one recorded series."""
        check_id("series_id", series_id)
        window = check_number("time_window", time_window, minimum=self._history.base_step_s, what="number of seconds")
        values, step = recorded(self._history, series_id, "sum", self._clock.wall(), window / _STEPS)
        made = self.forecast_rate(series_id, values, step, max(1, round(window / step)), budget_s=budget_s)
        return {**made, "total": float(sum(made["point"]))}

    def forecast_rate(  # noqa: PLR0917 (the balancer's calls fix the order)
        self,
        series_id: str,
        values: Sequence[float] | Array,
        step_s: float,
        horizon_steps: int,
        season_steps: Optional[int | Sequence[int]] = None,
        budget_s: float = 0.05,
    ) -> Dict[str, Any]:
        """Forecast a series of counts; made to be called for many series at every tick.

        Parameters
        ----------
        series_id : str
            Under which what was learnt is remembered.
        values : sequence of float, shape (n,)
            Requests in each complete step, oldest first; NaN and infinite values are gaps.
        step_s : float
            Seconds a step.
        horizon_steps : int
            Steps ahead.
        season_steps : int or sequence of int, optional
            Season lengths; None finds them, 0 says that there is none.
        budget_s : float, default 0.05
            Seconds for learning anew when it is due.  From 0.1 on the fits of statsmodels take part.

        Returns
        -------
        dict
            The keys of `DemandForecast.to_dict`, ``unit`` being ``requests_per_step``;
            ``learnt_age_s``: seconds since the methods were last weighed;
            ``peak_per_s``: the largest 0.9 quantile as requests per second.

        Raises
        ------
        InvalidValue
            Values that are no numbers or negative, a step or horizon of 0 or less.

        Notes
        -----
        About 8 ms for 2016 values with a season.  Learning takes some 90 ms of them the first time (its first origin
        is always done, whatever the budget), 40 ms when the series has gone on; 4 ms where there are 576.
        """
        check_id("series_id", series_id)
        step = check_number("step_s", step_s, what="number of seconds")
        if step <= 0:
            raise InvalidValue("step_s", step_s, "a number of seconds above 0")
        counts = _counts(values)
        season = tuple(season_steps) if isinstance(season_steps, Sequence) else season_steps
        learnt = self._learn(_Key(series_id, step, horizon_steps, season, budget_s), counts)
        forecast = self._forecaster.forecast(
            counts, horizon_steps, season_steps, budget_s=budget_s, calibration=learnt.calibration
        )
        extra = {
            "learnt_age_s": self._clock.now() - learnt.at,
            "peak_per_s": float(forecast.quantiles[0.9].max()) / step,
        }
        return DemandForecast(series_id, forecast, step, "requests_per_step", extra).to_dict()

    def expire(self, series: Sequence[str] | None = None) -> None:
        """Let what was learnt of these series (of all by default) be learnt anew at their next forecast."""
        for key, known in self._learnt.items():
            if series is None or key.series_id in series:
                self._learnt[key] = replace(known, at=-math.inf)

    def _learn(self, key: _Key, counts: Array) -> _Learnt:
        """Return what is known of the series, learnt anew where that is due."""
        known, now = self._learnt.get(key), self._clock.now()
        if known is None or now - known.at >= self._refresh_s or len(counts) > 1.5 * known.values:
            calibration = self._forecaster.calibrate(
                counts, key.horizon, key.season, budget_s=key.budget_s, previous=known.calibration if known else None
            )
            known = self._learnt[key] = _Learnt(calibration, now, len(counts))
            if len(self._learnt) > self._max_series:
                self._learnt.popitem(last=False)
        self._learnt.move_to_end(key)
        return known


def _counts(values: Sequence[float] | Array) -> Array:
    try:
        counts = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise InvalidValue("values", values, "a flat sequence of numbers") from None
    if (counts < 0).any():
        raise InvalidValue("values", float(counts[counts < 0][0]), "counts, 0 or more")
    return counts
