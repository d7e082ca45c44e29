"""This host as one node: what it has (within its control group) and how busy it is."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import psutil

from balance.core.scheduler.node_facts import NodeFacts, NodeUse
from balance.types import Resources

_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


class HostProbe:
    """Measures this host with psutil.

    Parameters
    ----------
    node_id : str, optional
        The name of the node; the host's name when left out.

    Examples
    --------
    >>> probe = HostProbe(node_id="here")
    >>> [facts] = probe.nodes()
    >>> facts.node_id, facts.capacity.cpu >= 1, facts.used.memory_bytes > 0
    ('here', True, True)
    """

    def __init__(self, *, node_id: str | None = None) -> None:
        self._node_id = node_id or socket.gethostname() or "localhost"
        self._process = psutil.Process()
        self._last: tuple[float, float] | None = None
        self._busy_cores()

    def nodes(self) -> list[NodeFacts]:
        """Return the host as the only node; CPU use is the mean since the last call."""
        memory = psutil.virtual_memory()
        total = min(memory.total, _cgroup_number("memory.max") or memory.total)
        return [
            NodeFacts(
                self._node_id,
                Resources.capacity(cpu=usable_cores(), memory=total, gpu=_gpu_count()),
                used=NodeUse(cpu=self._busy_cores(), memory_bytes=memory.total - memory.available),
            )
        ]

    def process_rss_bytes(self) -> int:
        """Return the resident memory of this process, in bytes."""
        return int(self._process.memory_info().rss)

    def _busy_cores(self) -> float | None:
        """Cores busy since the last call; None until time has passed.

        From the counters themselves, not `psutil.cpu_percent`: that keeps its last reading per process,
        so two probes would shorten each other's interval.
        """
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        now = time.monotonic()
        last, self._last = self._last, (now, busy)
        if last is None or now <= last[0]:
            return None
        return max(0.0, (busy - last[1]) / (now - last[0]))


def usable_cores() -> float:
    """Return the cores that this process may use: its affinity, or its control group's quota if that is less."""
    cores = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


def _cgroup_number(name: str) -> int | None:
    try:
        return int((_CGROUP / name).read_text())
    except (OSError, ValueError):
        return None  # no such file, or the word "max": no limit


def _gpu_count() -> int:
    """Devices of the NVIDIA driver; the kernel lists them without any library."""
    try:
        return len(list(_NVIDIA.iterdir()))
    except OSError:
        return 0
