"""What reads from a place and what writes to it, by its kind."""

from __future__ import annotations

from balance.adapters.copying.file_origin import FileOrigin
from balance.adapters.copying.local_part import LocalPart
from balance.adapters.copying.origin import Origin
from balance.adapters.copying.part import Part
from balance.adapters.copying.place import Place
from balance.adapters.copying.store_origin import StoreOrigin
from balance.adapters.copying.store_part import StorePart


def origin_at(place: Place) -> Origin:
    """Return how the file at a place is read."""
    return FileOrigin(place) if place.is_local else StoreOrigin(place)


def part_at(place: Place) -> Part:
    """Return the part of a destination."""
    return LocalPart(place) if place.is_local else StorePart(place)
