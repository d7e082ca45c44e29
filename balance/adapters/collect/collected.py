"""What a source delivered for one request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from balance.clock import iso
from balance.core.coordinator.payload import Payload


@dataclass(frozen=True)
class Collected:
    """Data, and where it is from.

    Attributes
    ----------
    items : list of JSON
        What was found, in the source's order.
    media_type : str
        Of what the source sent, such as ``text/html``.
    fetched_at : float
        POSIX seconds at which the oldest part of it was got, or last confirmed by the source.
    fetched_bytes : int
        How much came from the source for this request; 0 where all of it was in the cache.
    from_cache : bool
        Whether nothing had to be transferred: the source was not asked, or said that nothing had changed.

    Examples
    --------
    >>> found = Collected([{"text": "salam"}], "text/html", fetched_at=0.0, fetched_bytes=120)
    >>> found.size_bytes, found.to_dict()["fetched_at"]
    (18, '1970-01-01T00:00:00.000+00:00')
    """

    items: list[Any]
    media_type: str
    fetched_at: float
    fetched_bytes: int = 0
    from_cache: bool = False

    @cached_property
    def payload(self) -> Payload:
        """The items as JSON in UTF-8; `InvalidValue` where they are no JSON."""
        return Payload.of(self.items)

    @property
    def size_bytes(self) -> int:
        """Of the items as JSON."""
        return self.payload.size_bytes

    @property
    def digest(self) -> str:
        """Of the items as JSON: equal items have equal digests, whenever and however they were got."""
        return self.payload.digest

    def to_dict(self) -> dict[str, Any]:
        """Return ``items``, ``media_type``, ``fetched_at`` (ISO 8601), ``fetched_bytes``, ``from_cache``."""
        return {
            "items": self.items,
            "media_type": self.media_type,
            "fetched_at": iso(self.fetched_at),
            "fetched_bytes": self.fetched_bytes,
            "from_cache": self.from_cache,
        }
