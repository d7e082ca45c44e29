"""The real sources of the demo, as registered readers and as the data to register from them.

A reader is a function from the arguments of its URL to a payload of JSON values:
``reader:statsmodels?series=co2`` is ``READERS["statsmodels"](series="co2")``.

Examples
--------
>>> [item.data_id for item in catalogue() if item.max_age_s is None][:2]
['series/co2', 'series/sunspots']
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from actors.demo.documents import SHARDS, read_shard, shard_files
from actors.demo.host_metrics import METRICS, HostSampler
from balance.errors import UnknownId

HOST_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series that statsmodels ships: where it is, what a step is, how many steps make a season."""

    dataset: str
    column: str
    step: str
    season: int
    points: int


@dataclass(frozen=True, slots=True)
class DataItem:
    """One piece of data to register.

    Attributes
    ----------
    data_id : str
        Its name, as the models ask for it.
    size_bytes : int
        An estimate before it was read.
    source : str
        ``reader:<name>?<argument>=<value>``.
    max_age_s : float or None
        After so many seconds a copy is stale and is read again; None for what never changes.
    """

    data_id: str
    size_bytes: int
    source: str
    max_age_s: float | None = None


#: The weekly CO2 record is read as four-week means: 13 of them make a year.
SERIES: Mapping[str, Series] = {
    "co2": Series("co2", "co2", "4 weeks", 13, 571),
    "sunspots": Series("sunspots", "SUNACTIVITY", "year", 11, 309),
    "elnino": Series("elnino", "*", "month", 12, 732),
    "nile": Series("nile", "volume", "year", 1, 100),
    "realgdp": Series("macrodata", "realgdp", "quarter", 4, 203),
    "unemployment": Series("macrodata", "unemp", "quarter", 4, 203),
    "inflation": Series("macrodata", "infl", "quarter", 4, 203),
    "consumption": Series("macrodata", "realcons", "quarter", 4, 203),
    "tbills": Series("macrodata", "tbilrate", "quarter", 4, 203),
    "copper": Series("copper", "WORLDCONSUMPTION", "year", 1, 25),
}


def read_series(series: str) -> dict[str, Any]:
    """Read one series that statsmodels ships; gaps are filled in a straight line.

    Returns
    -------
    dict
        ``series``, ``title``, ``step`` (what one step is), ``season`` (steps, 1 for none), ``values``, ``digest``.
    """
    import numpy as np  # noqa: PLC0415 (importing the package stays cheap)

    if series not in SERIES:
        raise UnknownId("series", series, SERIES)
    spec = SERIES[series]
    title, table = _dataset(spec.dataset)
    if spec.column == "*":  # a row per year, a column per month
        values = table.drop(columns=[table.columns[0]]).to_numpy(dtype=float).ravel()
    else:
        values = table[spec.column].to_numpy(dtype=float)
    gaps = np.isnan(values)
    values = np.interp(np.arange(len(values)), np.flatnonzero(~gaps), values[~gaps])
    if spec.dataset == "co2":
        values = values[len(values) % 4 :].reshape(-1, 4).mean(axis=1)
    shown = [float(f"{value:.8g}") for value in values]
    digest = hashlib.blake2b(np.asarray(shown).tobytes(), digest_size=16).hexdigest()
    return {
        "series": series,
        "title": title,
        "step": spec.step,
        "season": spec.season,
        "values": shown,
        "digest": digest,
    }


@lru_cache(maxsize=8)
def _dataset(name: str) -> tuple[str, Any]:
    import importlib  # noqa: PLC0415

    module = importlib.import_module(f"statsmodels.datasets.{name}")
    return " ".join(str(module.TITLE).split()), module.load_pandas().data


def read_documents(shard: str | int) -> dict[str, Any]:
    """Read one shard of the installed packages' documents: see `actors.demo.documents.read_shard`."""
    return read_shard(int(shard))


_SAMPLER = HostSampler()


def start_sampling() -> HostSampler:
    """Start this process's sampler of host metrics (a second call does nothing) and return it."""
    _SAMPLER.start()
    return _SAMPLER


def read_host(metric: str, window_s: str | float = HOST_WINDOW_S) -> dict[str, Any]:
    """Return the last readings of one host metric, of the process that reads.

    The sampler starts with the first reading, so whoever serves the data calls `start_sampling` early.
    See `actors.demo.host_metrics.HostSampler.window` for the keys; ``digest`` is added.
    """
    payload = start_sampling().window(metric, float(window_s))
    seen = f"{metric} {payload['ended_at']} {len(payload['values'])}".encode()
    return {**payload, "digest": hashlib.blake2b(seen, digest_size=16).hexdigest()}


#: Name of a reader to the function behind it, for `DataCoordinator.register_reader`.
READERS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "statsmodels": read_series,
    "documents": read_documents,
    "host": read_host,
}


def catalogue() -> list[DataItem]:
    """Return everything that the models of the demo may ask for."""
    number_bytes = 12  # a float of eight digits, as JSON
    series = [
        DataItem(f"series/{name}", spec.points * number_bytes, f"reader:statsmodels?series={name}")
        for name, spec in SERIES.items()
    ]
    documents = [
        DataItem(f"documents/{n}", sum(size for *_, size in shard_files()[n]), f"reader:documents?shard={n}")
        for n in range(SHARDS)
    ]
    readings = int(HOST_WINDOW_S / _SAMPLER.interval_s)
    host = [
        DataItem(f"host/{name}", readings * number_bytes, f"reader:host?metric={name}", max_age_s=2.0)
        for name in METRICS
    ]
    return [*series, *documents, *host]
