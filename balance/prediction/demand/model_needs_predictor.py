"""How much data a model will ask for, from the requests that it made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Dict

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.prediction.demand.result import DemandForecast
from balance.prediction.demand.steps import recorded, sum_by_step
from balance.timeseries.combination import CombinedForecaster
from balance.timeseries.forecast import Forecaster
from balance.timeseries.history import History
from balance.timeseries.series import Array
from balance.timeseries.timestamps import parse_timestamp
from balance.types import check_id, check_int, check_number

#: Requests looked at: the newest in the order of the list.
MOST_REQUESTS = 20_000


@dataclass(frozen=True, slots=True)
class _Request:
    size: float
    at: float | None
    kind: str


class ModelNeedsPredictor:
    """Forecast the bytes that a model will ask for.

    Parameters
    ----------
    history : History, optional
        Where to look for the bytes that were asked for (series ``needs:<model_id>``) when no requests are passed.
    clock : Clock, optional
        Measures the forecaster's budget, and says what is recent in the history.
    forecaster : Forecaster, optional
        Makes the forecasts.
    horizon_steps : int, default 12
        Steps ahead.

    Examples
    --------
    >>> requests = [{"timestamp": 60.0 * i, "data_size": 1000, "data_type": "text"} for i in range(100)]
    >>> needs = ModelNeedsPredictor().predict_needs("whisper", requests)
    >>> needs["status"], needs["step_s"], round(needs["expected_bytes"])
    ('ok', 60.0, 12000)
    >>> needs["expected_bytes_by_type"] == {"text": needs["expected_bytes"]}
    True
    """

    def __init__(
        self,
        *,
        history: History | None = None,
        clock: Clock | None = None,
        forecaster: Forecaster | None = None,
        horizon_steps: int = 12,
    ) -> None:
        self._clock: Clock = clock or default("clock")
        self._history = history
        self._forecaster: Forecaster = forecaster or CombinedForecaster(clock=self._clock)
        self._horizon = check_int("horizon_steps", horizon_steps, minimum=1)

    def predict_needs(self, model_id: str, recent_requests: list) -> dict:  # type: ignore[type-arg]  # the contract's
        """Forecast the bytes of the next steps.

        Parameters
        ----------
        model_id : str
            The model.
        recent_requests : list
            Dicts with ``data_size`` (bytes) and optionally ``timestamp`` (ISO 8601 or POSIX seconds) and
            ``data_type``; or plain sizes.  Order does not matter where all carry a timestamp.  A size that is
            NaN or infinite is skipped and counted.

        Returns
        -------
        dict
            The keys of `DemandForecast.to_dict`.  Where all requests are dated and of more than one moment, a
            step is a stretch of time and ``unit`` is ``bytes_per_step``; otherwise a step is a request and
            ``unit`` is ``bytes_per_request``.  Besides
            ``request_count``, ``skipped``: requests used and left out;
            ``expected_bytes``: of the whole horizon; ``expected_requests``: that over the mean size;
            ``expected_bytes_by_type``: by each type's share of the bytes so far, by name.

        Raises
        ------
        InvalidValue
            A request that is neither a dict with ``data_size`` nor a number, a negative size, a bad timestamp.
        """
        check_id("model_id", model_id)
        if not isinstance(recent_requests, list | tuple):
            raise InvalidValue("recent_requests", recent_requests, "a list of dicts or of sizes in bytes")
        given = [_read(item) for item in recent_requests[-MOST_REQUESTS:]]
        requests = [item for item in given if item is not None]
        sizes = [request.size for request in requests]
        series, step_s = self._series(model_id, requests)
        forecast = self._forecaster.forecast(series, self._horizon)
        expected = float(forecast.point.sum())
        total = math.fsum(sizes)
        extra: Dict[str, Any] = {
            "request_count": len(requests),
            "skipped": len(given) - len(requests),
            "expected_bytes": expected,
            "expected_requests": expected * len(sizes) / total if total else 0.0,
            "expected_bytes_by_type": {
                kind: expected * share / total if total else 0.0 for kind, share in _bytes_by_type(requests).items()
            },
        }
        unit = "bytes_per_request" if step_s is None else "bytes_per_step"
        return DemandForecast(model_id, forecast, step_s, unit, extra).to_dict()

    def _series(self, model_id: str, requests: list[_Request]) -> tuple[Array | list[float], float | None]:
        """Return the bytes to forecast and the step in seconds; None where a step is a request."""
        if not requests and self._history is not None:
            return recorded(self._history, f"needs:{model_id}", "sum", self._clock.wall())
        sizes = [request.size for request in requests]
        dated = [request.at for request in requests if request.at is not None]
        binned = sum_by_step(dated, sizes) if len(dated) == len(requests) else None
        return binned if binned else (sizes, None)


def _read(item: object) -> _Request | None:
    """Return the request, or None where its size is NaN or infinite."""
    if isinstance(item, Mapping):
        if "data_size" not in item:
            raise InvalidValue("request", dict(item), "a dict with at least data_size (bytes)")
        size, at, kind = item["data_size"], item.get("timestamp"), item.get("data_type")
    else:
        size, at, kind = item, None, None
    if isinstance(size, float) and not math.isfinite(size):
        return None
    return _Request(
        size=check_number("data_size", size, minimum=0, maximum=1e30, what="number of bytes"),
        at=None if at is None else parse_timestamp(at),
        kind="unknown" if kind is None else str(getattr(kind, "value", kind)),
    )


def _bytes_by_type(requests: list[_Request]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for request in sorted(requests, key=lambda request: request.kind):
        shares[request.kind] = shares.get(request.kind, 0.0) + request.size
    return shares
