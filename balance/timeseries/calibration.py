"""What the backtest of one series taught: kept, used for the next forecasts of it, and carried on."""

from __future__ import annotations

from dataclasses import dataclass

from balance.timeseries.backtest import Trials
from balance.timeseries.forecast import Backtest
from balance.timeseries.score import MethodScore
from balance.timeseries.series import Array


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
        Truth less forecast of the combination, newest origin first.
    result : Backtest
        The same in the series' own unit.
    notes : tuple of str
        Failed fits and warnings.
    scores : tuple of MethodScore
        What became of each method, in the order in which they stand in the forecaster.
    spent_s : float
        Seconds that it took.
    learnt : dict of str to ndarray
        Parameters by method, fitted at the end of the series.
    trials : Trials
        The backtest, to be carried on.
    tail : ndarray of shape (at most 64,)
        The newest values, by which the series is recognised when it comes again.
    count : int
        How many values there were.
    renewed : int
        How many origins were added since the methods were last all tried.
    """

    seasons: tuple[int, ...]
    weights: dict[str, float]
    log: bool
    errors: Array
    result: Backtest
    notes: tuple[str, ...]
    scores: tuple[MethodScore, ...]
    spent_s: float
    learnt: dict[str, Array]
    trials: Trials
    tail: Array
    count: int
    renewed: int = 0
