"""Score what was forecast against what came, continuously, and notice when forecasts get worse.

The simple rival, "as one season ago" ("as just now" without a season), is scored on the very same steps: whether
a forecast is good can only be said against it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional

import numpy as np
from numpy.typing import NDArray

from balance.errors import InvalidValue
from balance.prediction.optimization import accuracy
from balance.prediction.optimization.scored import Scored
from balance.timeseries.series import LARGEST, Array
from balance.timeseries.timestamps import parse_timestamp
from balance.types import check_id, check_int, check_number

#: Fewer scored steps than this say nothing.
ENOUGH = 8
#: Indices into an array.
Places = NDArray[np.int64]
#: A forecast of several methods is followed under this name, however they are weighed.
COMBINATION = "combination"


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """How one model's forecasts do; see `AccuracyMonitor.monitor_accuracy` for the fields."""

    model_id: str
    status: str
    method: str
    simple: str
    scored: int
    skipped: int
    total_scored: int
    window: int
    latest_mae: Optional[float] = None
    mae: Optional[float] = None
    rmse: Optional[float] = None
    smape: Optional[float] = None
    mase: Optional[float] = None
    pinball: Dict[str, float] = field(default_factory=dict)
    coverage: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    bias: Dict[str, Any] = field(default_factory=dict)
    drift: Dict[str, Any] = field(default_factory=dict)
    by_method: Dict[str, Dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One call's steps that can be scored, and the ones before them."""

    truth: Array
    point: Array
    quantiles: Dict[float, Array]
    methods: Dict[str, Array]
    moments: Array | None
    skipped: int
    season: int
    method: str


class AccuracyMonitor:
    """Follow how the forecasts of each model do.

    Parameters
    ----------
    window : int, default 500
        Steps a model over which is judged.
    max_models : int, default 2000
        Models that are followed; the one scored longest ago is forgotten first.

    Examples
    --------
    >>> monitor = AccuracyMonitor()
    >>> truth = [100.0 + step % 5 for step in range(40)]
    >>> predicted = {"point": [value + 10 for value in truth], "quantiles": {"0.1": [90.0] * 40, "0.9": [120.0] * 40}}
    >>> made = monitor.monitor_accuracy("whisper", {"values": truth}, predicted)
    >>> made["status"], made["mae"], made["bias"]["verdict"], made["coverage"]["0.8"]["observed"]
    ('ok', 10.0, 'too_high', 1.0)
    """

    def __init__(self, *, window: int = 500, max_models: int = 2000) -> None:
        self._window = check_int("window", window, minimum=ENOUGH)
        self._max_models = check_int("max_models", max_models, minimum=1)
        self._models: OrderedDict[str, Scored] = OrderedDict()

    def monitor_accuracy(self, model_id: str, actual_data: dict, predicted_data: dict) -> dict:  # type: ignore[type-arg]  # the contract's
        """Score a forecast, and say how the model's forecasts have done of late.

        Parameters
        ----------
        model_id : str
            The model, or the name of the series.
        actual_data : dict
            ``values``: what came, oldest first; None, NaN and infinite ones are skipped.  Optional: ``timestamps``, one
            for each (ISO 8601 or POSIX seconds), ``history``: values from before them, ``season``: steps.
        predicted_data : dict
            What a forecast returns: ``point``; optionally ``quantiles`` (by level), ``method``, ``seasons``,
            ``timestamps`` (the steps are matched by them where both have some, by their place otherwise), and
            ``methods``: by name, what other methods forecast for the same steps.  Other keys are passed over.

        Returns
        -------
        dict
            ``model_id``; ``status``: ``ok``, ``insufficient_data`` (fewer than 8 steps scored so far) or
            ``nothing_to_score`` (no step has both a value and a forecast; the figures are those from before);
            ``method``: whose forecast it was (``combination`` for several); ``simple``: the rival, ``seasonal_naive``
            or
            ``naive``;
            ``scored``, ``skipped``: steps of this call; ``total_scored``; ``window``: how many the figures are of;
            ``latest_mae``: of this call; ``mae``, ``rmse``: in the series' unit; ``smape``: percent; ``mase``: over the
            mean absolute change from one season (step) to the next, None where that is 0 or not known;
            ``pinball``: by level, and ``mean``; ``coverage``: see `accuracy.coverage`; ``bias``: see `accuracy.bias`;
            ``drift``: ``status`` (``stable``, ``drifting``: errors have grown for good), ``since_scored`` (how many
            scored steps, or forecasts where they have several, ago that began; None: never) and ``statistic`` (1 is the
            alarm);
            ``by_method``: by name, ``mae``, ``simple_mae`` (the rival's on the same steps), ``ratio`` of the two (None
            where the rival makes no error) and ``scored``.

        Raises
        ------
        InvalidValue
            Data that is no dict, no ``values`` or ``point``, something in them that is no number, not as many
            timestamps as values, a level outside 0 to 1, a negative season.

        Notes
        -----
        State of a model: `window` steps.  About 1 ms.
        """
        check_id("model_id", model_id)
        call = _matched(_dict("actual_data", actual_data), _dict("predicted_data", predicted_data))
        past_given = _numbers("history", actual_data["history"]) if actual_data.get("history") is not None else None
        scored = self._models.get(model_id) or Scored(self._window)
        past = _past(scored, call, past_given)
        latest = self._take_in(scored, call, past)
        self._models[model_id] = scored
        self._models.move_to_end(model_id)
        if len(self._models) > self._max_models:
            self._models.popitem(last=False)
        return _report(model_id, call, scored, past, latest).to_dict()

    @staticmethod
    def _take_in(scored: Scored, call: _Call, past: Array) -> float | None:
        """Remember the steps of one call; return their mean absolute error."""
        if not len(call.truth):
            return None
        rival = _rival(past, call.season, len(call.truth))
        for at, truth in enumerate(call.truth.tolist()):
            made = {level: float(values[at]) for level, values in call.quantiles.items()}
            scored.add(truth, float(call.point[at]), made)
            if rival is not None:
                simple = abs(float(rival[at]) - truth)
                for name, values in {**call.methods, call.method: call.point}.items():
                    if math.isfinite(values[at]):
                        scored.add_method(name, abs(float(values[at]) - truth), simple)
            moment = float(call.moments[at]) if call.moments is not None else scored.past_until
            if call.moments is None or moment > scored.past_until:
                scored.past.append(truth)
                scored.past_until = moment
        latest = float(np.abs(call.point - call.truth).mean())
        # One error a call: those of one forecast go together, and would be counted as many.
        scored.drift.update(latest)
        return latest

    def snapshot(self) -> Dict[str, Any]:
        """Return the state as JSON values: by model, what `Scored.snapshot` returns."""
        return {model_id: scored.snapshot() for model_id, scored in self._models.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        models: OrderedDict[str, Scored] = OrderedDict()
        for model_id, saved in state.items():
            models[model_id] = Scored(self._window)
            models[model_id].restore(saved)
        self._models = models


def _report(model_id: str, call: _Call, scored: Scored, past: Array, latest: float | None) -> AccuracyReport:
    truth, point = scored.truth, scored.point
    simple = "seasonal_naive" if call.season > 1 else "naive"
    plain = AccuracyReport(
        model_id=model_id,
        status="nothing_to_score" if latest is None else "ok" if scored.total >= ENOUGH else "insufficient_data",
        method=call.method,
        simple=simple,
        scored=len(call.truth),
        skipped=call.skipped,
        total_scored=scored.total,
        window=len(truth),
        latest_mae=latest,
    )
    if not len(truth):
        return plain
    known, quantiles = scored.quantiles()
    losses = {f"{level:g}": accuracy.pinball(known, made, level) for level, made in sorted(quantiles.items())}
    error = np.abs(point - truth)
    scale = _scale(past if len(past) > call.season else np.array(scored.past), call.season)
    drift = scored.drift
    return AccuracyReport(
        **{name: getattr(plain, name) for name in ("model_id", "status", "method", "simple", "scored", "skipped")},
        total_scored=plain.total_scored,
        window=plain.window,
        latest_mae=latest,
        mae=float(error.mean()),
        # Scaled before it is squared: a square may overflow where its root does not.
        rmse=float(error.max() * np.sqrt(((error / error.max()) ** 2).mean())) if error.max() > 0 else 0.0,
        smape=accuracy.smape(truth, point),
        mase=_ratio(float(error.mean()), scale),
        pinball={**losses, "mean": float(np.mean(list(losses.values())))} if losses else {},
        coverage=accuracy.coverage(known, quantiles),
        bias=accuracy.bias(truth, point),
        drift={
            "status": "drifting" if drift.drifting else "stable",
            "since_scored": drift.seen - drift.since if drift.since >= 0 else None,
            "statistic": drift.statistic,
        },
        by_method={name: _of_method(*errors) for name, errors in scored.methods().items()},
    )


def _of_method(miss: Array, simple: Array) -> Dict[str, Any]:
    mae, simple_mae = float(miss.mean()), float(simple.mean())
    return {"mae": mae, "simple_mae": simple_mae, "ratio": _ratio(mae, simple_mae), "scored": len(miss)}


def _ratio(of: float, to: float) -> float | None:
    """Return a ratio, or None where there is none: to 0, or to a number so small that it is beyond all bounds."""
    ratio = of / to if to > 0 else math.inf
    return ratio if math.isfinite(ratio) else None


def _past(scored: Scored, call: _Call, given: Array | None) -> Array:
    """Return what was known when the forecast was made, as far as anybody knows."""
    if given is not None:
        return given[np.isfinite(given)]
    if call.moments is not None and len(call.moments) and call.moments[0] <= scored.past_until:
        # Forecasts that overlap: what came after this one was made is not its past.
        later = int((call.moments <= scored.past_until).sum())
        return np.array(scored.past)[: max(0, len(scored.past) - later)]
    return np.array(scored.past)


def _rival(past: Array, season: int, steps: int) -> Array | None:
    if not len(past):
        return None
    return np.resize(past[-season:], steps) if len(past) >= season else np.full(steps, past[-1])


def _scale(past: Array, season: int) -> float:
    """Return the mean absolute change over a season, or over a step where less than a season is known; 0: unknown."""
    lag = season if len(past) > season else 1
    return float(np.abs(past[lag:] - past[:-lag]).mean()) if len(past) > lag else 0.0


def _matched(actual: Mapping[str, Any], predicted: Mapping[str, Any]) -> _Call:
    """Return the steps that have both a value and a forecast."""
    values, point = _numbers("values", actual.get("values")), _numbers("point", predicted.get("point"))
    quantiles = {
        check_number("level", level, minimum=0, maximum=1): _numbers("quantiles", made, len(point))
        for level, made in _dict("quantiles", predicted.get("quantiles") or {}).items()
    }
    methods = {
        check_id("method", name): _numbers("methods", made, len(point))
        for name, made in _dict("methods", predicted.get("methods") or {}).items()
    }
    first, second, moments = _places(actual, predicted, len(values), len(point))
    truth, made = values[first], point[second]
    good = np.isfinite(truth) & np.isfinite(made)
    for rows in quantiles.values():
        good &= np.isfinite(rows[second])
    seasons = actual.get("season") or next(iter(predicted.get("seasons") or ()), 1)
    method = str(predicted.get("method") or "forecast")
    return _Call(
        truth=truth[good],
        point=made[good],
        quantiles={level: rows[second][good] for level, rows in quantiles.items()},
        methods={name: rows[second][good] for name, rows in methods.items()},
        moments=None if moments is None else moments[good],
        skipped=len(values) - int(good.sum()),
        season=max(1, check_int("season", seasons, minimum=0)),
        method=COMBINATION if "+" in method else method,
    )


def _places(
    actual: Mapping[str, Any], predicted: Mapping[str, Any], n: int, m: int
) -> tuple[Places, Places, Array | None]:
    """Return the places in both of the steps that they share, oldest first, and their moments where there are any."""
    if actual.get("timestamps") is None or predicted.get("timestamps") is None:
        both = np.arange(min(n, m))
        return both, both, None
    # Of several readings of one moment the last counts: it corrects the others.
    came = dict(zip(_moments("actual", actual["timestamps"], n), range(n), strict=True))
    made = dict(zip(_moments("predicted", predicted["timestamps"], m), range(m), strict=True))
    shared = sorted(came.keys() & made.keys())
    places = ([there[moment] for moment in shared] for there in (came, made))
    first, second = (np.array(each, dtype=np.int64) for each in places)
    return first, second, np.array(shared, dtype=float)


def _moments(name: str, stamps: Any, n: int) -> list[float]:
    if isinstance(stamps, str) or not hasattr(stamps, "__len__") or len(stamps) != n:
        raise InvalidValue(f"{name} timestamps", stamps, f"as many as there are values ({n})")
    return [parse_timestamp(stamp) for stamp in stamps]


def _dict(name: str, value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue(name, value, "a dict")
    return value


def _numbers(name: str, values: Any, n: int | None = None) -> Array:
    """Return a flat array, what is no honest number as NaN."""
    if isinstance(values, str) or not (isinstance(values, Sequence) or hasattr(values, "tolist")):
        raise InvalidValue(name, values, "a flat sequence of numbers")
    try:
        made = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise InvalidValue(name, values, "a flat sequence of numbers") from None
    if made.ndim != 1 or (n is not None and len(made) != n):
        raise InvalidValue(name, values, "a flat sequence of numbers" + ("" if n is None else f", {n} of them"))
    made[~np.isfinite(made) | (np.abs(np.nan_to_num(made, nan=np.inf)) > LARGEST)] = np.nan
    return made
