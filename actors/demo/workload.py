"""A day of demand squeezed into a minute, or a real trace, on the demo's models.

Requests arrive as non-homogeneous Poisson processes, drawn by thinning (Lewis and Shedler, *Simulation of
nonhomogeneous Poisson processes by thinning*, 1979).  Each model has its own day: a quiet night, a morning
peak, an evening peak, in its own proportions; now and then a crowd asks for one and the same thing within
a second.  What is asked for follows Zipf's law.  The same seed always gives the same requests.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from actors.demo.documents import SHARDS
from actors.demo.host_metrics import METRICS
from actors.demo.sources import SERIES
from balance.types import Priority, check_id, check_number

HORIZONS = (4, 8, 12, 24)
WINDOWS_S = (15, 30, 60)
PHRASES = (
    "warranty of merchantability",
    "install from source",
    "asynchronous event loop",
    "time series forecasting",
    "redistribution in binary form",
    "command line interface",
    "type hints and annotations",
    "distributed actors",
    "regular expression",
    "deprecated and removed",
    "contributors and maintainers",
    "wheels for linux",
    "patent license grant",
    "http client timeout",
    "sparse linear algebra",
    "bug fixes and improvements",
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request at its moment.

    Attributes
    ----------
    t_s : float
        Seconds since the start.
    model_id : str
        Whom it is for.
    key : str
        What it asks about: a series, a shard, a metric.
    request : dict
        ``request_id``, ``model_id``, ``priority``, and the model's own fields.
    """

    t_s: float
    model_id: str
    key: str
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Day:
    """How a model's demand goes over a day.

    Attributes
    ----------
    mean_per_s : float
        Requests a second, averaged over the day, at scale 1.
    night, morning, evening : float
        Weights of the floor and of the two peaks (heights relative to each other).
    urgent_share, idle_share : float
        Shares of requests one priority above, and one below, the model's own.
    """

    mean_per_s: float
    night: float
    morning: float
    evening: float
    urgent_share: float
    idle_share: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many who ask for the same at once: `size` of them (at scale 1) around `at` of the day."""

    at: float
    width: float
    size: float
    model_id: str
    key: str
    fields: Mapping[str, Any]


#: Chosen so that two cores are about half busy on average and slightly too small for the peaks.
DAYS: Mapping[str, Day] = {
    "anomaly": Day(8.0, night=1.0, morning=0.3, evening=0.3, urgent_share=0.0, idle_share=0.0),
    "forecaster": Day(8.0, night=0.25, morning=1.6, evening=1.1, urgent_share=0.1, idle_share=0.0),
    "indexer": Day(7.0, night=0.3, morning=0.8, evening=1.6, urgent_share=0.0, idle_share=0.2),
}
PRIORITIES: Mapping[str, int] = {
    "anomaly": Priority.CRITICAL,
    "forecaster": Priority.MEDIUM,
    "indexer": Priority.LOW,
}
MORNING, EVENING, PEAK_WIDTH = 0.38, 0.76, 0.07
CROWDS: Sequence[Crowd] = (
    Crowd(0.36, 0.004, 60.0, "forecaster", "co2", {"series": "co2", "horizon": 12}),
    Crowd(0.58, 0.004, 40.0, "indexer", "0", {"shard": 0, "queries": [PHRASES[0], PHRASES[12]]}),
    Crowd(0.77, 0.004, 60.0, "forecaster", "co2", {"series": "co2", "horizon": 12}),
)


def arrivals(duration_s: float, seed: int, scale: float = 1.0, run_id: str = "demo") -> Iterator[Arrival]:
    """Draw a day of requests squeezed into `duration_s`, in the order of time.

    Parameters
    ----------
    duration_s : float
        How long the day takes, in seconds.
    seed : int
        The same seed draws the same requests.
    scale : float, default 1
        Times as many requests (1 suits two cores).
    run_id : str, default "demo"
        Begins every request id, so that two runs on one store stay apart.

    Yields
    ------
    Arrival
        With ``0 <= t_s < duration_s``.  Memory: O(models), however many there are.

    Examples
    --------
    >>> day = list(arrivals(60.0, seed=7))
    >>> 1200 < len(day) < 1800, all(a.t_s <= b.t_s for a, b in zip(day, day[1:]))
    (True, True)
    >>> sorted({arrival.model_id for arrival in day})
    ['anomaly', 'forecaster', 'indexer']
    """
    duration_s = check_number("duration_s", duration_s, minimum=1.0, what="number of seconds")
    scale = check_number("scale", scale, minimum=0.0)
    check_id("run_id", run_id)
    streams = [_day_stream(model_id, duration_s, seed, scale) for model_id in DAYS]
    streams += [_crowd_stream(number, duration_s, seed, scale) for number in range(len(CROWDS))]
    for count, (t_s, model_id, key, fields) in enumerate(heapq.merge(*streams, key=lambda draft: draft[0])):
        yield _arrival(t_s, model_id, key, fields, f"{run_id}-{seed}-{count:06d}")


def rate(model_id: str, t_s: float, duration_s: float, scale: float = 1.0) -> float:
    """Return the requests a second that `model_id` expects at `t_s`, crowds left out.

    Examples
    --------
    >>> rate("forecaster", 0.38 * 60, 60) > 3 * rate("forecaster", 3, 60)
    True
    """
    day = DAYS[model_id]
    return scale * day.mean_per_s * _shape(day, t_s / duration_s) / _mean_shape(day)


def from_trace(
    trace: Iterator[Any], speed: float = 1.0, limit: int | None = None, run_id: str = "replay", seed: int = 0
) -> Iterator[Arrival]:
    """Turn the arrivals of a real trace into requests for the demo's models.

    The times and counts are the trace's own; a count of several is spread evenly until the next line.
    The models share them by the weights of the demo.  A size (tokens, bytes) makes a request heavier or
    lighter: it is compared with the sizes seen so far and becomes a longer horizon, more queries, a longer window.

    Parameters
    ----------
    trace : iterator
        Of objects with ``t_s`` (seconds since the start), ``count`` and ``sizes`` (name to number).
    speed : float, default 1
        How many seconds of the trace pass in one second.
    limit : int, optional
        Stop after so many requests.
    run_id : str, default "replay"
        Begins every request id.
    seed : int, default 0
        Decides who asks for what.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> lines = [SimpleNamespace(t_s=0.0, count=2, sizes={}), SimpleNamespace(t_s=60.0, count=1, sizes={})]
    >>> [arrival.t_s for arrival in from_trace(iter(lines), speed=60)]
    [0.0, 0.5, 1.0]
    """
    speed = check_number("speed", speed, minimum=1e-6)
    rng = random.Random(f"{seed}/trace")  # noqa: S311 (a workload, not a secret)
    names, weights = list(DAYS), [day.mean_per_s for day in DAYS.values()]
    heaviness = _Quantile()
    for count, (t_s, sizes) in enumerate(itertools.islice(_spread(trace), limit)):
        weight = heaviness.of(sum(sizes.values())) if sizes else None
        [model_id] = rng.choices(names, weights)
        key, fields = _ASK[model_id](rng, rng.random() if weight is None else weight)
        yield _arrival(
            t_s / speed, model_id, key, {**fields, "priority": PRIORITIES[model_id]}, f"{run_id}-{count:08d}"
        )


#: (t_s, model_id, key, the model's own fields and the priority)
Draft = tuple[float, str, str, dict[str, Any]]


def _arrival(t_s: float, model_id: str, key: str, fields: Mapping[str, Any], request_id: str) -> Arrival:
    return Arrival(t_s, model_id, key, {"request_id": request_id, "model_id": model_id, **fields})


def _day_stream(model_id: str, duration_s: float, seed: int, scale: float) -> Iterator[Draft]:
    rng = random.Random(f"{seed}/{model_id}")  # noqa: S311
    day = DAYS[model_id]
    # No point of the day is higher than both peaks and the floor together.
    highest = scale * day.mean_per_s * (day.night + day.morning + day.evening) / _mean_shape(day)
    for t_s in _thinned(rng, lambda at: rate(model_id, at, duration_s, scale), highest, duration_s):
        key, fields = _ASK[model_id](rng, rng.random())
        draw, priority = rng.random(), PRIORITIES[model_id]
        if draw < day.urgent_share:
            priority -= 1
        elif draw > 1 - day.idle_share:
            priority += 1
        yield t_s, model_id, key, {**fields, "priority": int(priority)}


def _crowd_stream(number: int, duration_s: float, seed: int, scale: float) -> Iterator[Draft]:
    rng = random.Random(f"{seed}/crowd/{number}")  # noqa: S311
    crowd = CROWDS[number]
    width_s = crowd.width * duration_s
    highest = scale * crowd.size / (width_s * math.sqrt(2 * math.pi))
    fields = {**crowd.fields, "priority": int(PRIORITIES[crowd.model_id])}
    for t_s in _thinned(rng, lambda at: highest * _bell(at - crowd.at * duration_s, width_s), highest, duration_s):
        yield t_s, crowd.model_id, crowd.key, dict(fields)


def _thinned(
    rng: random.Random, rate_at: Callable[[float], float], highest: float, duration_s: float
) -> Iterator[float]:
    """Yield the times of a Poisson process of intensity ``rate_at(t) <= highest``, by thinning."""
    t_s = 0.0
    while highest > 0:
        t_s += rng.expovariate(highest)
        if t_s >= duration_s:
            return
        if rng.random() * highest < rate_at(t_s):
            yield t_s


def _bell(distance: float, width: float) -> float:
    return math.exp(-0.5 * (distance / width) ** 2)


def _shape(day: Day, moment: float) -> float:
    peaks = day.morning * _bell(moment - MORNING, PEAK_WIDTH) + day.evening * _bell(moment - EVENING, PEAK_WIDTH)
    return day.night + peaks


@lru_cache(maxsize=16)
def _mean_shape(day: Day) -> float:
    return sum(_shape(day, (step + 0.5) / 1000) for step in range(1000)) / 1000


def _zipf(rng: random.Random, keys: Sequence[Any], exponent: float = 1.1) -> Any:
    """Draw a key whose chance falls with its rank to the power of `exponent`."""
    return rng.choices(keys, [1 / rank**exponent for rank in range(1, len(keys) + 1)])[0]


def _ask_forecaster(rng: random.Random, weight: float) -> tuple[str, dict[str, Any]]:
    series = _zipf(rng, list(SERIES))
    return series, {"series": series, "horizon": HORIZONS[int(weight * len(HORIZONS))]}


def _ask_indexer(rng: random.Random, weight: float) -> tuple[str, dict[str, Any]]:
    shard = _zipf(rng, range(SHARDS))
    queries = [_zipf(rng, PHRASES) for _ in range(1 + int(weight * 4))]
    return str(shard), {"shard": shard, "queries": sorted(set(queries))}


def _ask_anomaly(rng: random.Random, weight: float) -> tuple[str, dict[str, Any]]:
    metric = _zipf(rng, list(METRICS))
    return metric, {"metric": metric, "window_s": WINDOWS_S[int(weight * len(WINDOWS_S))]}


_ASK: Mapping[str, Callable[[random.Random, float], tuple[str, dict[str, Any]]]] = {
    "anomaly": _ask_anomaly,
    "forecaster": _ask_forecaster,
    "indexer": _ask_indexer,
}


def _spread(trace: Iterator[Any]) -> Iterator[tuple[float, Mapping[str, float]]]:
    """Yield ``(t_s, sizes)`` of single requests: the `count` of a line evenly until the next line.

    The last line lasts as long as the one before it.
    """
    line = next(trace, None)
    gap = 0.0
    while line is not None:
        following = next(trace, None)
        gap = max(0.0, following.t_s - line.t_s) if following is not None else gap
        for number in range(line.count):
            yield line.t_s + gap * number / line.count, line.sizes
        line = following


class _Quantile:
    """How large a number is among the last thousand: 0 the smallest, just under 1 the largest."""

    def __init__(self) -> None:
        self._recent: list[float] = []
        self._sorted: list[float] = []

    def of(self, value: float) -> float:
        share = bisect.bisect_left(self._sorted, value) / (len(self._sorted) + 1)
        bisect.insort(self._sorted, value)
        self._recent.append(value)
        if len(self._recent) > 1000:
            del self._sorted[bisect.bisect_left(self._sorted, self._recent.pop(0))]
        return share
