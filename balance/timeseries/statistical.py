"""The methods that statsmodels fits.  It is imported at the first fit: that takes about a second.

`exponential_smoothing` is Holt-Winters with a damped trend in state-space form (R. Hyndman et al.,
"Forecasting with Exponential Smoothing", 2008); `statsmodels_autoregression` is AutoReg on the seasonal lags.
"""

from __future__ import annotations

import numpy as np

from balance.timeseries.autoregression import lags
from balance.timeseries.methods import Method, Problem
from balance.timeseries.series import Array

#: Seasons longer than this make a state per step and a fit of many seconds.
_LONGEST_SEASON = 60
#: Cycles that the fit sees: older ones have lost their weight to the smoothing anyway.
_CYCLES = 12
_ITERATIONS = 40


def exponential_smoothing(problem: Problem) -> Array | None:
    """Fit additive error, damped trend and, where a season of at most 60 steps fits twice, that season."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel  # noqa: PLC0415 (costs a second, once)

    season = problem.season
    seasonal = season is not None and 2 <= season <= _LONGEST_SEASON and 2 * season + 10 <= len(problem.values)
    if season is not None and not seasonal:
        return None
    y = problem.values[-_CYCLES * season :] if seasonal and season else problem.values[-300:]
    if len(y) < 10 or np.ptp(y) == 0:
        return None
    model = ETSModel(
        y,
        error="add",
        trend="add",
        damped_trend=True,
        seasonal="add" if seasonal else None,
        seasonal_periods=season if seasonal else None,
        initialization_method="heuristic",
    )
    return np.asarray(model.fit(disp=False, maxiter=_ITERATIONS).forecast(problem.horizon))


def statsmodels_autoregression(problem: Problem) -> Array | None:
    """Fit `AutoReg` with a constant on the lags of `autoregression.lags`, by least squares."""
    from statsmodels.tsa.ar_model import AutoReg  # noqa: PLC0415 (costs a second, once)

    chosen = lags(problem, cycles=2)
    if not chosen or np.ptp(problem.values) == 0:
        return None
    n = len(problem.values)
    fitted = AutoReg(problem.values, lags=chosen, trend="c").fit()
    return np.asarray(fitted.predict(start=n, end=n + problem.horizon - 1))


EXPONENTIAL_SMOOTHING = Method("exponential_smoothing", exponential_smoothing, heavy=True)
STATSMODELS_AUTOREGRESSION = Method("statsmodels_autoregression", statsmodels_autoregression, heavy=True)
