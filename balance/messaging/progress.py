"""How far a group is within a partition, when not everything was handled in order.

Beside the offset before which all is handled there are *ranges* beyond it: half-open, in order, apart from each other.
They are few, since at most as many messages are open between them as are handled at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]

_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")


def merged(ranges: Iterable[tuple[int, int]], above: int = 0) -> Ranges:
    """Return the ranges in order and joined where they touch; of each only what is at `above` or higher.

    Examples
    --------
    >>> merged([(7, 9), (1, 3), (3, 4), (8, 12)], above=2)
    ((2, 4), (7, 12))
    """
    out: list[tuple[int, int]] = []
    for start, end in sorted((max(start, above), end) for start, end in ranges):
        if end <= start:
            continue
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return tuple(out)


def covers(ranges: Ranges, offset: int) -> bool:
    """Say whether an offset lies in one of the ranges."""
    return any(start <= offset < end for start, end in ranges)


def to_text(ranges: Ranges) -> str:
    """Return ranges as Kafka keeps them: in the metadata of a committed offset.

    Examples
    --------
    >>> to_text(((2, 4), (7, 12))), from_text("2-4,7-12"), from_text("somebody else's words")
    ('2-4,7-12', ((2, 4), (7, 12)), ())
    """
    return ",".join(f"{start}-{end}" for start, end in ranges)


def from_text(text: str | None) -> Ranges:
    """Return the ranges in a text; none if it is not one of ours."""
    found = [_RANGE.fullmatch(part) for part in (text or "").split(",")]
    return merged((int(each[1]), int(each[2])) for each in found if each is not None)
