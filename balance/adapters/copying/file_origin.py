"""A local file, to be read."""

from __future__ import annotations

import os
import stat
from typing import Any

from balance.adapters.copying.origin import reading
from balance.adapters.copying.place import Place, look_of
from balance.errors import AccessRefused


class FileOrigin:
    """A local file.

    It is opened once, without waiting (a pipe would wait for a writer), and only if the name still leads to the
    file that was checked: a link that was put in its way meanwhile is refused.

    Attributes
    ----------
    handle : int
        Of the open file; -1 where it is not open.
    """

    in_order = False

    def __init__(self, place: Place) -> None:
        self.name = place.url
        self._path = place.path
        self.handle = -1

    def look(self) -> list[Any]:
        """As `Origin.look`; of the file under that name now, which may be another than the one that is open."""
        with reading(self.name):
            found = os.stat(self._path)  # noqa: PTH116
            if not stat.S_ISREG(found.st_mode):
                raise AccessRefused(f"{self.name} is no regular file", source=self.name)
            if self.handle < 0:
                self._open()
            return look_of(found)

    def _open(self) -> None:
        handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        real = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
        if not stat.S_ISREG(os.fstat(handle).st_mode) or real not in (self._path, f"{self._path} (deleted)"):
            os.close(handle)
            raise AccessRefused(f"{self.name} leads to {real!r} now, which was not checked", source=self.name)
        self.handle = handle

    def read(self, offset: int, into: memoryview) -> int:
        """As `Origin.read`, from any thread."""
        done = 0
        with reading(self.name):
            while done < len(into) and (got := os.preadv(self.handle, [into[done:]], offset + done)):
                done += got
        return done

    def close(self) -> None:
        """As `Origin.close`."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
