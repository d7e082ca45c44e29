"""The host's own metrics, sampled live and kept for the last minutes.

Counters of psutil become rates between two samples.  A metric that this machine does not have (disk
counters in some containers) has no readings, and says so by an empty list.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from balance.clock import Clock, SystemClock, iso
from balance.errors import InvalidValue

#: Unit of every metric.
METRICS: Mapping[str, str] = {
    "cpu_percent": "%",
    "memory_percent": "%",
    "load_1m": "processes",
    "context_switches_per_s": "1/s",
    "disk_read_bytes_per_s": "B/s",
    "disk_write_bytes_per_s": "B/s",
    "net_received_bytes_per_s": "B/s",
    "net_sent_bytes_per_s": "B/s",
}


class HostSampler:
    """Sample every metric each `interval_s` and keep the last `keep_s` seconds.

    Parameters
    ----------
    clock : Clock, optional
        Dates the samples.
    interval_s : float, default 0.25
        Seconds between two samples of the background thread.
    keep_s : float, default 180
        Seconds that are kept.

    Examples
    --------
    >>> sampler = HostSampler()
    >>> sampler.sample_once(); sampler.sample_once()
    >>> window = sampler.window("memory_percent", 60.0)
    >>> len(window["values"]), window["unit"], 0 < window["values"][-1] <= 100
    (2, '%', True)
    """

    def __init__(self, *, clock: Clock | None = None, interval_s: float = 0.25, keep_s: float = 180.0) -> None:
        self._clock = clock or SystemClock()
        self.interval_s = interval_s
        points = max(2, int(keep_s / interval_s))
        self._series: dict[str, deque[float]] = {name: deque(maxlen=points) for name in METRICS}
        self._counters: dict[str, float] = {}
        self._sampled_at: float | None = None
        self._wall = self._clock.wall()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Sample in a daemon thread until `stop`; a second call does nothing."""
        with self._lock:
            if self._thread is None:
                self._stop.clear()
                self._thread = threading.Thread(target=self._loop, name="host-sampler", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread; what was sampled stays readable."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join(timeout=5 * self.interval_s + 1)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.sample_once()
            self._stop.wait(self.interval_s)

    def sample_once(self) -> None:
        """Take one sample now.  Cost: under a millisecond."""
        gauges, counters = _read_host()
        with self._lock:
            now = self._clock.now()
            elapsed = now - self._sampled_at if self._sampled_at is not None else 0.0
            for name, value in gauges.items():
                self._series[name].append(value)
            if elapsed > 0:
                self._append_rates(counters, elapsed)
            self._counters, self._sampled_at, self._wall = counters, now, self._clock.wall()

    def _append_rates(self, counters: Mapping[str, float], elapsed_s: float) -> None:
        before = self._counters
        for name, value in counters.items():
            if name in self._series and name in before:
                # A counter that wrapped or was reset says nothing about the time in between.
                self._series[name].append(max(0.0, value - before[name]) / elapsed_s)
        total = counters["cpu_total_s"] - before["cpu_total_s"]
        if total > 0:
            idle = counters["cpu_idle_s"] - before["cpu_idle_s"]
            self._series["cpu_percent"].append(min(100.0, max(0.0, 100.0 * (1 - idle / total))))

    def window(self, metric: str, window_s: float) -> dict[str, Any]:
        """Return the last `window_s` seconds of `metric`.

        Returns
        -------
        dict
            ``metric``, ``unit``, ``step_s`` (seconds between readings), ``ended_at`` (ISO 8601), ``values``.
        """
        if metric not in METRICS:
            raise InvalidValue("metric", metric, "one of " + ", ".join(METRICS))
        keep = max(1, int(window_s / self.interval_s))
        with self._lock:
            values = list(self._series[metric])[-keep:]
            ended_at = iso(self._wall)
        return {
            "metric": metric,
            "unit": METRICS[metric],
            "step_s": self.interval_s,
            "ended_at": ended_at,
            "values": [round(value, 3) for value in values],
        }


def _read_host() -> tuple[dict[str, float], dict[str, float]]:
    import psutil  # noqa: PLC0415 (importing the package stays cheap)

    times = psutil.cpu_times()
    gauges = {"memory_percent": psutil.virtual_memory().percent, "load_1m": psutil.getloadavg()[0]}
    counters = {
        # guest time is part of user time already (proc(5)), so it is not added again
        "cpu_total_s": sum(value for name, value in times._asdict().items() if not name.startswith("guest")),
        "cpu_idle_s": times.idle + getattr(times, "iowait", 0.0),
        "context_switches_per_s": float(psutil.cpu_stats().ctx_switches),
    }
    disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
    if disk is not None:
        counters["disk_read_bytes_per_s"] = float(disk.read_bytes)
        counters["disk_write_bytes_per_s"] = float(disk.write_bytes)
    if net is not None:
        counters["net_received_bytes_per_s"] = float(net.bytes_recv)
        counters["net_sent_bytes_per_s"] = float(net.bytes_sent)
    return gauges, counters
