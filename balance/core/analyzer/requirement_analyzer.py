"""What a model asks for, and whether it gets it.

Deliveries are known in one of two ways.  Where the data path reports them (`log_data_received`), they
count.  Where nobody ever reported one for a model, a logged request counts as served, so that the
analyzer is of use before the data path is wired up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

import numpy as np

from balance.clock import Clock
from balance.defaults import default
from balance.errors import InvalidValue
from balance.timeseries.timestamps import parse_timestamp
from balance.types import Priority, check_id, check_int, check_number, check_priority

#: How much an unmet byte of each priority weighs in `urgency`; anything behind BACKGROUND weighs as it.
URGENCY = {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.4, 5: 0.2}


@dataclass(frozen=True, slots=True)
class Needs:
    """What one model needs; see `RequirementAnalyzer.analyze_needs` for the fields."""

    model_id: str
    status: str
    request_count: int
    total_bytes: int
    mean_bytes: float
    p50_bytes: float
    p95_bytes: float
    rate_per_s: Optional[float]
    span_s: Optional[float]
    share_by_type: Dict[str, float]
    share_by_source: Dict[str, float]
    received_bytes: int
    unmet_bytes: int
    urgency: float

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Log:
    """One model's recent bytes: ``(monotonic second, bytes)``, oldest first."""

    requested: deque[tuple[float, int]] = field(default_factory=deque)
    received: deque[tuple[float, int]] = field(default_factory=deque)
    reports_deliveries: bool = False


class RequirementAnalyzer:
    """Summarise what models ask for and tell which of them run short of data.

    Parameters
    ----------
    clock : Clock, optional
        Dates what is logged; the machine's clock when left out.
    horizon_s : float, default 3600
        How far back "received" looks, in seconds.
    max_events : int, default 10_000
        Requests (and deliveries) kept per model; the oldest go first.

    Notes
    -----
    Logging is O(1); analysing is O(requests).

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> analyzer = RequirementAnalyzer(clock=FakeClock())
    >>> analyzer.log_data_request("whisper", 4096)
    >>> analyzer.detect_data_shortage("whisper", 10_000)
    True
    >>> needs = analyzer.analyze_needs("whisper", [{"data_size": 4096, "data_type": "audio"}, {"data_size": 8192}])
    >>> needs["total_bytes"], needs["unmet_bytes"], needs["share_by_type"]
    (12288, 8192, {'audio': 0.5, 'unknown': 0.5})
    """

    def __init__(self, *, clock: Clock | None = None, horizon_s: float = 3600.0, max_events: int = 10_000) -> None:
        self._clock: Clock = clock or default("clock")
        self._horizon_s = check_number("horizon_s", horizon_s, minimum=0, what="number of seconds")
        self._max_events = check_int("max_events", max_events, minimum=1)
        self._logs: dict[str, _Log] = {}

    def log_data_request(self, model_id: str, data_size: int) -> None:
        """Record that `model_id` asked for `data_size` bytes now; `InvalidValue` for a negative size."""
        size = check_int("data_size", data_size, minimum=0)
        self._append(self._log(model_id).requested, size)

    def log_data_received(self, model_id: str, data_size: int) -> None:
        """Record that `data_size` bytes reached `model_id` now; from then on only deliveries count as received."""
        size = check_int("data_size", data_size, minimum=0)
        log = self._log(model_id)
        log.reports_deliveries = True
        self._append(log.received, size)

    def analyze_needs(self, model_id: str, recent_requests: List[Dict[str, Any]]) -> Dict[str, Any]:
        """Summarise `recent_requests` of one model against what it received.

        Parameters
        ----------
        model_id : str
            The model.
        recent_requests : list of dict
            Each with ``data_size`` (bytes); optional ``timestamp`` (ISO 8601 or POSIX seconds), ``data_type``,
            ``source_type``, ``priority`` (1 to 5, smaller is more urgent; 3 when left out).

        Returns
        -------
        dict
            ``model_id``;
            ``status``: ``ok`` or ``no_requests``;
            ``request_count``;
            ``total_bytes``, ``mean_bytes``, ``p50_bytes``, ``p95_bytes``: sizes (0 without requests);
            ``rate_per_s``: requests per second between the first and the last timestamp, None where fewer than two
            different ones are known; ``span_s``: seconds between them, or None;
            ``share_by_type``, ``share_by_source``: share of the requests (0 to 1) by name, most frequent first,
            ``unknown`` where a request names none;
            ``received_bytes``: bytes received within the horizon;
            ``unmet_bytes``: ``total_bytes`` less ``received_bytes``, at least 0;
            ``urgency``: 0 (all met) to 1 (nothing met, all of it critical): the unmet share times the mean weight of
            the priorities by bytes (critical 1.0, high 0.8, medium 0.6, low 0.4, background 0.2).

        Raises
        ------
        InvalidValue
            A request that is no dict, lacks ``data_size``, or holds a negative size, a bad timestamp or priority.
        """
        check_id("model_id", model_id)
        requests = [_checked(request) for request in _listed(recent_requests)]
        sizes = np.array([size for size, _, _ in requests], dtype=float)
        total = sum(size for size, _, _ in requests)
        received = self._received(model_id)
        unmet = max(0, total - received)
        weight = (
            sum(size * URGENCY.get(priority, URGENCY[5]) for size, _, priority in requests) / total if total else 0.0
        )
        span, rate = _rate([at for _, at, _ in requests if at is not None])
        return Needs(
            model_id=model_id,
            status="ok" if requests else "no_requests",
            request_count=len(requests),
            total_bytes=total,
            mean_bytes=float(sizes.mean()) if requests else 0.0,
            p50_bytes=float(np.quantile(sizes, 0.5)) if requests else 0.0,
            p95_bytes=float(np.quantile(sizes, 0.95)) if requests else 0.0,
            rate_per_s=rate,
            span_s=span,
            share_by_type=_shares(recent_requests, "data_type"),
            share_by_source=_shares(recent_requests, "source_type"),
            received_bytes=received,
            unmet_bytes=unmet,
            urgency=weight * unmet / total if total else 0.0,
        ).to_dict()

    def detect_data_shortage(self, model_id: str, data_threshold: int) -> bool:
        """Say whether `model_id` received fewer than `data_threshold` bytes within the horizon.

        A model that nothing was ever logged for received nothing.  `InvalidValue` for a negative threshold.
        """
        check_id("model_id", model_id)
        return self._received(model_id) < check_number("data_threshold", data_threshold, minimum=0)

    def _log(self, model_id: str) -> _Log:
        return self._logs.setdefault(check_id("model_id", model_id), _Log())

    def _append(self, events: deque[tuple[float, int]], size: int) -> None:
        events.append((self._clock.now(), size))
        if len(events) > self._max_events:
            events.popleft()

    def _received(self, model_id: str) -> int:
        log = self._logs.get(model_id)
        if log is None:
            return 0
        events = log.received if log.reports_deliveries else log.requested
        since = self._clock.now() - self._horizon_s
        while events and events[0][0] < since:
            events.popleft()
        return sum(size for _, size in events)


def _listed(requests: object) -> Iterable[Any]:
    if not isinstance(requests, list | tuple):
        raise InvalidValue("recent_requests", requests, "a list of dicts")
    return requests


def _checked(request: object) -> tuple[int, float | None, int]:
    """Return (bytes, POSIX seconds or None, priority) of one request."""
    if not isinstance(request, Mapping) or "data_size" not in request:
        raise InvalidValue("request", request, "a dict with at least data_size (bytes)")
    at = request.get("timestamp")
    priority = request.get("priority")
    return (
        check_int("data_size", request["data_size"], minimum=0),
        None if at is None else parse_timestamp(at),
        int(Priority.MEDIUM) if priority is None else check_priority(priority),
    )


def _rate(times: list[float]) -> tuple[float | None, float | None]:
    """Return (span in seconds, requests per second); n requests span n - 1 intervals."""
    span = max(times) - min(times) if times else 0.0
    return (span, (len(times) - 1) / span) if span > 0 else (None, None)


def _shares(requests: Iterable[Mapping[str, Any]], key: str) -> dict[str, float]:
    names = Counter(_name(request.get(key)) for request in requests)
    total = names.total()
    return {name: count / total for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0]))}


def _name(value: object) -> str:
    """Return the word for an enum member, a string or nothing."""
    return "unknown" if value is None else str(getattr(value, "value", value))
