"""Places in a plain process: names in a dict, since nobody else shares it."""

from __future__ import annotations

from balance.core.scheduler.allocation import Allocation, PlaceFact


class LocalPlaces:
    """Remembers which places exist.

    Examples
    --------
    >>> from balance.types import Resources
    >>> places = LocalPlaces()
    >>> places.create(Allocation("a", "m", "lease", Resources.demand(cpu=1), "n1", (), "pending", 1, 0.0))
    >>> places.facts()
    [PlaceFact(place='a.1', node_id='n1', created=True)]
    >>> places.remove("a.1")
    >>> places.facts()
    []
    """

    def __init__(self) -> None:
        self._places: dict[str, PlaceFact] = {}

    def create(self, allocation: Allocation) -> None:
        """Note that the place exists."""
        self._places[allocation.place] = PlaceFact(allocation.place, allocation.node_id, created=True)

    def remove(self, place: str) -> None:
        """Note that the place exists no more."""
        self._places.pop(place, None)

    def facts(self) -> list[PlaceFact]:
        """Return every place that exists."""
        return list(self._places.values())
