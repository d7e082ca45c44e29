"""What a forecast is, and the one question that every forecaster answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Dict, Optional, Protocol, Tuple

from balance.timeseries.series import Array

#: The quantiles that are returned unless others are asked for.
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Backtest:
    """How a forecaster would have done on the series' own past.

    Attributes
    ----------
    mae : float, optional
        Mean absolute error over origins and steps, in the series' unit; None without a backtest.
    mase : float, optional
        `mae` over the mean absolute error of "as one season ago" ("as just now" without a season) on the
        series itself (R. Hyndman, A. Koehler, "Another look at measures of forecast accuracy", 2006);
        None where that is 0.  Below 1 is better than it.
    origins : int
        From how many past moments a forecast was made.
    """

    mae: Optional[float] = None
    mase: Optional[float] = None
    origins: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """Return ``mae``, ``mase`` and ``origins``."""
        return {"mae": self.mae, "mase": self.mase, "origins": self.origins}


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """The next steps of a series; every number in it is finite.

    Attributes
    ----------
    status : str
        ``ok``, or ``insufficient_data``: too little is known, and the naive fallback was used.
    point : ndarray of shape (horizon,)
        The most likely value of each step.
    quantiles : dict of float to ndarray of shape (horizon,)
        By level; never crossing.
    method : str
        What was used: a method's name, or ``a+b`` for a weighted mean, heaviest first.
    reason : str
        Why, in words a person reads.
    seasons : tuple of int
        Season lengths in steps that were used, shortest first.
    backtest : Backtest
        The error on the series' own past.
    weights : dict of str to float
        The share of each method that took part.
    notes : tuple of str
        Fits that failed, with why, and warnings of libraries.
    """

    status: str
    point: Array
    quantiles: Dict[float, Array]
    method: str
    reason: str
    seasons: Tuple[int, ...]
    backtest: Backtest
    weights: Dict[str, float]
    notes: Tuple[str, ...]

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values: arrays as lists, quantile levels as strings (``"0.1"``)."""
        return {
            "status": self.status,
            "point": self.point.tolist(),
            "quantiles": {f"{level:g}": values.tolist() for level, values in self.quantiles.items()},
            "method": self.method,
            "reason": self.reason,
            "seasons": list(self.seasons),
            "backtest": self.backtest.to_dict(),
            "weights": dict(self.weights),
            "notes": list(self.notes),
        }


class Forecaster(Protocol):
    """Anything that answers "what comes next"."""

    def forecast(
        self,
        values: Sequence[float] | Array,
        horizon: int,
        season: int | Sequence[int] | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> Forecast:
        """Forecast the `horizon` steps after `values`.

        Parameters
        ----------
        values : sequence of float, shape (n,)
            Equally spaced, oldest first.  NaN and infinite values are gaps.
        horizon : int
            Steps to forecast, 1 or more; it may be longer than the history.
        season : int or sequence of int, optional
            Season lengths in steps; None finds them, 0 or 1 says that there is none.
        quantiles : sequence of float
            Levels between 0 and 1.
        """
        ...
