"""Take a series apart into trend, seasons and remainder, whatever single wild values there are.

STL with robust weights for one season, MSTL for several (R. Cleveland et al., "STL: a seasonal-trend
decomposition procedure based on loess", 1990; K. Bandara, R. Hyndman, C. Bergmeir, "MSTL", 2021), by statsmodels.
A season needs two full cycles; without one, or where the library finds no answer, the trend is a running
median, smoothed, and the rest is remainder.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Dict, Tuple

import numpy as np

from balance.timeseries.series import Array, clean
from balance.types import check_int


@dataclass(frozen=True, slots=True, eq=False)
class Decomposition:
    """A series as the sum of its parts; every number is finite.

    Attributes
    ----------
    trend, remainder : ndarray of shape (n,)
        The slow part, and what neither trend nor season explains.
    seasonal : dict of int to ndarray of shape (n,)
        By season length in steps; about 0.
    method : str
        ``stl``, ``mstl``, or ``running_median`` (no season).
    notes : tuple of str
        What did not work.
    """

    trend: Array
    seasonal: Dict[int, Array]
    remainder: Array
    method: str
    notes: Tuple[str, ...] = ()

    @property
    def seasons(self) -> Tuple[int, ...]:
        """Season lengths in steps, shortest first."""
        return tuple(sorted(self.seasonal))

    @property
    def adjusted(self) -> Array:
        """The series without its seasons."""
        return self.trend + self.remainder

    def strength(self, season: int) -> float:
        """Return how much of what is no trend a season explains, 0 to 1.

        As X. Wang, K. Smith, R. Hyndman, "Characteristic-based clustering for time series data", 2006; the
        remainder's outermost hundredths are drawn in, so that one spike does not hide a season.
        """
        drawn = np.clip(self.remainder, *np.quantile(self.remainder, [0.01, 0.99]))
        whole = float((self.seasonal[season] + drawn).var())
        return min(1.0, max(0.0, 1.0 - float(drawn.var()) / whole)) if whole > 0 else 0.0

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON values: the parts as lists, seasons and ``strength`` by length as strings."""
        return {
            "trend": self.trend.tolist(),
            "seasonal": {str(season): part.tolist() for season, part in self.seasonal.items()},
            "remainder": self.remainder.tolist(),
            "method": self.method,
            "strength": {str(season): self.strength(season) for season in self.seasons},
            "notes": list(self.notes),
        }


def decompose(values: Sequence[float] | Array, seasons: Sequence[int] = ()) -> Decomposition:
    """Return the parts of `values`.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Equally spaced, oldest first.  Gaps (NaN, infinite, absurd) are interpolated; those at the start are cut off,
        and only the newest 4032 values are kept (see `series.clean`).
    seasons : sequence of int
        Season lengths in steps; those that do not fit in twice are left out.

    Notes
    -----
    50 to 200 ms for 500 to 2000 values and one season, some 500 ms for two.

    Examples
    --------
    >>> days = [10.0 + (hour % 24 > 8) for hour in range(24 * 7)]
    >>> days[50] = 900.0
    >>> parts = decompose(days, [24])
    >>> parts.method, round(float(parts.remainder[50])), round(parts.strength(24), 1)
    ('stl', 890, 1.0)
    """
    series = clean(values).values
    wanted = sorted({check_int("season", season, minimum=0) for season in seasons})
    fitting = [season for season in wanted if season >= 2 and 2 * season < len(series)]
    notes = tuple(f"a season of {season} steps does not fit in twice" for season in wanted if season not in fitting)
    if fitting and np.ptp(series) > 0:
        # A value near the largest number would overflow the smoother's squares.
        size = float(np.abs(series).max())
        try:
            made = _with_seasons(series / size, fitting)
        except Exception as error:  # noqa: BLE001 (whatever a library says, it means: no such decomposition)
            notes = (*notes, f"{type(error).__name__}: {error}"[:200])
        else:
            parts = [made.trend, made.resid, *(made.seasonal[:, at] for at in range(len(fitting)))]
            if all(np.isfinite(part).all() for part in parts):
                seasonal = {season: parts[2 + at] * size for at, season in enumerate(fitting)}
                name = "stl" if len(fitting) == 1 else "mstl"
                return Decomposition(made.trend * size, seasonal, made.resid * size, name, notes)
            notes = (*notes, "the decomposition is not finite")
    trend = _running_median(series)
    return Decomposition(trend, {}, series - trend, "running_median", notes)


class _Parts:
    """What STL and MSTL return, with the seasons as columns."""

    def __init__(self, made: Any) -> None:
        self.trend, self.resid = np.asarray(made.trend), np.asarray(made.resid)
        self.seasonal = np.asarray(made.seasonal).reshape(len(self.trend), -1)


def _with_seasons(series: Array, seasons: list[int]) -> _Parts:
    from statsmodels.tsa.seasonal import MSTL, STL  # noqa: PLC0415 (costs a second, once)

    # The shape stays the same over all cycles: where it may change slowly, one large spike among few cycles pulls the
    # robust weights to a wrong answer (error 2.7 instead of 0.2 of an amplitude of 20 on three weeks of hours).
    cycles = [10 * (len(series) // season) + 1 for season in seasons]
    # The smoothers are computed at every tenth of a season and interpolated between, as R's do.
    options: dict[str, Any] = {"robust": True, "seasonal_deg": 0}
    options |= dict.fromkeys(("trend_jump", "low_pass_jump"), max(1, seasons[0] // 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(seasons) == 1:
            return _Parts(STL(series, period=seasons[0], seasonal=cycles[0], **options).fit())
        made = MSTL(series, periods=seasons, windows=cycles, iterate=2, stl_kwargs=options).fit()
        return _Parts(made)


def _running_median(series: Array) -> Array:
    """Return the running median over about a sixth of the series, smoothed by a running mean half as wide."""
    n = len(series)
    if n < 3:
        return series.copy()
    half = max(1, n // 12)
    padded = np.pad(series, half, mode="edge")
    medians = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    side = max(1, half // 2)
    width = 2 * side + 1
    return np.convolve(np.pad(medians, side, mode="edge"), np.ones(width) / width, "valid")
