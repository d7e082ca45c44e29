"""Rolling-origin backtest: stand at past moments, forecast, compare with what came.

Source: L. Tashman, "Out-of-sample tests of forecasting accuracy: an analysis and review", 2000.  No forecast
knows anything that came after its origin; parameters are fitted at some of the origins and kept for the next
few newer ones, as they are in use.  A backtest can be carried on when the series has gone on: origins that
were tried stay as they are, and the oldest give way to new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from balance.timeseries.budget import Budget
from balance.timeseries.methods import NOT_APPLICABLE, Method, Problem, run
from balance.timeseries.series import Array, Scale

#: How many origins there are at most, and for methods that fit slowly.
ORIGINS, HEAVY_ORIGINS = 24, 2
#: Methods whose error is above this multiple of the best one's do not take part.
CUT = 2.0
#: The power of the error by which methods are weighed.
SHARPNESS = 2
#: The reason of a method whose turn did not come.
NO_TIME = "no time left"


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What was forecast at one past moment.

    Attributes
    ----------
    at : int
        How many values were known.
    truth : ndarray of shape (steps,)
        What came.
    made : dict of str to ndarray of shape (steps,)
        By method; a failed fit is absent.
    """

    at: int
    truth: Array
    made: dict[str, Array]


@dataclass(slots=True, eq=False)
class Trials:
    """A backtest.

    Attributes
    ----------
    steps : int
        How many steps each origin is compared over.
    stride : int
        How far apart origins are.
    origins : list of Origin
        Newest first.
    notes : list of str
        Failed fits and warnings, each once.
    costs : dict of str to float
        Seconds by method.
    refused : dict of str to str
        Why a method has no forecast at the newest origin.
    learnt : dict of str to ndarray
        Parameters by method, fitted at the newest origin or before.
    """

    steps: int
    stride: int
    origins: list[Origin] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    learnt: dict[str, Array] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Remember `text`, once."""
        if text not in self.notes:
            self.notes.append(text)


def plan_origins(n: int, horizon: int, season: int | None) -> tuple[list[int], int, int]:
    """Return the origins, newest first, how many steps each is compared over, and how far apart they are.

    The steps are the horizon, at most a quarter of the series.  The origins lie half of that apart, or a
    twenty-fourth of a season where that is more, so that they see all times of the day; none sees less than
    half of the series.

    Examples
    --------
    >>> plan_origins(240, 24, 24)
    ([216, 204, 192, 180, 168, 156, 144, 132, 120], 24, 12)
    """
    steps = min(horizon, max(1, n // 4))
    stride = max(1, steps // 2, (season or 0) // ORIGINS)
    origins = [origin for k in range(ORIGINS) if (origin := n - steps - k * stride) >= max(4, n // 2)]
    return origins, steps, stride


def backtest(problem: Problem, methods: Sequence[Method], budget: Budget) -> Trials:
    """Forecast from each origin with each method, light methods first; stop where time is up.

    At least the light methods' newest origin is always done.
    """
    planned, steps, stride = plan_origins(len(problem.values), problem.horizon, problem.season)
    trials = Trials(steps, stride)
    attempt = _Attempt(problem, trials, budget)
    light = [method for method in methods if not method.heavy]
    # The newest origin by itself, since it may be all there is time for; then groups that share their parameters.
    together = max(1, max(steps, (problem.season or 0) // 3) // stride)
    groups = [planned[:1]] + [planned[k : k + together] for k in range(1, len(planned), together)]
    for group in groups:
        if trials.origins and budget.over:
            break
        trials.origins += attempt.group(light, group)
    for method in methods:
        if method.heavy:
            attempt.heavy(method)
    return trials


def carry_on(trials: Trials, problem: Problem, methods: Sequence[Method], moved: int, budget: Budget) -> Trials | None:
    """Return the backtest with the origins that the series' new values allow; None where there are none.

    Parameters
    ----------
    moved : int
        By how much the index of a value has grown since: the new values less what fell off at the start.
    methods : sequence of Method
        Those to try at the new origins; they go by what was learnt.
    """
    old = [replace(origin, at=origin.at + moved) for origin in trials.origins]
    last = len(problem.values) - trials.steps
    new = list(range(old[0].at + trials.stride, last + 1, trials.stride))[::-1]
    if not new:
        return None
    made = Trials(trials.steps, trials.stride, [], list(trials.notes), dict(trials.costs), dict(trials.refused))
    made.learnt = dict(trials.learnt)
    made.origins = (_Attempt(problem, made, budget).group(methods, new, made.learnt) + old)[:ORIGINS]
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """Trying methods on one series, with what comes of it in `trials`."""

    problem: Problem
    trials: Trials
    budget: Budget

    def group(
        self, methods: Sequence[Method], group: Sequence[int], learnt: dict[str, Array] | None = None
    ) -> list[Origin]:
        """Forecast at the origins `group`, newest first; parameters are `learnt`, or fitted at the oldest."""
        steps = self.trials.steps
        origins = [Origin(at, self.problem.values[at : at + steps], {}) for at in group]
        for method in methods:
            known = learnt.get(method.name) if learnt else None
            for origin in reversed(origins):
                known = self.one(method, origin, known, refit=known is None)
        return origins

    def one(self, method: Method, origin: Origin, known: Array | None, *, refit: bool) -> Array | None:
        """Forecast at one origin; return the parameters."""
        trials, before = self.trials, self.budget.spent_s
        past = replace(self.problem, values=self.problem.values[: origin.at], horizon=len(origin.truth), known=known)
        fit = run(method, past, refit=refit)
        trials.costs[method.name] = trials.costs.get(method.name, 0.0) + self.budget.spent_s - before
        newest = trials.origins[0].at if trials.origins else origin.at
        if fit.values is not None:
            origin.made[method.name] = fit.values
        elif origin.at >= newest:
            trials.refused[method.name] = fit.reason
        if fit.values is None and fit.reason != NOT_APPLICABLE:
            trials.note(f"{method.name}: {fit.reason}; left out")
        for warning in fit.warned:
            trials.note(f"{method.name}: {warning}")
        if fit.learnt is not None and origin.at >= newest:
            trials.learnt[method.name] = fit.learnt
        return fit.learnt

    def heavy(self, method: Method) -> None:
        """Try a slow method at the newest origin, and at the next where it was not far behind there."""
        for origin in self.trials.origins[:HEAVY_ORIGINS]:
            if self.budget.over:
                self.trials.note(f"{method.name}: {NO_TIME}")
                self.trials.refused.setdefault(method.name, NO_TIME)
                return
            self.one(method, origin, self.trials.learnt.get(method.name), refit=True)
            errors = {name: float(np.abs(values - origin.truth).mean()) for name, values in origin.made.items()}
            if method.name not in errors or errors[method.name] > CUT * min(errors.values()):
                return


def weigh(trials: Trials, scale: Scale) -> dict[str, float]:
    """Return each method's weight, heaviest first, summing to 1: the inverse square of its error.

    Errors are counted on the plain scale, where being wrong costs, and over all origins at which a method
    was tried, against the median method at the same ones: so methods that were tried at fewer compare
    fairly.  Methods far behind the best one are left out: they would only add their error.
    """
    errors = _relative_errors(trials, scale)
    if not errors:
        return {}
    best = min(errors.values())
    kept = {name: error for name, error in errors.items() if error <= CUT * best + 1e-12}
    shares = {name: ((best + 1e-9) / (error + 1e-9)) ** SHARPNESS for name, error in kept.items()}
    total = sum(shares.values())
    return {name: shares[name] / total for name in sorted(shares, key=lambda name: (-shares[name], name))}


def _relative_errors(trials: Trials, scale: Scale) -> dict[str, float]:
    own: dict[str, float] = {}
    usual: dict[str, float] = {}
    for origin in trials.origins:
        truth = scale.back(origin.truth)
        at_origin = {name: _error(scale.back(made) - truth, scale.log) for name, made in sorted(origin.made.items())}
        middle = float(np.median(list(at_origin.values()))) if at_origin else 0.0
        for name, error in at_origin.items():
            own[name] = own.get(name, 0.0) + error
            usual[name] = usual.get(name, 0.0) + middle
    newest = trials.origins[0].made
    return {
        name: error / usual[name] if usual[name] > 0 else float(error > 0)
        for name, error in own.items()
        if name in newest
    }


def _error(miss: Array, robust: bool) -> float:
    """Return the mean absolute error, or the root of the mean square where the mean is what is wanted."""
    return float(np.abs(miss).mean()) if robust else float(np.sqrt((miss * miss).mean()))


def combine(made: Sequence[Array], weights: Sequence[float], robust: bool) -> Array:
    """Return the weighted median of forecasts at each step where `robust`, else their weighted mean.

    The median is interpolated between the two forecasts that half of the weight lies between, so that it
    moves smoothly with the weights.  On M4 Hourly it is better than the mean by .003 to .01 of OWA, since a
    method that goes astray does not pull it along; where the mean is what is wanted (sparse counts, signed
    values) it is the mean.

    Examples
    --------
    >>> combine([np.array([1.0]), np.array([2.0]), np.array([90.0])], [1, 1, 1], robust=True).tolist()
    [2.0]
    """
    rows = np.stack(made)
    shares = np.asarray(weights, dtype=float) / np.sum(weights)
    if not robust or len(rows) == 1:
        return np.asarray(shares @ rows)
    order = np.argsort(rows, axis=0)
    ranked = np.take_along_axis(rows, order, axis=0)
    share = shares[order]
    middle = np.cumsum(share, axis=0) - share / 2
    above = np.clip((middle < 0.5).sum(axis=0), 1, len(rows) - 1)[None]
    low, high = (np.take_along_axis(middle, above - k, axis=0)[0] for k in (1, 0))
    start, end = (np.take_along_axis(ranked, above - k, axis=0)[0] for k in (1, 0))
    part = np.clip((0.5 - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    return np.asarray(start + part * (end - start))


def combined(trials: Trials, weights: dict[str, float], robust: bool) -> tuple[Array, Array]:
    """Return what the combination of the methods forecast and what came, both of shape (origins, steps).

    Where a method is missing at an origin, the others share its weight; an origin at which none of them ran
    (only slow methods took part, say) is left out.
    """
    made, truth = [], []
    for origin in trials.origins:
        there = [name for name in weights if name in origin.made]
        if there:
            made.append(combine([origin.made[name] for name in there], [weights[name] for name in there], robust))
            truth.append(origin.truth)
    return np.stack(made), np.stack(truth)
