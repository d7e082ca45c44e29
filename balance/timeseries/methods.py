"""The simple methods, and how any method is run: what fails is a value, not an exception.

A method is a function from a `Problem` to the next steps, or to None where it does not apply (too short a
series, no season).  All work on the scale that `series.Scale` chose, so that what adds up on the log scale
multiplies on the plain one: "yesterday's shape at the last hour's level" is a sum here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from balance.timeseries.series import Array

#: The reason of a `Fit` whose method said that the series is too short for it, or has no season.
NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What a method is asked.

    Attributes
    ----------
    values : ndarray of shape (n,), n at least 1
        The past, without gaps, on the forecasting scale.
    horizon : int
        Steps wanted.
    seasons : tuple of int
        Season lengths in steps, shortest first; may be empty.
    robust : bool
        Whether to fit by absolute errors (log scale) or by squares (plain scale, where the mean is wanted).
    known : ndarray of shape (k,), optional
        What the method learnt on this series before: where `fit` may start from, what `predict` goes by.
    """

    values: Array
    horizon: int
    seasons: tuple[int, ...]
    robust: bool
    known: Array | None = None

    @property
    def season(self) -> int | None:
        """The shortest season that fits into the past once, or None."""
        return self.seasons[0] if self.seasons and self.seasons[0] <= len(self.values) else None

    @property
    def long_season(self) -> int | None:
        """The longest season that fits into the past once, or None."""
        return max((season for season in self.seasons if season <= len(self.values)), default=None)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to forecast.

    Attributes
    ----------
    name : str
        For people and for results.
    predict : callable
        ``Problem -> ndarray of shape (horizon,)``, or None where it does not apply.
    fit : callable, optional
        ``Problem -> ndarray of shape (k,)``, what `predict` needs as `Problem.known`; None where it does not
        apply.  Methods without parameters have none.
    heavy : bool
        Whether it takes a library fit of tens of milliseconds or more; such methods run last, within the budget.
    """

    name: str
    predict: Callable[[Problem], Array | None]
    fit: Callable[[Problem], Array | None] | None = None
    heavy: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What running a method came to.

    Attributes
    ----------
    values : ndarray of shape (horizon,), optional
        None where there are none, for the `reason`.
    reason : str
        Empty where there are values.
    warned : tuple of str
        Kinds of warnings.
    learnt : ndarray of shape (k,), optional
        What the method goes by.
    """

    values: Array | None
    reason: str = ""
    warned: tuple[str, ...] = ()
    learnt: Array | None = None


def run(method: Method, problem: Problem, *, refit: bool = True) -> Fit:
    """Run `method`; whatever a library does in there comes back as a value.

    Without `refit` it goes by `problem.known`, if that still fits the series.

    Examples
    --------
    >>> broken = Method("broken", lambda problem: np.linalg.inv(np.zeros((2, 2)))[0])
    >>> run(broken, Problem(np.ones(5), 1, (), True)).reason
    'LinAlgError: Singular matrix'
    """
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            values, learnt = _fitted(method, problem, refit)
        except Exception as error:  # noqa: BLE001 (statsmodels and LAPACK raise many kinds; each means: no fit)
            return Fit(None, f"{type(error).__name__}: {error}"[:200], _names(caught))
    if values is None:
        return Fit(None, NOT_APPLICABLE, _names(caught))
    values = np.asarray(values, dtype=float)
    if values.shape != (problem.horizon,) or not np.isfinite(values).all():
        return Fit(None, "the fit is not finite", _names(caught))
    return Fit(values, "", _names(caught), learnt)


def _fitted(method: Method, problem: Problem, refit: bool) -> tuple[Array | None, Array | None]:
    """Return the forecast and the parameters behind it."""
    if method.fit is None:
        return method.predict(problem), None
    if problem.known is not None and not refit:
        values = method.predict(problem)
        if values is not None:
            return values, problem.known
    learnt = method.fit(problem)
    return (None, None) if learnt is None else (method.predict(replace(problem, known=learnt)), learnt)


def _names(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(sorted({item.category.__name__ for item in caught}))


def mostly_silent(values: Array) -> bool:
    """Say whether most values are 0: the last of them then says nothing of the mean, which is wanted."""
    return bool((values == 0).mean() > 0.5)


def naive(problem: Problem) -> Array | None:
    """Repeat the last value."""
    if mostly_silent(problem.values) and problem.values.any():
        return None
    return np.full(problem.horizon, problem.values[-1])


def mean(problem: Problem) -> Array:
    """Hold the mean of the last 500 values."""
    return np.full(problem.horizon, problem.values[-500:].mean())


def level(problem: Problem) -> Array:
    """Hold the level that simple exponential smoothing reaches, with the smoothing that fitted best so far.

    Source: R. G. Brown, "Statistical Forecasting for Inventory Control", 1959.
    """
    best, held = np.inf, problem.values[-1]
    for alpha in (0.03, 0.1, 0.3, 0.6):
        error, smoothed = _smooth(problem.values[-500:], alpha, problem.robust)
        if error < best:
            best, held = error, smoothed
    return np.full(problem.horizon, held)


def _smooth(values: Array, alpha: float, robust: bool) -> tuple[float, float]:
    """Return (mean one-step error, last level) of exponential smoothing; the first tenth only warms it up."""
    state, total = float(values[: max(1, len(values) // 10)].mean()), 0.0
    for value in values.tolist():
        miss = value - state
        total += abs(miss) if robust else miss * miss
        state += alpha * miss
    return total / len(values), state


def drift(problem: Problem) -> Array | None:
    """Go on with the recent slope, damped to nine tenths at each further step.

    The slope is the median over pairs (Theil-Sen) of the last 30 values; damping after E. Gardner and
    E. McKenzie, "Forecasting trends in time series", 1985: undamped trends overshoot.
    """
    recent = problem.values[-30:]
    n = len(recent)
    if n < 4 or mostly_silent(problem.values):
        return None
    i, j = np.triu_indices(n, 1)
    slope = float(np.median((recent[j] - recent[i]) / (j - i)))
    start = float(np.median(recent - slope * np.arange(n))) + slope * (n - 1)
    return np.asarray(start + slope * np.cumsum(0.9 ** np.arange(1, problem.horizon + 1)))


NAIVE = Method("naive", naive)
MEAN = Method("mean", mean)
LEVEL = Method("level", level)
DRIFT = Method("drift", drift)
