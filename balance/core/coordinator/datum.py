"""The values of the data coordinator: one source, and what an allocation of it comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Datum:
    """A source and its copy, if there is one.

    Attributes
    ----------
    data_id, source : str
    declared_bytes : int
        How many bytes were announced.
    references : int
        How many allocations hold it.
    location : str or None
        Where its copy lies.
    size_bytes : int
        Of the copy.
    digest : str or None
        Of the copy.
    fetched_at : float or None
        When it was read, POSIX seconds.
    """

    data_id: str
    source: str
    declared_bytes: int
    references: int = 0
    location: str | None = None
    size_bytes: int = 0
    digest: str | None = None
    fetched_at: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Allocated:
    """The data is within reach; see `DataCoordinator.allocate_data` for the fields."""

    data_id: str
    location: str
    size_bytes: int
    digest: str
    references: int
    from_cache: bool
    age_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values, and ``status``."""
        return {"status": "allocated", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Denied:
    """There is no room: what is held leaves `lacking_bytes` too few."""

    data_id: str
    size_bytes: int
    lacking_bytes: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values, and ``status``."""
        return {"status": "denied", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Fetch:
    """Room is set aside: read `source`, at most `max_bytes` of it."""

    data_id: str
    source: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another call is fetching it: wait for that one, then plan again."""

    data_id: str
