"""Series over time: their history, their seasons, forecasts and anomalies.  numpy and statsmodels, no I/O.

statsmodels is imported by the first fit that needs it, not by this package.
"""

from balance.timeseries.anomaly import AnomalyScore, AnomalyScorer
from balance.timeseries.calibration import Calibration
from balance.timeseries.catalogue import ALL_METHODS, LIGHT_METHODS
from balance.timeseries.combination import CombinedForecaster
from balance.timeseries.forecast import QUANTILES, Backtest, Forecast, Forecaster
from balance.timeseries.history import History
from balance.timeseries.season import find_seasons
from balance.timeseries.timestamps import parse_timestamp

__all__ = [
    "ALL_METHODS",
    "LIGHT_METHODS",
    "QUANTILES",
    "AnomalyScore",
    "AnomalyScorer",
    "Backtest",
    "Calibration",
    "CombinedForecaster",
    "Forecast",
    "Forecaster",
    "History",
    "find_seasons",
    "parse_timestamp",
]
