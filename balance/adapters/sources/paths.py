"""Which local files may be touched."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from balance.errors import AccessRefused


class PathPolicy:
    """Says whether a path is allowed, after every ``..`` and symbolic link was followed.

    Parameters
    ----------
    trusted : bool, default False
        Whether the caller may touch whatever this process may.
    roots : iterable of str
        Folders that are allowed to everyone, with all that is below them.

    Examples
    --------
    >>> PathPolicy(roots=["/srv/data"]).check("/srv/data/../secrets/key")
    Traceback (most recent call last):
    ...
    balance.errors.AccessRefused: the file '/srv/data/../secrets/key' lies outside the allowed folders (/srv/data); ...
    """

    def __init__(self, *, trusted: bool = False, roots: Iterable[str] = ()) -> None:
        self._trusted = trusted
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots if root)

    def check(self, path: str) -> str:
        """Return the real path, or raise `AccessRefused`."""
        real = Path(os.path.realpath(path))
        if "\0" in path or not (self._trusted or any(real.is_relative_to(root) for root in self._roots)):
            allowed = ", ".join(map(str, self._roots)) or "there are none"
            raise AccessRefused(
                f"the file {path!r} lies outside the allowed folders ({allowed}); "
                "allow its folder with BALANCE_ALLOW_FILE_ROOTS",
                path=path,
            )
        return str(real)
