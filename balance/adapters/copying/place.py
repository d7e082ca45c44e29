"""Where a copy comes from and goes to: a file system and a path in it, checked before anything is touched."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from typing import Any

from balance.errors import InvalidValue

LOCAL = frozenset({"file", "local"})
_NAME_BYTES = 200  # of the name of a part: with what is put around it still below the 255 of most file systems

#: Keys of fsspec's ``info`` that change when the content of a remote object does.
_MARKS = ("mtime", "ETag", "etag", "md5", "LastModified", "last_modified", "updated", "created", "version_id")


@dataclass(frozen=True, slots=True)
class Place:
    """A file system and a path in it.

    Attributes
    ----------
    fs : fsspec.AbstractFileSystem
    path : str
        As the file system knows it; of a local place the real one, with all links followed.
    url : str
        What errors call it.
    protocol : str
    """

    fs: Any
    path: str
    url: str
    protocol: str

    @property
    def is_local(self) -> bool:
        """Whether the operating system's own calls reach it."""
        return self.protocol in LOCAL

    @property
    def folder(self) -> str:
        """The path of the folder around it."""
        return posixpath.dirname(self.path) or "/"

    def beside(self, ending: str) -> str:
        """Return the path of a helper beside it: hidden, and named after it."""
        name = posixpath.basename(self.path).encode("utf-8", "surrogateescape")[:_NAME_BYTES]
        return posixpath.join(self.folder, f".{name.decode('utf-8', 'ignore')}.balance-{ending}")

    def below(self, relative: str) -> Place:
        """Return the place of a file in this folder."""
        return Place(self.fs, posixpath.join(self.path, relative), posixpath.join(self.url, relative), self.protocol)

    def is_folder(self) -> bool:
        """Say whether a folder is there; on an object store, whether anything lies below this name."""
        return os.path.isdir(self.path) if self.is_local else bool(self.fs.isdir(self.path))  # noqa: PTH112

    def overlaps(self, other: Place) -> bool:
        """Say whether one of the two is the other, or lies in it."""
        if self.is_local != other.is_local or (self.protocol == "memory") != (other.protocol == "memory"):
            return False
        by_path = self.is_local or self.protocol == "memory"  # elsewhere a path says nothing without its host
        one, two = (self.path, other.path) if by_path else (self.url, other.url)
        return one == two or one.startswith(f"{two}/") or two.startswith(f"{one}/")

    def exists(self) -> bool:
        """Say whether something is there."""
        return os.path.exists(self.path) if self.is_local else bool(self.fs.exists(self.path))  # noqa: PTH110

    def look(self) -> list[Any]:
        """Return what tells a changed file from an unchanged one: its size first, then times, number or ETag."""
        if self.is_local:
            found = os.stat(self.path)  # noqa: PTH116 (fsspec's paths are text)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidValue("source", self.url, "a regular file")
            return look_of(found)
        self.fs.invalidate_cache()
        info = self.fs.info(self.path)
        if info.get("type") != "file" or info.get("size") is None:
            raise InvalidValue("source", self.url, "the URL of one file whose size is known")
        return look_of_info(info)


def look_of(found: os.stat_result) -> list[Any]:
    """Return the look of a local file; the time of change can't be set back by whoever wrote to it."""
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def look_of_info(info: dict[str, Any]) -> list[Any]:
    """Return the look of a file of which fsspec said this."""
    return [int(info["size"]), *(str(info[key]) for key in _MARKS if info.get(key) is not None)]
