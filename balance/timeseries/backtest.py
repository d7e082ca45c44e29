"""Rolling-origin backtest: stand at past moments, forecast, compare with what came.

Source: L. Tashman, "Out-of-sample tests of forecasting accuracy: an analysis and review", 2000.  Every
method is fitted anew at every origin, on what was known there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from balance.timeseries.budget import Budget
from balance.timeseries.methods import NOT_APPLICABLE, Method, Problem, run
from balance.timeseries.series import Array

#: How many origins there are at most, and for methods that fit slowly.
ORIGINS, HEAVY_ORIGINS = 6, 2
#: Methods whose error is above this multiple of the best one's do not take part.
CUT = 2.0
#: The reason of a method whose turn did not come.
NO_TIME = "no time left"


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """What the methods forecast at past origins.

    Attributes
    ----------
    origins : list of int
        How many values were known at each, newest first.
    truth : ndarray of shape (origins, steps)
        What came.
    forecasts : dict of str to dict of int to ndarray of shape (steps,)
        By method and origin; a failed fit is absent.
    notes : list of str
        Failed fits and warnings, each once.
    costs : dict of str to float
        Seconds by method.
    refused : dict of str to str
        Why a method has no forecast at the newest origin.
    """

    origins: list[int]
    truth: Array
    forecasts: dict[str, dict[int, Array]]
    notes: list[str]
    costs: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Remember `text`, once."""
        if text not in self.notes:
            self.notes.append(text)


def plan_origins(n: int, horizon: int, season: int | None) -> tuple[list[int], int]:
    """Return the origins, newest first, and how many steps each is compared over.

    The steps are the horizon, at most a quarter of the series.  The origins lie half of that apart, or a
    sixth of a season where that is more, so that they see different times of the day; none sees less than
    half of the series.

    Examples
    --------
    >>> plan_origins(700, 48, 24)
    ([652, 628, 604, 580, 556, 532], 48)
    """
    steps = min(horizon, max(1, n // 4))
    stride = max(1, steps // 2, (season or 0) // ORIGINS)
    return [origin for k in range(ORIGINS) if (origin := n - steps - k * stride) >= max(4, n // 2)], steps


def backtest(problem: Problem, methods: Sequence[Method], budget: Budget) -> Trials:
    """Forecast from each origin with each method, light methods first; stop where time is up.

    At least the light methods' newest origin is always done.
    """
    planned, steps = plan_origins(len(problem.values), problem.horizon, problem.season)
    trials = Trials([], np.zeros((0, steps)), {}, [])
    for origin in planned:
        if trials.origins and budget.over:
            break
        for method in methods:
            if not method.heavy:
                _try(method, problem, origin, trials, budget)
        trials.origins.append(origin)
    for method in methods:
        for origin in trials.origins[:HEAVY_ORIGINS] if method.heavy else []:
            if budget.over:
                trials.note(f"{method.name}: {NO_TIME}")
                trials.refused.setdefault(method.name, NO_TIME)
                break
            _try(method, problem, origin, trials, budget)
    truth = np.stack([problem.values[origin : origin + steps] for origin in trials.origins])
    return replace(trials, truth=truth)


def _try(method: Method, problem: Problem, origin: int, trials: Trials, budget: Budget) -> None:
    steps, before = trials.truth.shape[1], budget.spent_s
    fit = run(method, replace(problem, values=problem.values[:origin], horizon=steps))
    trials.costs[method.name] = trials.costs.get(method.name, 0.0) + budget.spent_s - before
    if fit.values is not None:
        trials.forecasts.setdefault(method.name, {})[origin] = fit.values
    elif not trials.origins or origin == trials.origins[0]:
        trials.refused[method.name] = fit.reason
    if fit.values is None and fit.reason != NOT_APPLICABLE:
        trials.note(f"{method.name}: {fit.reason}")
    for warning in fit.warned:
        trials.note(f"{method.name}: {warning}")


def weigh(trials: Trials, robust: bool) -> dict[str, float]:
    """Return each method's weight, heaviest first, summing to 1: inverse squared error.

    An origin's errors are taken relative to the median method's there, so that a wild day does not decide
    alone and methods tried at fewer origins compare fairly.  Methods far behind the best one are left out:
    they would only add their error (on M4 Hourly this beats picking the one best by a tenth).
    """
    errors = _relative_errors(trials, robust)
    if not errors:
        return {}
    best = min(errors.values())
    kept = {name: error for name, error in errors.items() if error <= CUT * best + 1e-12}
    shares = {name: ((best + 1e-9) / (error + 1e-9)) ** 2 for name, error in kept.items()}
    total = sum(shares.values())
    return {name: shares[name] / total for name in sorted(shares, key=lambda name: (-shares[name], name))}


def _relative_errors(trials: Trials, robust: bool) -> dict[str, float]:
    collected: dict[str, list[float]] = {}
    for row, origin in enumerate(trials.origins):
        at_origin = {
            name: _error(made[origin] - trials.truth[row], robust)
            for name, made in sorted(trials.forecasts.items())
            if origin in made
        }
        usual = float(np.median(list(at_origin.values()))) if at_origin else 0.0
        for name, error in at_origin.items():
            collected.setdefault(name, []).append(error / usual if usual > 0 else float(error > 0))
    newest = trials.origins[0]
    return {name: float(np.mean(errors)) for name, errors in collected.items() if newest in trials.forecasts[name]}


def _error(miss: Array, robust: bool) -> float:
    """Return the mean absolute error, or the root of the mean square where the mean is what is wanted."""
    return float(np.abs(miss).mean()) if robust else float(np.sqrt((miss * miss).mean()))


def combined(trials: Trials, weights: dict[str, float]) -> tuple[Array, Array]:
    """Return what the weighted mean of the methods forecast and what came, both of shape (origins, steps).

    Where a method is missing at an origin, the others share its weight; an origin at which none of them ran
    (only slow methods took part, say) is left out.
    """
    made, truth = [], []
    for row, origin in enumerate(trials.origins):
        there = [
            (weights[name], trials.forecasts[name][origin]) for name in weights if origin in trials.forecasts[name]
        ]
        if there:
            shares = np.array([weight for weight, _ in there])
            made.append((shares / shares.sum()) @ np.stack([values for _, values in there]))
            truth.append(trials.truth[row])
    return np.stack(made), np.stack(truth)
