"""The forecaster that Balance uses: many simple methods, weighed by how they did on this very series.

Averaging beats picking (on M4 Hourly picking the one best method by backtest loses a tenth), and what each
method is worth is measured, not assumed.  What was measured is a `Calibration`; it can be kept and used
for the next forecasts of the same series, which then cost a few milliseconds.

Invariants: a result holds no NaN; quantiles do not cross; a series that was never negative is not forecast
to be; no exception and no warning of a library gets out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.timeseries.backtest import ORIGINS, Trials, backtest, carry_on, combine, combined, weigh
from balance.timeseries.budget import Budget
from balance.timeseries.calibration import Calibration
from balance.timeseries.catalogue import ALL_METHODS
from balance.timeseries.conformal import error_quantiles
from balance.timeseries.forecast import QUANTILES, Backtest, Forecast
from balance.timeseries.methods import NAIVE, Method, Problem, run
from balance.timeseries.score import score_of, seasonal_error
from balance.timeseries.season import find_seasons
from balance.timeseries.series import Array, Clean, Scale, clean
from balance.types import check_int, check_number

#: Fewer measured values than this do not carry a forecast.
ENOUGH = 8
#: Longer horizons are a mistake: 100,000 steps are a year of five-minute steps.
LONGEST_HORIZON = 100_000
#: Where the budget is below this, no library is asked: loading one would take longer.
_HEAVY_BUDGET_S = 0.1
#: Values by which a series is recognised when it comes again.
_TAIL = 64


class CombinedForecaster:
    """Forecast with a backtest-weighted combination of methods.

    Parameters
    ----------
    clock : Clock, optional
        Measures the budget.
    budget_s : float, default 0.5
        Seconds that a calibration may take: when they are over, no further fit is started.
    methods : sequence of Method, optional
        Those to weigh; all by default.

    Notes
    -----
    For 700 to 960 values (M4 Hourly): 0.2 s of CPU with the light methods alone, up to the budget and one fit more
    with all; 20 ms with a calibration at hand.

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
        self, *, clock: Clock | None = None, budget_s: float = 0.5, methods: Sequence[Method] = ALL_METHODS
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
        point, used, notes = self._weighted(problem, calibration)
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
        previous: Calibration | None = None,
    ) -> Calibration | None:
        """Backtest the methods on `values`; None where there are fewer than 8 measured values.

        Parameters
        ----------
        previous : Calibration, optional
            Of an earlier stretch.  Where `values` go on from there, only new origins are tried, with the
            methods that were in use, and their parameters are fitted from where they were; `previous` itself
            comes back where there is nothing to learn yet.  Where they do not (another series, other seasons,
            revised values), or where half of the origins are new since all methods were tried, or the series
            has grown by half, it is not used.
        """
        series, steps, seasons = clean(values), _checked_horizon(horizon), _checked_seasons(season)
        if previous is not None and (seasons is None or seasons == previous.seasons):
            made = self._carry_on(series, steps, previous, budget_s)
            if made is not None:
                return made
        return self._calibrate(series, steps, seasons, budget_s)

    def _calibrate(
        self, series: Clean, horizon: int, season: tuple[int, ...] | None, budget_s: float | None
    ) -> Calibration | None:
        budget = self._budget(budget_s)
        if series.observed < ENOUGH:
            return None
        if season is None:
            season = _with_week(find_seasons(Scale.of(series.values).forward(series.values)), len(series.values))
        problem, scale = _problem(series, horizon, season)
        methods = [method for method in self._methods.values() if budget.seconds >= _HEAVY_BUDGET_S or not method.heavy]
        trials = backtest(problem, methods, budget)
        return self._weighed(series, problem, scale, trials, budget)

    def _carry_on(
        self, series: Clean, horizon: int, previous: Calibration, budget_s: float | None
    ) -> Calibration | None:
        """Return what is learnt by going on from `previous`; None where the series does not."""
        added = _added(series.values, previous.tail)
        problem, scale = _problem(series, horizon, previous.seasons)
        trials, budget = previous.trials, self._budget(budget_s)
        count = len(series.values)
        same = trials.steps == min(horizon, max(1, count // 4)) and scale.log == previous.log
        if added is None or not same or count > 1.5 * previous.count:
            return None
        methods = [self._methods[name] for name in previous.weights if name in self._methods]
        moved = count - added - previous.count
        made = carry_on(trials, problem, methods, moved, budget) if methods else None
        if made is None:
            return previous
        renewed = previous.renewed + sum(origin.at > trials.origins[0].at + moved for origin in made.origins)
        if 2 * renewed > min(ORIGINS, len(trials.origins)):
            return None
        return self._weighed(series, problem, scale, made, budget, previous.learnt, renewed)

    def _weighed(  # noqa: PLR0917 (one step of two callers)
        self,
        series: Clean,
        problem: Problem,
        scale: Scale,
        trials: Trials,
        budget: Budget,
        learnt: dict[str, Array] | None = None,
        renewed: int = 0,
    ) -> Calibration:
        """Weigh the methods by their trials, and fit those in use at the end of the series."""
        weights = weigh(trials, scale)
        made, truth = combined(trials, weights, problem.robust)
        mae = float(np.abs(scale.back(truth) - scale.back(made)).mean())
        usual = _seasonal_naive_error(series.values, problem.season or 1)
        start = {**trials.learnt, **(learnt or {})}
        final = {name: start[name] for name in weights if name in start}
        for name in weights:
            method = self._methods[name]
            # A slow method goes by what it learnt at the newest origin where there is no time to fit it again.
            if method.fit is not None and not (method.heavy and budget.over and name in start):
                fitted = run(method, replace(problem, known=start.get(name))).learnt
                final = final if fitted is None else {**final, name: fitted}
        return Calibration(
            seasons=problem.seasons,
            weights=weights,
            log=scale.log,
            errors=truth - made,
            result=Backtest(mae, seasonal_error(mae, usual), len(made)),
            notes=tuple(trials.notes),
            scores=tuple(score_of(name, trials, weights, scale, usual) for name in self._methods),
            spent_s=budget.spent_s,
            learnt=final,
            trials=trials,
            tail=series.values[-_TAIL:],
            count=len(series.values),
            renewed=renewed,
        )

    def _budget(self, budget_s: float | None) -> Budget:
        given = self._budget_s if budget_s is None else check_number("budget_s", budget_s, minimum=0)
        return Budget(self._clock, given)

    def _weighted(self, problem: Problem, calibration: Calibration) -> tuple[Array, dict[str, float], list[str]]:
        """Return the combination, the weights of the methods that worked, and notes on those that did not."""
        made: dict[str, Array] = {}
        notes, weights = [], calibration.weights
        for name in weights:
            fit = run(self._methods[name], replace(problem, known=calibration.learnt.get(name)), refit=False)
            if fit.values is None:
                notes.append(f"{name}: {fit.reason}; left out")
            else:
                made[name] = fit.values
        if not made:
            return np.full(problem.horizon, problem.values[-1]), {NAIVE.name: 1.0}, notes
        total = sum(weights[name] for name in made)
        used = {name: weights[name] / total for name in made}
        return combine(list(made.values()), list(used.values()), problem.robust), used, notes


def _added(values: Array, tail: Array) -> int | None:
    """Return how many values came after `tail`, the fewest possible; None where it is not in `values`.

    Examples
    --------
    >>> _added(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([2.0, 3.0]))
    2
    """
    if len(tail) > len(values):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(values, len(tail))
    found = np.flatnonzero(windows[:, -1] == tail[-1])[::-1]
    return next((len(windows) - 1 - int(at) for at in found if np.array_equal(windows[at], tail)), None)


def _problem(series: Clean, horizon: int, seasons: tuple[int, ...]) -> tuple[Problem, Scale]:
    scale = Scale.of(series.values)
    return Problem(scale.forward(series.values), horizon, seasons, robust=scale.log), scale


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
