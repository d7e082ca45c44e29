"""Which files a folder holds, and where they may lead.

A name in a listing is not trusted: a link may lead anywhere, and the key of an object may have ``..`` in it.  What
leaves the folder is refused, whoever asks: who owns a tree is often not who copies it.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Any

from balance.adapters.copying.origin import reading
from balance.adapters.copying.place import Place, look_of, look_of_info
from balance.errors import AccessRefused

FILES_MAX = 1_000_000
"""How many files one copy may hold; a larger tree is copied folder by folder."""

Files = dict[str, tuple[Place, list[Any]]]
"""Places and their looks, by relative path."""

_OURS = (".balance-part", ".balance-blocks")


def files_below(place: Place) -> Files:
    """Return every file of a folder with its look, by its relative path, sorted.

    Links to files of the same folder count as the files that they lead to.  What other copies left half-way is
    passed over, and so are empty folders.

    Raises
    ------
    AccessRefused
        A name leads out of the folder, is no regular file, or is a link to a folder; or there are too many.
    SourceUnavailable
        It can't be listed.
    """
    with reading(place.url):
        found = _local(place) if place.is_local else _remote(place)
    if len(found) > FILES_MAX:
        raise AccessRefused(f"{place.url} holds more than {FILES_MAX} files; copy its folders one by one")
    return {relative: found[relative] for relative in sorted(found)}


def _local(place: Place) -> Files:
    found: Files = {}
    for folder, folders, names in os.walk(place.path, onerror=_raise):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118
                raise AccessRefused(f"{folder}/{name} is a link to a folder; copy that folder itself", path=name)
        for name in names:
            if name.endswith(_OURS) and name.startswith("."):
                continue
            path = real = f"{folder}/{name}"
            seen = os.lstat(path)
            if stat.S_ISLNK(seen.st_mode):
                real = os.path.realpath(path)
                if not real.startswith(f"{place.path}/"):
                    raise AccessRefused(f"{path} leads out of {place.url}, to {real}", path=path)
                seen = os.stat(real)  # noqa: PTH116
            if not stat.S_ISREG(seen.st_mode):
                raise AccessRefused(f"{path} is no regular file", path=path)
            relative = path[len(place.path) + 1 :]
            below = place.below(relative)
            found[relative] = Place(below.fs, real, below.url, below.protocol), look_of(seen)
            if len(found) > FILES_MAX:
                return found
    return found


def _remote(place: Place) -> Files:
    place.fs.invalidate_cache()
    found: Files = {}
    for path, info in place.fs.find(place.path, detail=True).items():
        relative = path.removeprefix(place.path).lstrip("/")
        steps = relative.split("/")
        if any(step in ("", ".", "..") for step in steps) or "\0" in relative:
            raise AccessRefused(f"{path!r} leads out of {place.url}", path=path)
        if not (steps[-1].startswith(".") and steps[-1].endswith(_OURS)):
            below = place.below(relative)
            found[relative] = Place(below.fs, path, below.url, below.protocol), look_of_info(info)
    return found


def places_below(root: Place, files: Files) -> dict[str, Place]:
    """Return the places of these files below a destination; `AccessRefused` if links there lead out of it."""
    found, folders = {}, {}
    for relative in files:
        below = root.below(relative)
        if root.is_local:
            folder, name = posixpath.split(below.path)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            path = f"{folders[folder]}/{name}"
            real = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
            if not real.startswith(f"{root.path}/"):
                raise AccessRefused(f"{below.url} leads out of {root.url}, to {real}", path=below.path)
            below = Place(below.fs, real, below.url, below.protocol)
        found[relative] = below
    return found


def _raise(error: OSError) -> None:
    raise error
