"""Autoregression on what matters: the last steps, the same step in past seasons, and smoothed seasons.

A value is regressed on the last three, on those around one and two seasons and one long season ago, and on
the *typical* value at this and the previous step of the season: an exponentially weighted mean over past
seasons and over past long seasons, which holds far more of the past than single lags do, and carries less
noise.  Recent rows count more.  On M4 Hourly this alone has OWA .38, against .40 without the smoothed
seasons and .44 for the competition's winner, at a millisecond or two a fit.

Sources: the smoothed seasons are those of P. Winters, "Forecasting sales by exponentially weighted moving
averages", 1960, and J. Taylor, "Short-term electricity demand forecasting using double seasonal exponential
smoothing", 2003; here a regression decides how far each is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balance.timeseries.methods import Method, Problem
from balance.timeseries.regression import solve
from balance.timeseries.series import Array

_NEAR = (1, 2, 3)
#: Rows for each coefficient, at least: fewer, and the fit follows noise.
_ROWS_PER_TERM = 3
#: How much of the newest season, and of the newest long season, goes into the typical one.
_SMOOTHING, _LONG_SMOOTHING = 0.1, 0.2
#: Seasons with more steps than this are smoothed over neighbouring steps, one in `_FINE` on either side.
_FINE = 120


@dataclass(frozen=True, slots=True)
class Layout:
    """Which terms stand in the regression.

    Attributes
    ----------
    lags : tuple of int
        Single values, the near ones first.
    typical : tuple of (int, float, int)
        Season in steps, smoothing, and neighbours on either side.
    windows : tuple of int
        Means of the last so many steps.
    """

    lags: tuple[int, ...]
    typical: tuple[tuple[int, float, int], ...] = ()
    windows: tuple[int, ...] = ()

    @property
    def terms(self) -> int:
        """How many coefficients there are, with the constant."""
        return len(self.lags) + 2 * len(self.typical) + len(self.windows) + 1

    @property
    def first(self) -> int:
        """The first step at which every term is known."""
        reach = max((*self.lags, *self.windows, 0))
        return max(reach, max((season + 1 for season, _, _ in self.typical), default=0))

    @property
    def block(self) -> int:
        """For how many steps ahead the seasonal terms are known at once."""
        far = [lag for lag in self.lags if lag not in _NEAR]
        return max(1, min([lag - 1 for lag in far] + [season - 1 - side for season, _, side in self.typical] + [4096]))


def layouts(problem: Problem, windows: bool) -> list[Layout]:
    """Return what may be fitted, the richest first: the last one needs nine values."""
    season, long = problem.season, problem.long_season
    found = []
    if season is not None and season > 4:
        side = season // _FINE
        short = tuple(season * cycle + step for cycle in (1, 2) for step in (-1, 0, 1))
        typical = ((season, _SMOOTHING, side),)
        means = ((season,) if side == 0 else (season // 48, season // 24)) if windows else ()
        if long is not None and long > 2 * season + 1:
            lags = (*_NEAR, *short, *(long + step for step in (-1, 0, 1)))
            both = (*typical, (long, _LONG_SMOOTHING, long // season // _FINE + side))
            found.append(Layout(lags, both, (*means, long) if windows and side == 0 else means))
        found += [Layout((*_NEAR, *short), typical, means), Layout((*_NEAR, *short[:3]), (), ())]
    return [*found, Layout(_NEAR), Layout((1,))]


@dataclass(frozen=True, slots=True)
class Autoregression:
    """A kind of autoregression, to be fitted and to forecast.

    Parameters
    ----------
    keep : float
        How much a row counts that is one season older; 1 counts all the same.
    windows : bool, default False
        Whether the means of the last season and the last long season take part: pulls back to the usual level.
    merge : int, default 1
        So many steps are one: a coarser view, with less noise; the shape within is the usual one.
    """

    keep: float
    windows: bool = False
    merge: int = 1

    def fit(self, problem: Problem) -> Array | None:
        """Return the number of the layout and its coefficients; `problem.known` is where to start from."""
        made = self._coarse(problem)
        if made is None:
            return None
        y = made.values - made.values.mean()
        for number, layout in enumerate(layouts(made, self.windows)):
            n, first = len(y), layout.first
            if n - first < _ROWS_PER_TERM * layout.terms:
                continue
            rows = _terms(y, layout, first)
            weights = self.keep ** (np.arange(n - first)[::-1] / made.season) if made.season else None
            known = problem.known
            start = known[1:] if known is not None and known[0] == number else None
            return np.concatenate([[number], solve(rows, y[first:], weights, made.robust, start)])
        return None

    def predict(self, problem: Problem) -> Array | None:
        """Go on from the newest values with the coefficients `problem.known`."""
        made = self._coarse(problem)
        if made is None or made.known is None:
            return None
        choice = layouts(made, self.windows)
        number = int(made.known[0])
        if number >= len(choice) or len(made.known) != choice[number].terms + 1:
            return None
        mean = made.values.mean()
        ahead = extend(made.values - mean, choice[number], made.known[1:], made.horizon) + mean
        return ahead if self.merge == 1 else self._fine(problem, made, ahead)

    def _coarse(self, problem: Problem) -> Problem | None:
        """Return the problem with `merge` steps in one; None where the season is no multiple of that."""
        merge = self.merge
        if merge == 1:
            return problem
        if problem.season is None or problem.season < 12 or any(season % merge for season in problem.seasons):
            return None
        n = len(problem.values) // merge * merge
        values = problem.values[-n:].reshape(-1, merge).mean(axis=1)
        seasons = tuple(season // merge for season in problem.seasons)
        return Problem(values, -(-problem.horizon // merge), seasons, problem.robust, problem.known)

    def _fine(self, problem: Problem, made: Problem, ahead: Array) -> Array | None:
        season, merge = made.season, self.merge
        if season is None:
            return None
        cycles = min(10, len(made.values) // season)
        blocks = problem.values[-cycles * season * merge :].reshape(cycles, season, merge)
        within = blocks - blocks.mean(axis=2, keepdims=True)
        shape = np.average(within, axis=0, weights=0.8 ** np.arange(cycles)[::-1])
        inner = np.resize(shape, (len(ahead), merge))
        return np.asarray((ahead[:, None] + inner).ravel()[: problem.horizon])


def _terms(y: Array, layout: Layout, first: int) -> Array:
    """Return the rows of the regression for the steps from `first` on."""
    n = len(y)
    columns = [y[first - lag : n - lag] for lag in layout.lags]
    for season, smoothing, side in layout.typical:
        usual = typical(y, season, smoothing, side)
        columns += [usual[first:n], usual[first - 1 : n - 1]]
    if layout.windows:
        sums = np.concatenate([[0.0], np.cumsum(y)])
        columns += [(sums[first:n] - sums[first - window : n - window]) / window for window in layout.windows]
    return np.stack([*columns, np.ones(n - first)], axis=1)


def typical(y: Array, season: int, smoothing: float, side: int = 0) -> Array:
    """Return the exponentially weighted mean of the past seasons at each step, one season beyond the end.

    A step's own value does not enter it.  Before the second season there is nothing yet: zeros.

    Examples
    --------
    >>> typical(np.array([1.0, 2.0, 3.0, 4.0]), 2, 0.5).tolist()
    [0.0, 0.0, 1.0, 2.0, 2.0, 3.0]
    """
    n = len(y)
    usual = np.zeros(n + season)
    padded = np.concatenate([y, np.full(side, y[-1])])
    usual[season : 2 * season] = _smooth(padded, 0, min(season, n), side)
    _grow(usual, padded, (season, smoothing, side), 2 * season, n + season)
    return usual


def _grow(usual: Array, y: Array, kind: tuple[int, float, int], start: int, end: int) -> None:
    """Fill `usual` from `start` to `end`; `y` is known up to a season before `end`, and `side` more."""
    season, smoothing, side = kind
    for at in range(start, end, season):
        to = min(at + season, end)
        before = usual[at - season : to - season]
        usual[at:to] = before + smoothing * (_smooth(y, at - season, to - season, side) - before)


def _smooth(y: Array, start: int, end: int, side: int) -> Array:
    """Return `y` from `start` to `end`, each the mean with its `side` neighbours; at the edges, of those there are."""
    if not side:
        return y[start:end]
    low, high = max(0, start - side), min(len(y), end + side)
    padded = np.pad(y[low:high], (side - (start - low), side - (high - end)), mode="edge")
    return np.convolve(padded, np.full(2 * side + 1, 1 / (2 * side + 1)), "valid")


def extend(y: Array, layout: Layout, weights: Array, horizon: int) -> Array:
    """Return the next `horizon` steps: what is seasonal block by block, what is near step by step."""
    n = len(y)
    whole = np.concatenate([y, np.zeros(horizon)])
    near = [lag for lag in layout.lags if lag in _NEAR]
    far = layout.lags[len(near) :]
    smooth_at = len(layout.lags)
    window_at = smooth_at + 2 * len(layout.typical)
    phi = weights[: len(near)].tolist()
    pull = [(window, weights[window_at + k] / window) for k, window in enumerate(layout.windows)]
    usuals = [
        np.concatenate([typical(y, season, smoothing, side)[:n], np.zeros(horizon)])
        for season, smoothing, side in layout.typical
    ]
    for at in range(n, n + horizon, layout.block):
        end = min(at + layout.block, n + horizon)
        base = np.full(end - at, weights[-1])
        for k, lag in enumerate(far):
            base += weights[len(near) + k] * whole[at - lag : end - lag]
        for k, (kind, usual) in enumerate(zip(layout.typical, usuals, strict=True)):
            _grow(usual, whole[:at], kind, at, end)
            base += (
                weights[smooth_at + 2 * k] * usual[at:end] + weights[smooth_at + 2 * k + 1] * usual[at - 1 : end - 1]
            )
        _near_steps(whole, at, base, (near, phi), pull)
    return whole[n:]


def _near_steps(
    whole: Array, at: int, base: Array, near: tuple[list[int], list[float]], pull: list[tuple[int, float]]
) -> None:
    """Write the steps from `at` on into `whole`, each from the ones just before."""
    lags, phi = near
    known = whole[at - max([*lags, *(window for window, _ in pull)]) : at].tolist()
    sums = [sum(known[-window:]) for window, _ in pull]
    for seasonal in base.tolist():
        value = seasonal
        for lag, factor in zip(lags, phi, strict=True):
            value += factor * known[-lag]
        for (_, factor), total in zip(pull, sums, strict=True):
            value += factor * total
        sums = [total + value - known[-window] for (window, _), total in zip(pull, sums, strict=True)]
        known.append(value)
    whole[at : at + len(base)] = known[-len(base) :]


def seasonal_difference(problem: Problem) -> Array | None:
    """Forecast the change since one season ago from its last three values, and add it to that season."""
    season = problem.season
    if season is None or len(problem.values) < 2 * season + 12:
        return None
    changes = Problem(problem.values[season:] - problem.values[:-season], problem.horizon, (), problem.robust)
    kind = Autoregression(1.0)
    ahead = kind.predict(Problem(changes.values, problem.horizon, (), problem.robust, kind.fit(changes)))
    if ahead is None:
        return None
    whole = np.concatenate([problem.values, ahead])
    n = len(problem.values)
    for at in range(n, n + problem.horizon, season):
        end = min(at + season, n + problem.horizon)
        whole[at:end] += whole[at - season : end - season]
    return whole[n:]


def _method(name: str, kind: Autoregression) -> Method:
    return Method(name, kind.predict, kind.fit)


AUTOREGRESSION = _method("autoregression", Autoregression(0.9))
LEVEL_AUTOREGRESSION = _method("level_autoregression", Autoregression(0.95, windows=True))
COARSE_AUTOREGRESSION = _method("coarse_autoregression", Autoregression(0.9, merge=2))
COARSER_AUTOREGRESSION = _method("coarser_autoregression", Autoregression(0.9, merge=3))
SEASONAL_DIFFERENCE = Method("seasonal_difference", seasonal_difference)
