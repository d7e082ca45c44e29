"""A local file, to be read."""

from __future__ import annotations

import os
import stat
from typing import Any

from balance.adapters.copying.origin import reading
from balance.adapters.copying.place import Place, look_of
from balance.clock import Clock
from balance.defaults import default
from balance.errors import AccessRefused

GRAIN_S = 0.011
"""Two changes within it may have the same time: file systems use the kernel's clock, of which a tick is up to 10 ms."""


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
        self._clock: Clock = default("clock")

    def look(self) -> list[Any]:
        """As `Origin.look`; of the file under that name now, which may be another than the one that is open.

        The first look waits until the last change is older than `GRAIN_S`: one that follows has another time then.
        """
        with reading(self.name):
            found = os.stat(self._path)  # noqa: PTH116
            if not stat.S_ISREG(found.st_mode):
                raise AccessRefused(f"{self.name} is no regular file", source=self.name)
            if self.handle < 0:
                self._open()
                age_s = self._clock.wall() - found.st_ctime_ns / 1e9
                if 0 <= age_s < GRAIN_S:
                    self._clock.sleep(GRAIN_S - age_s)
                    found = os.stat(self._path)  # noqa: PTH116
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
