"""What lies at the destination before a copy."""

from __future__ import annotations

from balance.adapters.copying.buffers import Buffers
from balance.adapters.copying.file_origin import FileOrigin
from balance.adapters.copying.kinds import origin_at
from balance.adapters.copying.origin import Origin
from balance.adapters.copying.part import writing
from balance.adapters.copying.place import Place


class OldFile:
    """The old destination, to be compared with; there may be none.

    Attributes
    ----------
    size_bytes : int
        -1 where there is none.
    in_order : bool
        Whether it has to be read in order.
    """

    def __init__(self, place: Place, buffers: Buffers) -> None:
        self.size_bytes = -1
        self.in_order = False
        self._place = place
        self._origin: Origin | None = None
        self._buffers = buffers

    @property
    def handle(self) -> int | None:
        """The open file of a local destination."""
        return self._origin.handle if isinstance(self._origin, FileOrigin) else None

    def open(self) -> None:
        """See whether there is one."""
        with writing(self._place.url):
            if not self._place.exists():
                return
            self._origin = origin_at(self._place)
            self.size_bytes = int(self._origin.look()[0])
            self.in_order = self._origin.in_order

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into` from an offset on; return how many bytes there were."""
        return 0 if self._origin is None else self._origin.read(offset, into)

    def holds(self, offset: int, piece: memoryview) -> bool:
        """Say whether the same bytes lie there, from any thread."""
        if self._origin is None or self.size_bytes < offset + len(piece):
            return False
        into = self._buffers.take(len(piece))
        try:
            return self.read(offset, into) == len(piece) and _same(into, piece)
        finally:
            self._buffers.give_back(into)

    def close(self) -> None:
        """Let go of it."""
        if self._origin is not None:
            self._origin.close()


def _same(one: memoryview, other: memoryview) -> bool:
    """Compare: bytearrays are as fast as memory; views would be compared item by item."""
    if len(one) == len(one.obj) and len(other) == len(other.obj):  # type: ignore[arg-type]
        return one.obj == other.obj
    return bytes(one) == bytes(other)
