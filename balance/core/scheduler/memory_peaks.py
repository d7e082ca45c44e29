"""How much memory work of one name needs: learned from measured peaks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from balance.types import check_id, check_int


class MemoryPeaks:
    """The latest memory peaks by name of work, and the request that they suggest.

    The suggestion is the largest of the last `window` peaks.  If runs of one name are alike, the next
    one exceeds the largest of n with probability ``1 / (n + 1)`` at most, whatever their distribution
    (exchangeability): that number comes with it, so that a caller knows how far to trust it.

    Parameters
    ----------
    window : int
        How many peaks are remembered for a name.
    names_max : int
        How many names are remembered; the one not seen for longest is forgotten first.

    Examples
    --------
    >>> peaks = MemoryPeaks()
    >>> for mebibytes in (180, 220, 200):
    ...     peaks.learn("fit", mebibytes * 2**20)
    >>> peaks.suggest("fit")
    {'status': 'ok', 'memory_bytes': 230686720, 'samples': 3, 'exceed_probability': 0.25}
    >>> peaks.suggest("unheard of")["status"]
    'insufficient_data'
    """

    def __init__(self, window: int = 64, names_max: int = 4096) -> None:
        self._window = check_int("window", window, minimum=1)
        self._names_max = check_int("names_max", names_max, minimum=1)
        self._peaks: OrderedDict[str, deque[int]] = OrderedDict()

    def learn(self, name: str, peak_bytes: int) -> None:
        """Take one measured peak, in bytes, into account."""
        check_id("name", name)
        check_int("peak_bytes", peak_bytes, minimum=0)
        self._peaks.setdefault(name, deque(maxlen=self._window)).append(peak_bytes)
        self._peaks.move_to_end(name)
        if len(self._peaks) > self._names_max:
            self._peaks.popitem(last=False)

    def suggest(self, name: str) -> dict[str, Any]:
        """Return ``status`` (``ok``, ``insufficient_data``), ``memory_bytes``, ``samples``, ``exceed_probability``."""
        peaks = self._peaks.get(check_id("name", name))
        if not peaks:
            return {"status": "insufficient_data", "memory_bytes": None, "samples": 0, "exceed_probability": 1.0}
        return {
            "status": "ok",
            "memory_bytes": max(peaks),
            "samples": len(peaks),
            "exceed_probability": 1 / (len(peaks) + 1),
        }

    def snapshot(self) -> dict[str, Any]:
        """Return what was learned: ``{name: [bytes, ...]}``, the latest name last."""
        return {name: list(peaks) for name, peaks in self._peaks.items()}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._peaks = OrderedDict((name, deque(peaks, maxlen=self._window)) for name, peaks in data.items())
