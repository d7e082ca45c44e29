"""What both peers of the policies run: small tasks without end, large ones among them, tenants side by side."""

from __future__ import annotations

import time
from typing import Any

LEAD = 6
"""How many small tasks come before each large one."""


def hold(seconds: float) -> tuple[float, float]:
    """Hold the device for so long; return when that began and when it ended (POSIX seconds)."""
    begun = time.time()
    time.sleep(seconds)
    return begun, time.time()


def order(large: int, tail: int) -> list[int]:
    """Return how many devices each task needs, in the order of submission; small ones follow the last large one."""
    return ([1] * LEAD + [2]) * large + [1] * tail


def judged(devices: list[int], spans: list[tuple[float, float]]) -> dict[str, Any]:
    """Return ``waited_s`` of each large task after its turn, ``overtaken`` by how many, and ``in_use``.

    The turn of a task has come when all that were submitted before it have begun.  `in_use` is the part of
    the two devices that was held until the last task began.
    """
    waited, overtaken = [], []
    for number, (need, (begun, _)) in enumerate(zip(devices, spans, strict=True)):
        if need > 1:
            turn = max((start for start, _ in spans[:number]), default=begun)
            waited.append(begun - turn)
            overtaken.append(sum(start < begun for start, _ in spans[number + 1 :]))
    first, last = min(start for start, _ in spans), max(start for start, _ in spans)
    held = sum(need * (min(end, last) - start) for need, (start, end) in zip(devices, spans, strict=True))
    return {"waited_s": waited, "overtaken": overtaken, "in_use": held / (2 * (last - first))}
