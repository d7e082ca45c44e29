"""The demo's sources are real, bounded, and the same on every read."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest

from actors.demo import host_metrics
from actors.demo.documents import SHARD_BYTES, SHARDS, read_shard, shard_files
from actors.demo.host_metrics import METRICS, HostSampler
from actors.demo.models import MODELS
from actors.demo.sources import READERS, catalogue
from actors.demo.workload import arrivals
from balance.clock import FakeClock
from balance.errors import BalanceError


def test_everything_in_the_catalogue_can_be_read() -> None:
    """Each source names a reader and its arguments; the payload is JSON with a digest."""
    for item in catalogue():
        name, _, query = item.source.removeprefix("reader:").partition("?")
        payload = READERS[name](**dict(parse_qsl(query)))
        assert payload["digest"]
        json.dumps(payload, allow_nan=False)


def test_the_workload_asks_only_for_what_is_registered() -> None:
    """Every request of a day needs data that the catalogue lists."""
    known = {item.data_id for item in catalogue()}
    wanted = {name for a in arrivals(60.0, seed=1) for name in MODELS[a.model_id].needs(a.request)}
    assert wanted <= known
    assert len(wanted) > 20


def test_shards_are_bounded_stable_and_of_similar_size() -> None:
    """No shard is above its bound, none is empty, reading twice gives the same digest."""
    sizes = [sum(size for *_, size in shard) for shard in shard_files()]
    assert len(sizes) == SHARDS
    assert 0 < min(sizes) <= max(sizes) <= SHARD_BYTES
    assert read_shard(2)["digest"] == read_shard(2)["digest"]


@pytest.mark.parametrize(
    ("reader", "arguments"),
    [("statsmodels", {"series": "co3"}), ("documents", {"shard": "8"}), ("host", {"metric": "/etc/passwd"})],
)
def test_an_unknown_source_is_refused(reader: str, arguments: dict[str, str]) -> None:
    """The error names what there is; nothing is opened by a name from outside."""
    with pytest.raises(BalanceError, match=r"co2|from 0 to|cpu_percent"):
        READERS[reader](**arguments)


def test_counters_become_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are differences over the time between samples; a counter that was reset gives 0, not a negative."""
    clock, switches = FakeClock(), iter([100.0, 300.0, 50.0])

    def read() -> tuple[dict[str, float], dict[str, float]]:
        at = clock.now()
        return {"load_1m": 1.0}, {
            "cpu_total_s": 2 * at,
            "cpu_idle_s": 1.5 * at,
            "context_switches_per_s": next(switches),
        }

    monkeypatch.setattr(host_metrics, "_read_host", read)
    sampler = HostSampler(clock=clock, interval_s=0.5, keep_s=1.0)
    for _ in range(3):
        sampler.sample_once()
        clock.advance(0.5)
    assert sampler.window("context_switches_per_s", 60)["values"] == [400.0, 0.0]
    assert sampler.window("cpu_percent", 60)["values"] == [25.0, 25.0]
    assert sampler.window("load_1m", 60)["values"] == [1.0, 1.0]  # keep_s holds two readings


def test_the_thread_starts_once_and_stops() -> None:
    """start twice is one thread; stop leaves none."""
    sampler = HostSampler(interval_s=0.01)
    sampler.start()
    thread = sampler._thread
    sampler.start()
    assert sampler._thread is thread is not None
    sampler.stop()
    assert not thread.is_alive()


def test_a_machine_without_disk_counters_has_no_readings_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that does not exist here is empty; the others are there."""
    import psutil

    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda: SimpleNamespace(bytes_recv=1, bytes_sent=1))
    sampler = HostSampler()
    sampler.sample_once()
    sampler.sample_once()
    assert sampler.window("disk_read_bytes_per_s", 60)["values"] == []
    assert {name for name in METRICS if sampler.window(name, 60)["values"]} >= {
        "memory_percent",
        "net_sent_bytes_per_s",
    }
