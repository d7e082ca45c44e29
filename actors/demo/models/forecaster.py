"""Forecasts of the real series that statsmodels ships, fitted anew for every request.

Two methods are fitted to all but the last steps and judged on those: an autoregression with seasonal
lags, and damped Holt-Winters smoothing.  The better one is fitted again to everything.  Intervals are
the autoregression's own, or those of 200 simulated paths (Hyndman et al., *Forecasting with
Exponential Smoothing*, 2008, chapter 6).  A method that cannot be fitted leaves the field to the other
one; seasonal naive stands behind both.  Fits are never cached: in life a series has grown since.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from actors.demo.models.base import DemoModel
from balance.errors import InvalidValue
from balance.types import Priority, Resources, check_id, check_int

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    #: (values, season, horizon) -> rows 10 %, 50 %, 90 % of shape (3, horizon)
    Method = Callable[[Array, int, int], Array]

MAX_POINTS = 240
MAX_HORIZON = 48


class ForecasterModel(DemoModel):
    """Fits, compares and forecasts one series per request.

    Examples
    --------
    >>> values = [10.0 + (t % 4) + 0.01 * t for t in range(60)]
    >>> data = {"series/demo": {"values": values, "season": 4, "step": "quarter"}}
    >>> [result] = ForecasterModel().run([{"series": "demo", "horizon": 4}], data)
    >>> result["status"], [round(value, 1) for value in result["mean"]]
    ('ok', [10.6, 11.6, 12.6, 13.6])
    """

    model_id = "forecaster"
    demand = Resources.demand(cpu=1.0, memory=256 * 2**20)
    priority = Priority.MEDIUM
    objective_s = 2.0

    def needs(self, request: Mapping[str, Any]) -> list[str]:
        """Return ``["series/<name>"]``."""
        return [f"series/{check_id('series', request.get('series'))}"]

    def answer(self, request: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """Forecast ``request["series"]`` for ``request["horizon"]`` steps.  Cost: 20 to 200 ms.

        Returns
        -------
        dict
            ``series``, ``step`` (what one step is), ``mean``, ``q10`` and ``q90`` (lists of ``horizon``
            values in the unit of the series), ``method``, ``mae`` per method on the steps held back.
        """
        import numpy as np  # noqa: PLC0415 (importing the package stays cheap)

        horizon = check_int("horizon", request.get("horizon"), minimum=1)
        if horizon > MAX_HORIZON:
            raise InvalidValue("horizon", horizon, f"at most {MAX_HORIZON} steps")
        payload = data[self.needs(request)[0]]
        values = np.asarray(payload["values"], dtype=float)[-MAX_POINTS:]
        season = int(payload["season"])
        held = min(horizon, max(1, len(values) // 5))
        errors = _backtest(values, season, held)
        method = min(errors, key=lambda name: (errors[name], name))
        bands = _METHODS[method](values, season, horizon)
        return {
            "series": request["series"],
            "step": payload["step"],
            "mean": _rounded(bands[1]),
            "q10": _rounded(bands[0]),
            "q90": _rounded(bands[2]),
            "method": method,
            "mae": {name: round(error, 6) for name, error in sorted(errors.items())},
        }


def _backtest(values: Array, season: int, held: int) -> dict[str, float]:
    """Return the mean absolute error of each method that could be fitted, on the last `held` steps."""
    import numpy as np  # noqa: PLC0415

    errors = {}
    for name, method in _METHODS.items():
        try:
            forecast = method(values[:-held], season, held)[1]
        except (ValueError, np.linalg.LinAlgError, IndexError):
            continue
        error = float(np.mean(np.abs(forecast - values[-held:])))
        if np.isfinite(error):
            errors[name] = error
    if not errors:
        raise InvalidValue("values", len(values), "a series long enough to forecast")
    return errors


def _seasonal_naive(values: Array, season: int, horizon: int) -> Array:
    import numpy as np  # noqa: PLC0415

    season = season if len(values) > season else 1
    mean = values[len(values) - season + np.arange(horizon) % season]
    steps = values[season:] - values[:-season]
    spread = np.quantile(steps, [0.1, 0.9]) if len(steps) else np.zeros(2)
    cycles = np.sqrt(1 + np.arange(horizon) // season)
    return np.stack([mean + min(spread[0], 0) * cycles, mean, mean + max(spread[1], 0) * cycles])


def _autoregression(values: Array, season: int, horizon: int) -> Array:
    import numpy as np  # noqa: PLC0415
    from statsmodels.tsa.ar_model import AutoReg  # noqa: PLC0415

    lags = sorted({1, 2, 3} | ({season - 1, season, season + 1} if season > 4 else {season}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a fit thinks of itself is answered by the backtest
        fitted = AutoReg(values, lags=lags, trend="c").fit()
        ahead = fitted.get_prediction(len(values), len(values) + horizon - 1)
        low, high = np.asarray(ahead.conf_int(alpha=0.2)).T
    return np.stack([low, np.asarray(ahead.predicted_mean), high])


def _holt_winters(values: Array, season: int, horizon: int) -> Array:
    import numpy as np  # noqa: PLC0415
    from statsmodels.tsa.holtwinters import ExponentialSmoothing  # noqa: PLC0415

    seasonal = season > 1 and len(values) >= 3 * season
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = ExponentialSmoothing(
            values,
            trend="add",
            damped_trend=True,
            seasonal="add" if seasonal else None,
            seasonal_periods=season if seasonal else None,
            initialization_method="heuristic" if len(values) >= 2 * season + 10 else "estimated",
        ).fit()
        paths = fitted.simulate(horizon, repetitions=200, error="add", rng=np.random.default_rng(0))
    low, high = np.quantile(np.asarray(paths).reshape(horizon, -1), [0.1, 0.9], axis=1)
    return np.stack([low, np.asarray(fitted.forecast(horizon)), high])


_METHODS: dict[str, Method] = {
    "autoregression": _autoregression,
    "holt-winters": _holt_winters,
    "seasonal naive": _seasonal_naive,
}


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
