"""Data from any place that fsspec knows: local files, object stores, archives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from balance.errors import AccessRefused, InvalidValue, SourceUnavailable

if TYPE_CHECKING:
    from balance.adapters.sources.paths import PathPolicy

#: Kinds whose endpoint the operator configures, so that a URL alone can't point them at a private host.
_OPEN_TO_ALL = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "data"})
_LOCAL = frozenset({"file", "local"})


class FileSource:
    """Reads a file as bytes.

    A caller that is not trusted gets files of the allowed folders and of object stores; chained URLs
    (``zip://a::file:///b``) and all other kinds are for trusted callers, as they can reach anywhere.

    Parameters
    ----------
    paths : PathPolicy
        Which local files may be read.
    trusted : bool
        Whether every kind may be used.
    """

    def __init__(self, *, paths: PathPolicy, trusted: bool) -> None:
        self._paths = paths
        self._trusted = trusted

    def check(self, url: str) -> None:
        """Raise `InvalidValue` or `AccessRefused` if this could never be read."""
        self.locate(url)

    def locate(self, url: str) -> tuple[Any, str]:
        """Return the fsspec file system and the path in it; local paths with all links followed."""
        protocol = get_protocol(url)
        if "::" in url and not self._trusted:
            raise AccessRefused(f"{url!r} is a chain of places; those are for trusted callers", url=url)
        if protocol not in _LOCAL | _OPEN_TO_ALL and not self._trusted:
            raise AccessRefused(f"{url!r}: places of the kind {protocol!r} are for trusted callers", url=url)
        try:
            fs, path = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InvalidValue("source", url, f"a URL that fsspec knows ({error})") from None
        return fs, self._paths.check(path) if protocol in _LOCAL and "::" not in url else path

    def read(self, url: str, max_bytes: int) -> bytes:
        """Return the content; more than `max_bytes` raise `AccessRefused`, a missing file `SourceUnavailable`."""
        fs, path = self.locate(url)
        try:
            if get_protocol(url) in _LOCAL and not fs.isfile(path):  # a pipe would wait for whoever writes to it
                raise SourceUnavailable(f"{url} is no regular file that is there", url=url)
            with fs.open(path, "rb") as file:
                content = file.read(max_bytes + 1)
        except SourceUnavailable:
            raise
        except Exception as error:  # each fsspec implementation raises its own kinds
            said = f"{type(error).__name__}: {error}"
            raise SourceUnavailable(f"{url} can't be read ({said})", url=url) from error
        if len(content) > max_bytes:
            raise AccessRefused(f"{url} has more than the {max_bytes} bytes that may be read", max_bytes=max_bytes)
        return bytes(content)
