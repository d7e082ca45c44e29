"""Direct regression: one regression for each stretch of the horizon, on what is known at the origin.

An autoregression feeds its own forecasts back, so that its errors add up; here the step that is wanted is
regressed on the past itself (S. Ben Taieb et al., "A review and comparison of strategies for multi-step ahead
time series forecasting", 2012).  It errs differently, which is what a combination needs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balance.timeseries.autoregression import typical
from balance.timeseries.methods import Method, Problem
from balance.timeseries.regression import solve
from balance.timeseries.series import Array

#: How much a row counts that is one season older.
_KEEP = 0.9
#: Rows of one regression, at most: origins are thinned out beyond.
_ROWS = 2500
#: Where stretches end, in seasons.
_STRETCHES = (1 / 6, 1 / 2, 1.0, 3 / 2, 2.0)
_COLUMNS = 13


class _Past:
    """What the columns are made of."""

    def __init__(self, y: Array, season: int, long: int) -> None:
        self.y, self.season, self.long = y, season, long
        self.usual = typical(y, season, 0.15, season // 120)
        self.long_usual = typical(y, long, 0.2, season // 120)
        self.sums = np.concatenate([[0.0], np.cumsum(y)])
        recent = max(2, season // 4)
        off = np.concatenate([[0.0], np.cumsum(y - self.usual[: len(y)])])
        self.recent_off = np.zeros(len(y) + 1)
        self.recent_off[recent:] = (off[recent:] - off[:-recent]) / recent

    def columns(self, origin: NDArray[np.int64], ahead: int) -> Array:
        """Return the row of each origin (values before it are known) for the step `ahead`, 1 being the next."""
        y, season, long = self.y, self.season, self.long
        target = origin + ahead - 1
        like = target - season * ((ahead - 1) // season)  # the same step of the first season ahead
        return np.stack(
            [
                self.usual[like],
                y[like - season],
                y[like - 2 * season],
                self.long_usual[target],
                y[target - long],
                self.long_usual[like],
                self.long_usual[origin - 1],
                y[origin - 1] - self.usual[origin - 1],
                y[origin - 2] - self.usual[origin - 2],
                self.recent_off[origin],
                (self.sums[origin] - self.sums[origin - season]) / season,
                (self.sums[origin] - self.sums[origin - long]) / long,
                np.ones(len(origin)),
            ],
            axis=1,
        )


def _stretches(horizon: int, season: int) -> list[range]:
    """Return the steps ahead that share a regression, first to last."""
    ends = [min(horizon, max(1, round(share * season))) for share in _STRETCHES]
    pairs = zip([0, *ends], ends, strict=False)
    return [range(start + 1, end + 1) for start, end in pairs if end > start]


def _past(problem: Problem) -> _Past | None:
    season, long = problem.season, problem.long_season
    if season is None or long is None or season < 6 or problem.horizon > 2 * season:
        return None
    if len(problem.values) < 2 * max(long, 2 * season) + problem.horizon + 40:
        return None
    return _Past(problem.values - problem.values.mean(), season, max(long, 2 * season))


def fit(problem: Problem) -> Array | None:
    """Return the coefficients of each stretch, one after another."""
    past = _past(problem)
    if past is None:
        return None
    n, found = len(problem.values), []
    for number, steps in enumerate(_stretches(problem.horizon, past.season)):
        first = 2 * max(past.long, past.season) + 1
        stride = max(1, (n - first) * len(steps) // _ROWS)
        rows, targets, weights = [], [], []
        for ahead in steps:
            origin = np.arange(n - ahead, first - 1, -stride)[::-1]
            rows.append(past.columns(origin, ahead))
            targets.append(past.y[origin + ahead - 1])
            weights.append(_KEEP ** ((n - origin - ahead + 1) / past.season))
        known = problem.known
        start = known[number * _COLUMNS : (number + 1) * _COLUMNS] if known is not None else None
        found.append(solve(np.vstack(rows), np.concatenate(targets), np.concatenate(weights), problem.robust, start))
    return np.concatenate(found)


def predict(problem: Problem) -> Array | None:
    """Forecast with the coefficients `problem.known`."""
    past, known = _past(problem), problem.known
    if past is None or known is None:
        return None
    stretches = _stretches(problem.horizon, past.season)
    if len(known) < _COLUMNS * len(stretches):
        return None
    origin = np.array([len(problem.values)])
    made = [
        (past.columns(origin, ahead) @ known[number * _COLUMNS : (number + 1) * _COLUMNS])[0]
        for number, steps in enumerate(stretches)
        for ahead in steps
    ]
    return np.asarray(np.array(made) + problem.values.mean())


DIRECT_REGRESSION = Method("direct_regression", predict, fit)
