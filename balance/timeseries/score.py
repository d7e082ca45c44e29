"""How one method did in the backtest of one series, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

import numpy as np

from balance.timeseries.backtest import NO_TIME, Trials
from balance.timeseries.forecast import Backtest
from balance.timeseries.methods import NOT_APPLICABLE
from balance.timeseries.series import Scale


@dataclass(frozen=True, slots=True)
class MethodScore:
    """One method on one series.

    Attributes
    ----------
    name : str
        The method.
    status : str
        ``used``; ``outweighed``: tried, and too far behind the best; ``not_applicable``: no season, or too
        short a series; ``failed``: no fit at the newest origin; ``no_time``: the budget was over before.
    weight : float
        Its share of the forecast, 0 to 1.
    backtest : Backtest
        Its own error at the origins where it was tried.
    cost_s : float
        Seconds that its fits and forecasts took.
    reason : str
        Why it did not take part; empty where it did.
    """

    name: str
    status: str
    weight: float
    backtest: Backtest
    cost_s: float
    reason: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Return ``status``, ``weight``, ``mae``, ``mase``, ``origins``, ``cost_s`` and ``reason``."""
        return {
            "status": self.status,
            "weight": self.weight,
            **self.backtest.to_dict(),
            "cost_s": self.cost_s,
            "reason": self.reason,
        }


def seasonal_error(mae: Optional[float], usual: float) -> Optional[float]:
    """Return `mae` over the usual change from season to season: MASE; None where that is 0 or unknown.

    Examples
    --------
    >>> seasonal_error(2.0, 4.0), seasonal_error(2.0, 0.0)
    (0.5, None)
    """
    return mae / usual if mae is not None and usual > 0 else None


def score_of(name: str, trials: Trials, weights: dict[str, float], scale: Scale, usual: float) -> MethodScore:
    """Say what became of the method `name`."""
    misses = [
        np.abs(scale.back(origin.truth) - scale.back(origin.made[name])).mean()
        for origin in trials.origins
        if name in origin.made
    ]
    mae = float(np.mean(misses)) if misses else None
    refused = "" if name in weights else trials.refused.get(name, "" if misses else NO_TIME)
    if name in weights:
        status = "used"
    elif not refused:
        status, refused = "outweighed", "too far behind the best"
    else:
        status = {NOT_APPLICABLE: "not_applicable", NO_TIME: "no_time"}.get(refused, "failed")
    result = Backtest(mae, seasonal_error(mae, usual), len(misses))
    return MethodScore(name, status, weights.get(name, 0.0), result, trials.costs.get(name, 0.0), refused)
