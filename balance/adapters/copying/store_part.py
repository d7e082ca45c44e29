"""A part in a store of objects, or any other place that is not a disk of this machine."""

from __future__ import annotations

import posixpath
import threading

from balance.adapters.copying.part import writing
from balance.adapters.copying.place import Place


class StorePart:
    """Objects in a folder beside the destination, one for each piece, named by number and checksum.

    Stores of objects can't append, and an object appears whole or not at all: so a piece is an object of its own
    until all are there.  Then they are put together, read back, and moved into place on the server.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._whole = place.beside("part")
        self._stage = place.beside("blocks")
        self._names: dict[int, str] = {}
        self._piece_bytes = 0
        self._lock = threading.Lock()
        self._single: bytes | None = None
        self._is_whole = False

    def is_left(self) -> bool:
        """As `Part.is_left`."""
        with writing(self._place.url):
            self._place.fs.invalidate_cache()
            return bool(self._place.fs.exists(self._stage))

    def begin(self, heading: str, size_bytes: int, piece_bytes: int) -> dict[int, str]:
        """As `Part.begin`."""
        fs = self._place.fs
        self._piece_bytes = piece_bytes
        self._alone = size_bytes <= piece_bytes
        with writing(self._place.url):
            fs.makedirs(self._place.folder, exist_ok=True)
            if self._alone:
                return {}
            fs.invalidate_cache()
            head = posixpath.join(self._stage, "heading")
            if fs.exists(head) and fs.cat_file(head).decode("utf-8", "replace") == heading:
                for path in fs.ls(self._stage, detail=False):
                    number, _, noted = posixpath.basename(path).partition("-")
                    if number.isdigit():
                        self._names[int(number)] = noted
            else:
                if fs.exists(self._stage):
                    fs.rm(self._stage, recursive=True)
                fs.makedirs(self._stage, exist_ok=True)
                fs.pipe_file(head, heading.encode())
        return dict(self._names)

    def _object(self, number: int, noted: str) -> str:
        return posixpath.join(self._stage, f"{number:08d}-{noted}")

    def write(self, number: int, offset: int, piece: memoryview, noted: str, old: int | None) -> None:  # noqa: ARG002 (the number says it here)
        """As `Part.write`."""
        with writing(self._place.url):
            if self._alone:
                self._single = bytes(piece)
                return
            self._place.fs.pipe_file(self._object(number, noted), bytes(piece))
        with self._lock:
            self._names[number] = noted

    def read(self, number: int, offset: int, into: memoryview) -> int:
        """As `Part.read`; from the whole once it was put together."""
        with writing(self._place.url):
            if self._is_whole:
                content = self._place.fs.cat_file(self._whole, start=offset, end=offset + len(into))
            else:
                content = self._place.fs.cat_file(self._object(number, self._names[number]))
            into[: len(content)] = content[: len(into)]
            return min(len(content), len(into))

    def settle(self, *, syncs: bool) -> None:  # noqa: ARG002 (what a store has taken, it keeps)
        """As `Part.settle`: put the pieces together."""
        fs = self._place.fs
        with writing(self._place.url), fs.open(self._whole, "wb") as whole:
            if self._alone:
                whole.write(self._single or b"")
            for number in sorted(self._names):
                whole.write(fs.cat_file(self._object(number, self._names[number])))
        self._is_whole = True

    def replace(self) -> None:
        """As `Part.replace`."""
        with writing(self._place.url):
            self._place.fs.mv(self._whole, self._place.path)
            self._take_away()

    def discard(self) -> None:
        """As `Part.discard`."""
        with writing(self._place.url):
            self._take_away()

    def _take_away(self) -> None:
        fs = self._place.fs
        fs.invalidate_cache()
        if fs.exists(self._stage):
            fs.rm(self._stage, recursive=True)
        if fs.exists(self._whole):
            fs.rm_file(self._whole)

    def close(self) -> None:
        """Do nothing: no object is open."""
