"""Stand at past moments of a series, forecast with every method and with their combination, compare with what came.

The comparison is on values that no part of the forecast has seen: at each origin everything is learnt anew on what was
known there, the weights of the combination and the widths of the intervals included (L. Tashman, "Out-of-sample tests
of forecasting accuracy: an analysis and review", International Journal of Forecasting 16, 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.prediction.optimization import accuracy
from balance.timeseries import ALL_METHODS, Calibration, CombinedForecaster
from balance.timeseries.conformal import error_quantiles
from balance.timeseries.forecast import QUANTILES
from balance.timeseries.methods import Method, Problem, run
from balance.timeseries.series import Array, Scale, clean
from balance.types import check_int

#: The name of the weighed combination of all methods, which is what `balance forecast` uses.
COMBINATION = "combination"
#: Fewer values than this are known at no origin.
FEWEST = 8


@dataclass(frozen=True, slots=True)
class MethodAccuracy:
    """How one method did on one series.

    Attributes
    ----------
    method : str
        Its name, or ``combination``.
    status : str
        ``ok``; ``not_applicable``: it forecast from no origin (too short a series, no season, or it failed);
        ``insufficient_data``: the series has no origin with anything known before and after it.
    origins : int
        From how many moments it forecast.
    smape : float, optional
        Percent.
    mase : float, optional
        Over the mean absolute change over a season (a step) before the origin; None where that is 0.
    pinball : float, optional
        Mean loss of the 0.1, 0.5 and 0.9 quantile, over the same change; None where that is 0.
    coverage : float, optional
        How often the truth lay between the 0.1 and the 0.9 quantile.
    cpu_s : float
        Seconds a forecast, learning included.
    """

    method: str
    status: str
    origins: int = 0
    smape: Optional[float] = None
    mase: Optional[float] = None
    pinball: Optional[float] = None
    coverage: Optional[float] = None
    cpu_s: float = 0.0

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Sums:
    cpu_s: float = 0.0
    rows: List[tuple[float, float | None, float | None, float]] = field(default_factory=list)

    def result(self, name: str) -> MethodAccuracy:
        if not self.rows:
            return MethodAccuracy(name, "not_applicable", cpu_s=self.cpu_s)
        smape, mase, pinball, coverage = (
            [one for one in each if one is not None] for each in zip(*self.rows, strict=True)
        )
        return MethodAccuracy(
            name,
            "ok",
            len(self.rows),
            smape=float(np.mean(smape)),
            mase=float(np.mean(mase)) if mase else None,
            pinball=float(np.mean(pinball)) if pinball else None,
            coverage=float(np.mean(coverage)),
            cpu_s=self.cpu_s / len(self.rows),
        )


def origins_of(n: int, horizon: int, origins: int) -> tuple[list[int], int]:
    """Return how many values are known at each origin, newest first, and over how many steps they are compared.

    The stretches that are compared do not overlap.  A horizon of more than a quarter of the series is cut to that.

    Examples
    --------
    >>> origins_of(100, 10, 3), origins_of(20, 48, 2), origins_of(8, 1, 3)
    (([90, 80, 70], 10), ([15, 10], 5), ([], 1))
    """
    steps = min(horizon, max(1, n // 4))
    known = [n - steps * number for number in range(1, origins + 1)]
    return [at for at in known if at >= max(FEWEST, n // 2)], steps


def rolling_origin(
    values: Sequence[float] | Array,
    horizon: int,
    season: int | Sequence[int] | None = None,
    *,
    origins: int = 3,
    budget_s: float = 1.0,
    methods: Sequence[Method] = ALL_METHODS,
    clock: Clock | None = None,
) -> list[MethodAccuracy]:
    """Return how each method did, the combination first.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Equally spaced, oldest first; gaps (NaN) are not compared.
    horizon : int
        Steps ahead.
    season : int or sequence of int, optional
        Season lengths in steps; None finds them at every origin, 0: none.
    origins : int, default 3
        How many moments, as far as the first half of the series stays known.
    budget_s : float, default 1.0
        Seconds of learning at each.
    methods : sequence of Method, optional
        All by default.
    clock : Clock, optional
        Measures what a method costs, and the budget.

    Examples
    --------
    >>> days = [100.0 + 10 * (hour % 24) + hour * hour % 7 for hour in range(24 * 12)]
    >>> found = {one.method: one for one in rolling_origin(days, 24, budget_s=0.05)}
    >>> found["combination"].mase < found["naive"].mase, found["combination"].origins
    (True, 3)
    """
    check_int("origins", origins, minimum=1)
    check_int("horizon", horizon, minimum=1)
    timer: Clock = clock or default("clock")
    raw = np.array(values, dtype=float)
    known = np.flatnonzero(np.isfinite(raw))
    raw = raw[known[0] :] if known.size else raw[:0]
    places, steps = origins_of(len(raw), horizon, origins)
    forecaster = CombinedForecaster(clock=timer, budget_s=budget_s, methods=methods)
    names = [COMBINATION, *(method.name for method in methods)]
    sums = {name: _Sums() for name in names}
    compared = 0
    for origin in places:
        past, truth = raw[:origin], raw[origin : origin + steps]
        began = timer.now()
        calibration = forecaster.calibrate(past, steps, season) if np.isfinite(truth).any() else None
        if calibration is None:
            continue
        compared += 1
        made = forecaster.forecast(past, steps, season, calibration=calibration)
        sums[COMBINATION].cpu_s += timer.now() - began
        scale = _usual_change(clean(past).values, calibration.seasons)
        sums[COMBINATION].rows.append(_compare(truth, made.point, made.quantiles, scale))
        for method in methods:
            began = timer.now()
            single = _alone(method, past, steps, calibration)
            sums[method.name].cpu_s += timer.now() - began + _cost(calibration, method.name)
            if single is not None:
                sums[method.name].rows.append(_compare(truth, *single, scale))
    return [sums[name].result(name) if compared else MethodAccuracy(name, "insufficient_data") for name in names]


def _cost(calibration: Calibration, name: str) -> float:
    return sum(score.cost_s for score in calibration.scores if score.name == name)


def _alone(
    method: Method, values: Array, steps: int, calibration: Calibration
) -> tuple[Array, Dict[float, Array]] | None:
    """Return what one method forecasts by itself, with an interval out of its own errors in the calibration."""
    misses = [
        origin.truth - origin.made[method.name] for origin in calibration.trials.origins if method.name in origin.made
    ]
    series = clean(values).values
    scale = Scale.of(series)
    problem = Problem(scale.forward(series), steps, calibration.seasons, scale.log, calibration.learnt.get(method.name))
    fit = run(method, problem) if misses else None
    if fit is None or fit.values is None:
        return None
    offsets = error_quantiles(np.stack(misses), steps, QUANTILES)
    return scale.back(fit.values), {level: scale.back(fit.values + offsets[level]) for level in QUANTILES}


def _compare(
    truth: Array, point: Array, quantiles: Dict[float, Array], scale: float
) -> tuple[float, float | None, float | None, float]:
    good = np.isfinite(truth)
    came, made = truth[good], point[good]
    rows = {level: values[good] for level, values in quantiles.items()}
    loss = float(np.mean([accuracy.pinball(came, values, level) for level, values in rows.items()]))
    inside = float(((came >= rows[0.1]) & (came <= rows[0.9])).mean())
    mae = float(np.abs(made - came).mean())
    return accuracy.smape(came, made), mae / scale if scale else None, loss / scale if scale else None, inside


def _usual_change(values: Array, seasons: tuple[int, ...]) -> float:
    lag = seasons[0] if seasons and seasons[0] < len(values) else 1
    return float(np.abs(values[lag:] - values[:-lag]).mean()) if len(values) > lag else 0.0
