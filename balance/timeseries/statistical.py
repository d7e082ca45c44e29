"""The methods that statsmodels fits.  It is imported at the first fit: that takes about a second.

Each learns its parameters once and goes by them for as long as the series goes on; a later fit starts from
them.  Cost for 700 to 960 values, a fit from nothing and a forecast with known parameters:

| Method | Fit | Forecast | Applies to |
| --- | --- | --- | --- |
| harmonic_regression | 6 ms | the same | a season, three of the shortest |
| theta | 60 ms | the same | ten values; a season of at most 400 steps is taken out first |
| decomposed_smoothing | 80 ms | 40 ms | a season of at most 400 steps, three of it |
| exponential_smoothing | 10 ms | 3 ms | ten values; a season of at most 60 steps |
| seasonal_arima | 100 ms | 5 ms | two seasons |
| unobserved_components | 300 ms | 8 ms | a season, three of the shortest |
"""

from __future__ import annotations

from typing import Any

import numpy as np

from balance.timeseries.methods import Method, Problem
from balance.timeseries.series import Array

#: Seasons longer than this make a state per step and a fit of many seconds.
_LONGEST_STATE = 60
#: Seasons longer than this are not decomposed: a smoother of so many series takes too long.
_LONGEST_DECOMPOSED = 400
#: Values that a fit sees at most: older ones have lost their weight anyway.
_SEEN, _SEEN_STATE = 2016, 700
_ITERATIONS, _ITERATIONS_WARM = 40, 8


def _recent(values: Array, season: int | None, most: int) -> Array:
    """Return the newest `most` values at most, whole seasons where there is one."""
    if season is None or len(values) <= most:
        return values[-most:]
    return values[-max(2, most // season) * season :]


def _iterations(problem: Problem) -> int:
    return _ITERATIONS if problem.known is None else _ITERATIONS_WARM


def _smoothing(values: Array, season: int | None) -> Any:
    """Return Holt-Winters' model with a damped trend, and a season where one is given."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel  # noqa: PLC0415 (costs a second, once)

    if len(values) < 10 or np.ptp(values) == 0:
        return None
    return ETSModel(
        values,
        error="add",
        trend="add",
        damped_trend=True,
        seasonal="add" if season else None,
        seasonal_periods=season,
        initialization_method="heuristic",
    )


def _fit_smoothing(problem: Problem, values: Array, season: int | None) -> Array | None:
    model = _smoothing(values, season)
    if model is None:
        return None
    start = problem.known if problem.known is not None and len(problem.known) == len(model.start_params) else None
    return np.asarray(model.fit(start_params=start, disp=False, maxiter=_iterations(problem)).params)


def _predict_smoothing(problem: Problem, values: Array, season: int | None) -> Array | None:
    model = _smoothing(values, season)
    if model is None or problem.known is None or len(problem.known) != len(model.start_params):
        return None
    return np.asarray(model.smooth(problem.known).forecast(problem.horizon))


def _state_season(problem: Problem) -> tuple[Array, int | None] | None:
    """Return what exponential smoothing sees and its season; None where the season is too long for it."""
    season, y = problem.season, problem.values
    if season is None:
        return y[-300:], None
    if season > _LONGEST_STATE or 2 * season + 10 > len(y):
        return None
    return y[-12 * season :], season


def fit_exponential_smoothing(problem: Problem) -> Array | None:
    """Fit additive error, damped trend and, where a season of at most 60 steps fits twice, that season."""
    seen = _state_season(problem)
    return None if seen is None else _fit_smoothing(problem, *seen)


def exponential_smoothing(problem: Problem) -> Array | None:
    """Forecast with the smoothing parameters `problem.known`."""
    seen = _state_season(problem)
    return None if seen is None else _predict_smoothing(problem, *seen)


def _decomposed(problem: Problem) -> tuple[Array, Array] | None:
    """Return the series without its season, by STL, and the season's next steps."""
    from statsmodels.tsa.seasonal import MSTL, STL  # noqa: PLC0415 (costs a second, once)

    season, long = problem.season, problem.long_season
    if season is None or not 3 < season <= _LONGEST_DECOMPOSED or len(problem.values) < 3 * season:
        return None
    y = _recent(problem.values, season, _SEEN)
    if np.ptp(y) == 0:
        return None
    if long is not None and long != season and long <= _LONGEST_DECOMPOSED and len(y) >= 3 * long:
        parts = np.asarray(MSTL(y, periods=(season, long), iterate=1, stl_kwargs=_jumps(season)).fit().seasonal)
        ahead = sum(np.resize(parts[-each:, k], problem.horizon) for k, each in enumerate((season, long)))
        return y - parts.sum(axis=1), np.asarray(ahead)
    part = np.asarray(STL(y, period=season, seasonal=13, **_jumps(season)).fit().seasonal)
    return y - part, np.resize(part[-season:], problem.horizon)


def _jumps(season: int) -> dict[str, int]:
    """Return how many steps STL interpolates over: a tenth of its windows, as its authors do; several times as fast."""
    return {"seasonal_jump": 2, "trend_jump": max(1, season // 7), "low_pass_jump": max(1, season // 10)}


def fit_decomposed_smoothing(problem: Problem) -> Array | None:
    """Fit exponential smoothing to what STL (MSTL where there are two seasons) leaves."""
    parts = _decomposed(problem)
    return None if parts is None else _fit_smoothing(problem, parts[0][-300:], None)


def decomposed_smoothing(problem: Problem) -> Array | None:
    """Go on with the seasons that STL finds and the level of exponential smoothing."""
    parts = _decomposed(problem)
    if parts is None:
        return None
    level = _predict_smoothing(problem, parts[0][-300:], None)
    return None if level is None else level + parts[1]


def theta(problem: Problem) -> Array | None:
    """Forecast with the Theta method, on what STL leaves where there is a season.

    Source: V. Assimakopoulos and K. Nikolopoulos, "The theta model", 2000.
    """
    from statsmodels.tsa.forecasting.theta import ThetaModel  # noqa: PLC0415 (costs a second, once)

    parts = _decomposed(problem)
    if parts is None and problem.season is not None:
        return None
    rest, seasonal = parts or (problem.values[-_SEEN_STATE:], np.zeros(problem.horizon))
    if len(rest) < 10 or np.ptp(rest) == 0:
        return None
    fitted = ThetaModel(rest[-_SEEN_STATE:], period=1, deseasonalize=False).fit()
    return np.asarray(fitted.forecast(problem.horizon)) + seasonal


def _arima(problem: Problem) -> Any:
    from statsmodels.tsa.arima.model import ARIMA  # noqa: PLC0415 (costs a second, once)

    season, y = problem.season, problem.values
    if season is None or len(y) < 2 * season + 20:
        return None
    change = (y[season:] - y[:-season])[-_SEEN_STATE:]
    return None if np.ptp(change) == 0 else ARIMA(change, order=(2, 0, 1), trend="n")


def fit_seasonal_arima(problem: Problem) -> Array | None:
    """Fit ARIMA(2,0,1) to the change since one season ago."""
    model = _arima(problem)
    if model is None:
        return None
    start = problem.known if problem.known is not None and len(problem.known) == len(model.start_params) else None
    fitted = model.fit(start_params=start, cov_type="none", method_kwargs={"maxiter": _iterations(problem)})
    return np.asarray(fitted.params)


def seasonal_arima(problem: Problem) -> Array | None:
    """Add the forecast change to the last season."""
    model, season = _arima(problem), problem.season
    if model is None or season is None or problem.known is None or len(problem.known) != len(model.start_params):
        return None
    ahead = np.asarray(model.filter(problem.known, cov_type="none").forecast(problem.horizon))
    whole = np.concatenate([problem.values[-season:], ahead])
    for at in range(season, len(whole), season):
        end = min(at + season, len(whole))
        whole[at:end] += whole[at - season : end - season]
    return whole[season:]


def _components(problem: Problem) -> Any:
    from statsmodels.tsa.statespace.structural import UnobservedComponents  # noqa: PLC0415 (costs a second, once)

    season, long = problem.season, problem.long_season
    if season is None or len(problem.values) < 3 * season or season < 4:
        return None
    seasons = [{"period": season, "harmonics": min(4, season // 2)}]
    if long is not None and long != season and 3 * long <= _SEEN_STATE:
        seasons.append({"period": long, "harmonics": 3})
    y = _recent(problem.values, season, _SEEN_STATE)
    return None if np.ptp(y) == 0 else UnobservedComponents(y, level="llevel", freq_seasonal=seasons, autoregressive=1)


def fit_unobserved_components(problem: Problem) -> Array | None:
    """Fit a local level, harmonics of the seasons that change slowly, and an autoregressive rest."""
    model = _components(problem)
    if model is None:
        return None
    start = problem.known if problem.known is not None and len(problem.known) == len(model.start_params) else None
    iterations = _iterations(problem) // 2
    return np.asarray(model.fit(start_params=start, disp=False, maxiter=iterations, cov_type="none").params)


def unobserved_components(problem: Problem) -> Array | None:
    """Filter the series with the variances `problem.known`, and go on from its last state."""
    model = _components(problem)
    if model is None or problem.known is None or len(problem.known) != len(model.start_params):
        return None
    return np.asarray(model.filter(problem.known, cov_type="none").forecast(problem.horizon))


def harmonic_regression(problem: Problem) -> Array | None:
    """Fit the seasons' harmonics and three lags, by least squares.

    Source: P. Young, D. Pedregal, W. Tych, "Dynamic harmonic regression", 1999; here the harmonics are fixed
    and the lags carry what changes.
    """
    from statsmodels.tsa.ar_model import AutoReg  # noqa: PLC0415 (costs a second, once)

    season, long = problem.season, problem.long_season
    y = _recent(problem.values, season, _SEEN)
    if season is None or season < 4 or len(y) < 3 * season or np.ptp(y) == 0:
        return None
    orders = [(season, min(8, (season - 1) // 2))]
    if long is not None and long != season and 2 * long <= len(y):
        orders.append((long, 10))
    n = len(y)
    at = np.arange(n + problem.horizon)
    # A harmonic of the long season that is one of the short season's would be the same column twice.
    turns = sorted({k / period for period, most in orders for k in range(1, most + 1)})
    turns = [turn for k, turn in enumerate(turns) if turn < 0.5 and (k == 0 or turn - turns[k - 1] > 1e-9)]
    waves = np.stack([wave(2 * np.pi * turn * at) for turn in turns for wave in (np.sin, np.cos)], axis=1)
    fitted = AutoReg(y, lags=3, trend="c", exog=waves[:n]).fit()
    return np.asarray(fitted.predict(start=n, end=n + problem.horizon - 1, exog_oos=waves[n:]))


HARMONIC_REGRESSION = Method("harmonic_regression", harmonic_regression, heavy=True)
THETA = Method("theta", theta, heavy=True)
DECOMPOSED_SMOOTHING = Method("decomposed_smoothing", decomposed_smoothing, fit_decomposed_smoothing, heavy=True)
EXPONENTIAL_SMOOTHING = Method("exponential_smoothing", exponential_smoothing, fit_exponential_smoothing, heavy=True)
SEASONAL_ARIMA = Method("seasonal_arima", seasonal_arima, fit_seasonal_arima, heavy=True)
UNOBSERVED_COMPONENTS = Method("unobserved_components", unobserved_components, fit_unobserved_components, heavy=True)
