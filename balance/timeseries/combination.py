"""The forecaster that Balance uses: many simple methods, weighed by how they did on this very series.

Averaging beats picking (on M4 Hourly picking the one best method by backtest loses a tenth), and what each
method is worth is measured, not assumed.  What was measured is a `Calibration`; it can be kept and used
for the next forecasts of the same series, which then cost a few milliseconds.

Invariants: a result holds no NaN; quantiles do not cross; a series that was never negative is not forecast
to be; no exception and no warning of a library gets out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.timeseries.autoregression import AUTOREGRESSION, LONG_AUTOREGRESSION, SEASONAL_DIFFERENCE
from balance.timeseries.backtest import NO_TIME, Trials, backtest, combined, weigh
from balance.timeseries.budget import Budget
from balance.timeseries.conformal import error_quantiles
from balance.timeseries.forecast import QUANTILES, Backtest, Forecast
from balance.timeseries.methods import (
    DRIFT,
    LEVEL,
    LEVEL_SCALED,
    MEAN,
    NAIVE,
    NOT_APPLICABLE,
    SEASONAL_NAIVE,
    TYPICAL_SEASON,
    Method,
    Problem,
    run,
)
from balance.timeseries.score import MethodScore, seasonal_error
from balance.timeseries.season import find_seasons
from balance.timeseries.series import Array, Clean, Scale, clean
from balance.timeseries.statistical import EXPONENTIAL_SMOOTHING, STATSMODELS_AUTOREGRESSION
from balance.types import check_int, check_number

LIGHT_METHODS = (
    AUTOREGRESSION,
    LONG_AUTOREGRESSION,
    SEASONAL_DIFFERENCE,
    LEVEL_SCALED,
    TYPICAL_SEASON,
    SEASONAL_NAIVE,
    LEVEL,
    MEAN,
    DRIFT,
    NAIVE,
)
ALL_METHODS = (*LIGHT_METHODS, STATSMODELS_AUTOREGRESSION, EXPONENTIAL_SMOOTHING)

#: Fewer measured values than this do not carry a forecast.
ENOUGH = 8
#: Longer horizons are a mistake: 100,000 steps are a year of five-minute steps.
LONGEST_HORIZON = 100_000
#: Where the budget is below this, no library is asked: loading one would take longer.
_HEAVY_BUDGET_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the backtest of one series taught.

    Attributes
    ----------
    seasons : tuple of int
        Season lengths in steps.
    weights : dict of str to float
        By method, heaviest first.
    log : bool
        The scale that the errors are on.
    errors : ndarray of shape (origins, steps)
        Truth less forecast of the combination.
    result : Backtest
        The same in the series' own unit.
    notes : tuple of str
        Failed fits and warnings.
    scores : tuple of MethodScore
        What became of each method, in the order in which they stand in the forecaster.
    spent_s : float
        Seconds that it took.
    """

    seasons: tuple[int, ...]
    weights: dict[str, float]
    log: bool
    errors: Array
    result: Backtest
    notes: tuple[str, ...]
    scores: tuple[MethodScore, ...]
    spent_s: float


class CombinedForecaster:
    """Forecast with a backtest-weighted mean of methods.

    Parameters
    ----------
    clock : Clock, optional
        Measures the budget.
    budget_s : float, default 1.0
        Seconds that a calibration may take: when they are over, no further fit is started.
    methods : sequence of Method, optional
        Those to weigh; all by default.

    Notes
    -----
    About 65 ms for 700 to 960 values (M4 Hourly) with all methods, 5 ms with a calibration at hand.

    Examples
    --------
    >>> days = [100 + 50 * np.sin(2 * np.pi * hour / 24) for hour in range(24 * 10)]
    >>> made = CombinedForecaster().forecast(days, horizon=24)
    >>> made.status, made.seasons
    ('ok', (24,))
    >>> bool(np.abs(made.point - days[:24]).max() < 1)
    True
    """

    def __init__(
        self, *, clock: Clock | None = None, budget_s: float = 1.0, methods: Sequence[Method] = ALL_METHODS
    ) -> None:
        self._clock: Clock = clock or default("clock")
        self._budget_s = check_number("budget_s", budget_s, minimum=0, what="number of seconds")
        self._methods = {method.name: method for method in methods}

    def forecast(
        self,
        values: Sequence[float] | Array,
        horizon: int,
        season: int | Sequence[int] | None = None,
        quantiles: Sequence[float] = QUANTILES,
        *,
        budget_s: float | None = None,
        calibration: Calibration | None = None,
    ) -> Forecast:
        """Forecast the `horizon` steps after `values`; see `forecast.Forecaster` for the rest.

        Parameters
        ----------
        budget_s : float, optional
            Instead of the constructor's.
        calibration : Calibration, optional
            Of an earlier stretch of the same series (`calibrate`); saves the backtest.

        Raises
        ------
        InvalidValue
            A horizon below 1, a level outside 0 to 1, a negative season, values that are no numbers.
        """
        steps, levels = _checked_horizon(horizon), _checked_levels(quantiles)
        series = clean(values)
        if calibration is None:
            calibration = self._calibrate(series, steps, _checked_seasons(season), budget_s)
        if calibration is None:
            return _fallback(series, steps, levels)
        problem, scale = _problem(series, steps, calibration.seasons)
        if scale.log != calibration.log:
            # The series has changed its nature (from busy to almost silent, say): what was learnt is void.
            return self.forecast(values, horizon, calibration.seasons or 0, quantiles, budget_s=budget_s)
        point, used, notes = self._weighted(problem, calibration.weights)
        offsets = error_quantiles(calibration.errors, steps, levels)
        return Forecast(
            status="ok",
            point=scale.back(point),
            quantiles={level: scale.back(point + offsets[level]) for level in levels},
            method="+".join(used),
            reason=_reason(calibration, used),
            seasons=calibration.seasons,
            backtest=calibration.result,
            weights=used,
            notes=(*calibration.notes, *notes),
        )

    def calibrate(
        self,
        values: Sequence[float] | Array,
        horizon: int,
        season: int | Sequence[int] | None = None,
        *,
        budget_s: float | None = None,
    ) -> Calibration | None:
        """Backtest the methods on `values`; None where there are fewer than 8 measured values."""
        return self._calibrate(clean(values), _checked_horizon(horizon), _checked_seasons(season), budget_s)

    def _calibrate(
        self, series: Clean, horizon: int, season: tuple[int, ...] | None, budget_s: float | None
    ) -> Calibration | None:
        seconds = self._budget_s if budget_s is None else check_number("budget_s", budget_s, minimum=0)
        if series.observed < ENOUGH:
            return None
        budget = Budget(self._clock, seconds)
        if season is None:
            season = _with_week(find_seasons(Scale.of(series.values).forward(series.values)), len(series.values))
        problem, scale = _problem(series, horizon, season)
        methods = [method for method in self._methods.values() if seconds >= _HEAVY_BUDGET_S or not method.heavy]
        trials = backtest(problem, methods, budget)
        weights = weigh(trials, problem.robust)
        made, truth = combined(trials, weights)
        mae = float(np.abs(scale.back(truth) - scale.back(made)).mean())
        usual = _seasonal_naive_error(series.values, problem.season or 1)
        return Calibration(
            seasons=season,
            weights=weights,
            log=scale.log,
            errors=truth - made,
            result=Backtest(mae, seasonal_error(mae, usual), len(made)),
            notes=tuple(trials.notes),
            scores=tuple(_score(name, trials, weights, scale, usual) for name in self._methods),
            spent_s=budget.spent_s,
        )

    def _weighted(self, problem: Problem, weights: dict[str, float]) -> tuple[Array, dict[str, float], list[str]]:
        """Return the weighted mean, the weights of the methods that worked, and notes on those that did not."""
        made: dict[str, Array] = {}
        notes = []
        for name in weights:
            fit = run(self._methods[name], problem)
            if fit.values is None:
                notes.append(f"{name}: {fit.reason}; left out")
            else:
                made[name] = fit.values
        if not made:
            return np.full(problem.horizon, problem.values[-1]), {NAIVE.name: 1.0}, notes
        total = sum(weights[name] for name in made)
        used = {name: weights[name] / total for name in made}
        point = np.sum([weight * made[name] for name, weight in used.items()], axis=0)
        return point, used, notes


def _problem(series: Clean, horizon: int, seasons: tuple[int, ...]) -> tuple[Problem, Scale]:
    scale = Scale.of(series.values)
    return Problem(scale.forward(series.values), horizon, seasons, robust=scale.log), scale


def _score(name: str, trials: Trials, weights: dict[str, float], scale: Scale, usual: float) -> MethodScore:
    """Say what became of the method `name`."""
    made = trials.forecasts.get(name, {})
    misses = [
        np.abs(scale.back(trials.truth[row]) - scale.back(made[origin])).mean()
        for row, origin in enumerate(trials.origins)
        if origin in made
    ]
    mae = float(np.mean(misses)) if misses else None
    refused = "" if name in weights else trials.refused.get(name, "" if misses else NO_TIME)
    if name in weights:
        status = "used"
    elif not refused:
        status, refused = "outweighed", "too far behind the best"
    else:
        status = {NOT_APPLICABLE: "not_applicable", NO_TIME: "no_time"}.get(refused, "failed")
    result = Backtest(mae, seasonal_error(mae, usual), len(misses))
    return MethodScore(name, status, weights.get(name, 0.0), result, trials.costs.get(name, 0.0), refused)


def _with_week(seasons: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Add seven of a lone season where three of that fit: a day's pattern nearly always has a week's.

    Whether it does here is for the backtest to say.  On two in five of M4's hourly series the week is too weak
    beside the day to be found by itself.
    """
    if len(seasons) == 1 and 3 * 7 * seasons[0] <= n:
        return (seasons[0], 7 * seasons[0])
    return seasons


def _seasonal_naive_error(values: Array, season: int) -> float:
    return float(np.abs(values[season:] - values[:-season]).mean()) if len(values) > season else 0.0


def _fallback(series: Clean, horizon: int, levels: tuple[float, ...]) -> Forecast:
    """Repeat the last value; the quantiles are those of the few values there are, around it."""
    values = series.values if series.values.size else np.zeros(1)
    last = float(values[-1])
    spread = {level: float(np.quantile(values, level)) for level in levels}
    return Forecast(
        status="insufficient_data",
        point=np.full(horizon, last),
        quantiles={
            level: np.full(horizon, last if level == 0.5 else (max if level > 0.5 else min)(last, value))
            for level, value in spread.items()
        },
        method=NAIVE.name,
        reason=f"{series.observed} measured values are too few to learn from ({ENOUGH} are needed); "
        + ("the last one is repeated" if series.observed else "nothing is known, so 0 is repeated"),
        seasons=(),
        backtest=Backtest(),
        weights={NAIVE.name: 1.0},
        notes=(),
    )


def _reason(calibration: Calibration, used: dict[str, float]) -> str:
    mase = calibration.result.mase
    season = " and ".join(str(steps) for steps in calibration.seasons)
    return (
        f"weighed by the error at {calibration.result.origins} past moments"
        + (f" (MASE {mase:.2f})" if mase is not None else "")
        + (f", seasons of {season} steps" if season else ", no season")
        + f"; {next(iter(used))} did best"
    )


def _checked_horizon(horizon: int) -> int:
    steps = check_int("horizon", horizon, minimum=1)
    if steps > LONGEST_HORIZON:
        raise InvalidValue("horizon", horizon, f"at most {LONGEST_HORIZON} steps")
    return steps


def _checked_levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({check_number("quantile", level, minimum=0, maximum=1) for level in quantiles}))


def _checked_seasons(season: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if season is None:
        return None
    given = [season] if isinstance(season, int | float) else list(season)
    return tuple(sorted({steps for item in given if (steps := check_int("season", item, minimum=0)) > 1}))
