"""A file of any place that fsspec reaches, to be read."""

from __future__ import annotations

from typing import Any

from balance.adapters.copying.origin import reading
from balance.adapters.copying.place import Place

#: Stores of which any range can be read with one request.
_RANGES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})


class StoreOrigin:
    """A file of any place that fsspec reaches."""

    def __init__(self, place: Place) -> None:
        self.name = place.url
        self.in_order = place.protocol not in _RANGES
        self._place = place
        self._stream: Any = None

    def look(self) -> list[Any]:
        """As `Origin.look`."""
        with reading(self.name):
            return self._place.look()

    def read(self, offset: int, into: memoryview) -> int:
        """As `Origin.read`; where `in_order` is, a gap is passed over by seeking."""
        with reading(self.name):
            if not self.in_order:
                content = self._place.fs.cat_file(self._place.path, start=offset, end=offset + len(into))
                into[: len(content)] = content
                return len(content)
            if self._stream is None:
                self._stream = self._place.fs.open(self._place.path, "rb")
            if self._stream.tell() != offset:
                self._stream.seek(offset)
            done = 0
            while done < len(into) and (content := self._stream.read(len(into) - done)):
                into[done : done + len(content)] = content
                done += len(content)
            return done

    def close(self) -> None:
        """As `Origin.close`."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
