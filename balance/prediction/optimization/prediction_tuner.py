"""Choose and weigh forecasting methods for one series, within a time budget, and say why.

The forecaster's backtest does the work; what it learnt of a series is remembered under its model, so that
the next call for a series that has gone on from there only learns what is new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Dict, Optional

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.timeseries import Calibration, CombinedForecaster
from balance.timeseries.forecast import QUANTILES, Forecast
from balance.timeseries.regular import Regular, regular
from balance.types import check_id, check_int, check_number

#: What `prediction_data` may hold.
KEYS = ("values", "timestamps", "step_s", "horizon", "season", "budget_s", "quantiles")
#: Steps ahead where no horizon is given.
HORIZON = 12


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was chosen for one series.

    Attributes
    ----------
    model_id : str
        The model.
    forecast : Forecast
        What the chosen combination says comes next.
    calibration : Calibration, optional
        What was learnt; None where there is too little to learn from.
    step_s : float, optional
        Seconds a step; None where neither timestamps nor a step were given.
    series : Regular, optional
        How the timestamps were read; None without them.
    """

    model_id: str
    forecast: Forecast
    calibration: Optional[Calibration]
    step_s: Optional[float]
    series: Optional[Regular]

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON values; the keys are those of `PredictionTuner.tune_predictions`."""
        scores = self.calibration.scores if self.calibration else ()
        steps = len(self.forecast.point)
        return {
            "model_id": self.model_id,
            "horizon_steps": steps,
            "step_s": self.step_s,
            "horizon_s": None if self.step_s is None else self.step_s * steps,
            **self.forecast.to_dict(),
            "backtest_by_method": {score.name: score.to_dict() for score in scores},
            "spent_s": self.calibration.spent_s if self.calibration else 0.0,
            "duplicates": self.series.duplicates if self.series else 0,
            "unordered": self.series.unordered if self.series else 0,
            "gaps": self.series.gaps if self.series else 0,
        }


class PredictionTuner:
    """Tune the forecast of each model's series by rolling-origin backtest.

    Parameters
    ----------
    clock : Clock, optional
        Measures the budget.
    forecaster : CombinedForecaster, optional
        Holds the methods.
    max_models : int, default 2000
        Models of which something is remembered; the one tuned longest ago is forgotten first.

    Examples
    --------
    >>> weeks = [100 + 50 * ((hour % 24) > 8) for hour in range(24 * 21)]
    >>> made = PredictionTuner().tune_predictions("whisper", {"values": weeks, "step_s": 3600, "horizon": 24})
    >>> made["status"], made["seasons"], [round(value) for value in made["point"][8:10]]
    ('ok', [24, 168], [100, 150])
    >>> made["backtest_by_method"]["seasonal_naive"]["mae"]
    0.0
    """

    def __init__(
        self, *, clock: Clock | None = None, forecaster: CombinedForecaster | None = None, max_models: int = 2000
    ) -> None:
        self._clock: Clock = clock or default("clock")
        self._forecaster = forecaster or CombinedForecaster(clock=self._clock)
        self._max_models = check_int("max_models", max_models, minimum=1)
        self._learnt: OrderedDict[str, Calibration] = OrderedDict()

    def tune_predictions(self, model_id: str, prediction_data: dict) -> dict:  # type: ignore[type-arg]  # the contract's
        """Choose and combine methods for a series, and forecast with them.

        Parameters
        ----------
        model_id : str
            The model, or the name of the series.
        prediction_data : dict
            ``values``: numbers, oldest first unless dated; None, NaN and infinite ones are gaps.
            Optional: ``timestamps``, one for each value in any order (values that share a step are averaged,
            steps without one are gaps), ``step_s`` (seconds), ``horizon`` (steps, 12), ``season`` (steps or a
            list of them; found where left out, 0: none), ``budget_s`` (seconds for the backtest, 0.5),
            ``quantiles`` (levels, 0.1, 0.5, 0.9).

        Returns
        -------
        dict
            ``model_id``; ``status``: ``ok``, or ``insufficient_data`` (then the naive fallback is in use);
            ``horizon_steps``; ``step_s``, ``horizon_s``: seconds, or None where nothing says what a step is;
            ``point``, ``quantiles`` (by level, ``"0.1"``), in the unit of the values;
            ``method``: what is in use, heaviest first, ``weights`` (its shares) and ``reason``;
            ``backtest``: ``mae``, ``mase`` and ``origins`` of the combination;
            ``backtest_by_method``: for each method ``status`` (``used``, ``outweighed``, ``not_applicable``,
            ``failed``, ``no_time``), ``weight``, ``mae``, ``mase``, ``origins``, ``cost_s`` and ``reason``;
            ``seasons`` (steps); ``notes``: failed fits and warnings; ``spent_s``: seconds that learning took;
            ``duplicates``, ``unordered``, ``gaps``: what was wrong with the timestamps, as counts.

        Raises
        ------
        InvalidValue
            An unknown key, no ``values``, values that are no numbers, a bad timestamp, horizon, season, budget
            or level.
        """
        check_id("model_id", model_id)
        given = _checked(prediction_data)
        series, values, step_s = _series(given)
        horizon = given.get("horizon", HORIZON)
        levels = given.get("quantiles", QUANTILES)
        season, budget_s = given.get("season"), given.get("budget_s")
        calibration = self._forecaster.calibrate(
            values, horizon, season, budget_s=budget_s, previous=self._learnt.get(model_id)
        )
        forecast = self._forecaster.forecast(
            values, horizon, season, levels, budget_s=budget_s, calibration=calibration
        )
        self._remember(model_id, calibration)
        return Tuning(model_id, forecast, calibration, step_s, series).to_dict()

    def learnt(self, model_id: str) -> Calibration | None:
        """Return what is remembered of a model, for `CombinedForecaster.forecast`; None where nothing is."""
        return self._learnt.get(check_id("model_id", model_id))

    def _remember(self, model_id: str, calibration: Calibration | None) -> None:
        if calibration is None:
            self._learnt.pop(model_id, None)
            return
        self._learnt[model_id] = calibration
        self._learnt.move_to_end(model_id)
        if len(self._learnt) > self._max_models:
            self._learnt.popitem(last=False)


def _checked(prediction_data: object) -> Dict[str, Any]:
    if not isinstance(prediction_data, Mapping):
        raise InvalidValue("prediction_data", prediction_data, "a dict with at least values")
    given = {key: value for key, value in prediction_data.items() if value is not None}
    for key in given:
        if key not in KEYS:
            raise InvalidValue("prediction_data", key, "keys out of " + ", ".join(KEYS))
    if "values" not in given:
        raise InvalidValue("prediction_data", sorted(given), "a dict with at least values")
    if isinstance(given["values"], str) or not hasattr(given["values"], "__len__"):
        raise InvalidValue("values", given["values"], "a flat sequence of numbers")
    return given


def _series(given: Dict[str, Any]) -> tuple[Regular | None, Any, float | None]:
    """Return how the timestamps were read, the values in equal steps, and the step in seconds."""
    step_s: float | None = None
    if "step_s" in given:
        step_s = check_number("step_s", given["step_s"], what="number of seconds")
        if step_s <= 0:
            raise InvalidValue("step_s", step_s, "a number of seconds above 0")
    if "timestamps" not in given:
        return None, given["values"], step_s
    timestamps = given["timestamps"]
    if not isinstance(timestamps, Sequence) and not hasattr(timestamps, "tolist"):
        raise InvalidValue("timestamps", timestamps, "a sequence of moments")
    series = regular(given["values"], list(timestamps), step_s)
    return series, series.values, series.step_s
