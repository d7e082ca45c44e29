"""How much memory a run takes: the growth of this process, at its peak.

Linux keeps the highest resident size of a process and sets it back on request (``/proc/self/clear_refs``, see
proc(5)), which costs a microsecond: so the peak is exact, nobody has to look while the task runs, and a task
that is too short to matter pays next to nothing.  Elsewhere the peak counts where it exceeds all former ones.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

import psutil

RESET = Path("/proc/self/clear_refs")
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, see getrusage(2) of each


class MemoryMeter:
    """Measures one run after another.

    Examples
    --------
    >>> meter = MemoryMeter()
    >>> meter.begin()
    >>> data = bytes(range(256)) * 2**19
    >>> meter.growth() > 30 * 2**20
    True
    >>> del data
    >>> meter.peak() > 30 * 2**20
    True
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._reset: int | None = None
        self._base = self._highest = 0
        with contextlib.suppress(OSError):
            self._reset = os.open(RESET, os.O_WRONLY | os.O_CLOEXEC)

    def begin(self) -> None:
        """Let a run begin."""
        if self._reset is not None:
            try:
                os.pwrite(self._reset, b"5", 0)
            except OSError:  # a sandbox that lets it be opened only
                os.close(self._reset)
                self._reset = None
        self._base = self._process.memory_info().rss
        self._highest = self._base if self._reset is not None else _highest()

    def growth(self) -> int:
        """Return by how many bytes the process has grown since `begin`, now."""
        return max(0, self._process.memory_info().rss - self._base)

    def peak(self) -> int:
        """Return by how many bytes it had grown at most."""
        highest = _highest()
        return max(self.growth(), highest - self._base if highest > self._highest else 0)


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
