"""Which places a caller may touch."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from balance.adapters.copying.place import LOCAL, Place
from balance.adapters.sources.paths import PathPolicy
from balance.errors import AccessRefused, InvalidValue
from balance.types import check_id


class Places:
    """Finds places, and refuses those that a caller may not touch.

    Parameters
    ----------
    trusted : bool
        Whether any place may be touched; else only local ones below `roots`.
    roots : iterable of str

    Examples
    --------
    >>> Places(trusted=True).find("source", "memory://a/b").path
    '/a/b'
    >>> Places(trusted=True).find("source", "memory://a/../b")
    Traceback (most recent call last):
    ...
    balance.errors.AccessRefused: 'memory://a/../b' climbs out of its folder with '..'; name the place itself
    """

    def __init__(self, *, trusted: bool, roots: Iterable[str] = ()) -> None:
        self._trusted = trusted
        self._paths = PathPolicy(trusted=trusted, roots=roots)

    def find(self, name: str, url: str) -> Place:
        """Return the place of a URL; `InvalidValue` or `AccessRefused` if there is none for this caller."""
        protocol = get_protocol(check_id(name, url))
        if not self._trusted and (protocol not in LOCAL or "::" in url):
            raise AccessRefused(f"{url!r}: only local files are copied for a caller that is not trusted", url=url)
        try:
            fs, path = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InvalidValue(name, url, f"a URL that fsspec knows ({error})") from None
        if protocol in LOCAL and "::" not in url:
            path = self._paths.check(path)
        elif ".." in path.split("/"):
            raise AccessRefused(f"{url!r} climbs out of its folder with '..'; name the place itself", url=url)
        path = path.rstrip("/") if protocol in LOCAL else path
        if not posixpath.basename(path.rstrip("/")):
            raise InvalidValue(name, url, "the URL of a file or of a folder, not of everything")
        return Place(fs, path.rstrip("/"), url.rstrip("/"), "chain" if "::" in url else protocol)
