"""Copies a file from any fsspec place to any other, so that the destination is never wrong.

1. Where the destination exists, blocks are compared with the source's as long as they agree; if all do,
   nothing is written (``unchanged``).
2. Otherwise the blocks go to a part file beside the destination, each one noted in a sidecar *after* it is
   on the disk: its digest, and what the source looked like (size, time or ETag).
3. The part is read back and its digest compared with that of what was read from the source.
4. If the source still looks as it did, the part replaces the destination in one step (``os.replace``; on an
   object store the move is a copy on the server, and an object appears whole).  Else it is a ``conflict``.

A run that broke off anywhere leaves the old destination, and perhaps a part and a sidecar.  The next run
takes over every block of the part whose digest the sidecar knows, if the source still looks the same: at
most the block that was under way is read again.  Where a place can't append (object stores) it begins anew.

One file at a time; no folders, no permissions, no times.  Two runs to one destination must not overlap
(`SyncManager` sees to that).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from balance.adapters.sources.paths import PathPolicy
from balance.core.coordinator.ports import CopyReport, Progress
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable, StorageError
from balance.types import check_id, check_int

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOCAL = frozenset({"file", "local"})
_APPENDS = frozenset({"file", "local", "memory"})


@dataclass(frozen=True, slots=True)
class _Place:
    """A file system and a path in it."""

    fs: Any
    path: str
    url: str
    protocol: str

    def beside(self, ending: str) -> str:
        folder, name = posixpath.split(self.path)
        return posixpath.join(folder, f".{name}.{ending}")


@dataclass(frozen=True, slots=True)
class _Source:
    """Bytes that can be read from the start, and a look that tells whether they changed."""

    name: str
    open: Callable[[], Any]
    look: Callable[[], list[Any]]


class FsspecCopier:
    """Copies block by block, verified, resumable and atomic.

    Parameters
    ----------
    block_bytes : int, default 8 MiB
        How much is read, noted and compared at once; also the memory that a copy takes, twice.
    trusted : bool, default True
        Whether any local file may be read and written; else only what lies below `roots`.
    roots : iterable of str
        The folders that a caller that is not trusted may touch.

    Examples
    --------
    >>> import fsspec
    >>> with fsspec.open("memory://copier-doc/a", "wb") as file:
    ...     _ = file.write(b"x" * 100)
    >>> report = FsspecCopier(block_bytes=40).copy("memory://copier-doc/a", "memory://copier-doc/b")
    >>> report.status, report.size_bytes, report.copied_bytes
    ('copied', 100, 100)
    """

    def __init__(self, *, block_bytes: int = 8 * 2**20, trusted: bool = True, roots: Iterable[str] = ()) -> None:
        self._block_bytes = check_int("block_bytes", block_bytes, minimum=1)
        self._trusted = trusted
        self._paths = PathPolicy(trusted=trusted, roots=roots)

    def check(self, source: str | None, destination: str) -> None:
        """Raise `InvalidValue` or `AccessRefused` if this copy (None: of bytes in memory) could never be made."""
        write = self._place("destination", destination)
        if source is not None:
            read = self._place("source", source)
            if (read.protocol, read.path) == (write.protocol, write.path):
                raise InvalidValue("destination", destination, "another place than the source")

    def copy(self, source: str, destination: str, progress: Progress | None = None) -> CopyReport:
        """Copy one file.

        Parameters
        ----------
        source, destination : str
            fsspec URLs of one file each; the destination's folder is made where it is missing.
        progress : callable, optional
            Called after each block with the bytes done and the bytes in total.

        Returns
        -------
        CopyReport
            With the status ``copied``, ``unchanged`` or ``conflict``.

        Raises
        ------
        SourceUnavailable
            The source can't be read.
        StorageError
            The destination can't be written, or did not hold what was written.
        AccessRefused
            A path outside what is allowed.
        """
        self.check(source, destination)
        place = self._place("source", source)
        return self._copied(
            _Source(source, lambda: place.fs.open(place.path, "rb"), lambda: _look(place)), destination, progress
        )

    def write(self, content: bytes, destination: str, progress: Progress | None = None) -> CopyReport:
        """Copy bytes that lie in memory; as `copy` otherwise."""
        look = [len(content), hashlib.blake2b(content, digest_size=32).hexdigest()]
        return self._copied(_Source("memory", lambda: io.BytesIO(content), lambda: look), destination, progress)

    def _place(self, name: str, url: str) -> _Place:
        protocol = get_protocol(check_id(name, url))
        if not self._trusted and (protocol not in _LOCAL or "::" in url):
            raise AccessRefused(f"{url!r}: only local files are copied for a caller that is not trusted", url=url)
        try:
            fs, path = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InvalidValue(name, url, f"a URL that fsspec knows ({error})") from None
        if protocol in _LOCAL and "::" not in url:
            path = self._paths.check(path)
        elif ".." in path.split("/"):
            raise AccessRefused(f"{url!r} climbs out of its folder with '..'; name the place itself", url=url)
        if not posixpath.basename(path) or url.endswith("/"):
            raise InvalidValue(name, url, "the URL of one file, not of a folder")
        return _Place(fs, path, url, protocol)

    def _copied(self, source: _Source, destination: str, progress: Progress | None) -> CopyReport:
        place = self._place("destination", destination)
        with _reading(source.name):
            look = source.look()
        run = _Run(source, place, look, self._block_bytes, progress or (lambda _done, _total: None))
        return run.report()


class _Run:
    """One copy under way."""

    def __init__(self, source: _Source, place: _Place, look: list[Any], block_bytes: int, progress: Progress) -> None:
        self._source = source
        self._to = place
        self._look = look
        self._size = int(look[0])
        self._block_bytes = block_bytes
        self._progress = progress
        self._part = place.beside("balance-part")
        self._notes = place.beside("balance-blocks")
        self._digest = hashlib.blake2b(digest_size=32)
        self._done = 0
        self._read = 0
        self._changed = 0

    def report(self) -> CopyReport:
        with _writing(self._to.url):
            self._to.fs.makedirs(posixpath.dirname(self._to.path) or "/", exist_ok=True)
            known = self._resumable()
        with _reading(self._source.name), self._source.open() as reader:
            if known or not self._compare(reader):
                self._transfer(reader, known)
                digest = self._digest.hexdigest()
                if not self._unaltered():
                    self._discard()
                    return self._ended("conflict", digest)
                self._commit(digest)
                return self._ended("copied", digest)
        if not self._unaltered():
            return self._ended("conflict", self._digest.hexdigest())
        return self._ended("unchanged", self._digest.hexdigest())

    def _ended(self, status: str, digest: str) -> CopyReport:
        return CopyReport(status, self._size, self._read, self._changed, f"blake2b:{digest}")

    def _unaltered(self) -> bool:
        with _reading(self._source.name):
            return self._done == self._size and self._source.look() == self._look

    # -- 1: is there anything to do? ---------------------------------------------------------------

    def _compare(self, reader: Any) -> bool:
        """Say whether the destination is the source already; else leave the reader at the start again."""
        fs, path = self._to.fs, self._to.path
        with _writing(self._to.url):
            if not fs.exists(path) or fs.size(path) != self._size:
                return False
        with _writing(self._to.url), fs.open(path, "rb") as old:
            for block in self._blocks(reader):
                if old.read(len(block)) != block:
                    break
                self._advance(block)
            else:
                return True
        self._digest = hashlib.blake2b(digest_size=32)
        self._done = self._read = 0
        reader.seek(0)
        return False

    def _blocks(self, reader: Any) -> Iterator[bytes]:
        # Never past the size that was seen at first: a source that grows meanwhile is a conflict, not endless.
        while self._done < self._size and (block := reader.read(min(self._block_bytes, self._size - self._done))):
            self._read += len(block)
            yield block

    def _advance(self, block: bytes) -> None:
        self._digest.update(block)
        self._done += len(block)
        self._progress(self._done, self._size)

    # -- 2: the part, block by block ---------------------------------------------------------------

    def _resumable(self) -> list[str]:
        """Return the digests of the part's blocks, if the sidecar speaks of this very copy."""
        fs = self._to.fs
        if self._to.protocol not in _APPENDS or not (fs.exists(self._notes) and fs.exists(self._part)):
            return []
        head, *digests = fs.cat_file(self._notes).decode("utf-8", "replace").split("\n")
        return digests[:-1] if head == self._heading() else []  # behind the last newline a line may be torn

    def _heading(self) -> str:
        return json.dumps([self._source.name, self._look, self._block_bytes])

    def _transfer(self, reader: Any, known: list[str]) -> None:
        fs = self._to.fs
        kept = self._taken_over(known)
        if self._done:
            reader.seek(self._done)
        resumes = bool(kept)
        with _writing(self._to.url):
            self._rewrite_notes(kept)
            if resumes and fs.size(self._part) > self._done:
                _truncate(self._to, self._part, self._done)
            part = fs.open(self._part, "ab" if resumes else "wb")
        old = self._old_destination()
        try:
            for block in self._blocks(reader):
                with _writing(self._to.url):
                    if old is None or old.read(len(block)) != block:
                        self._changed += len(block)
                    part.write(block)
                    self._note(part, block)
                self._advance(block)
            with _writing(self._to.url):
                part.close()
        finally:
            if old is not None:
                old.close()
            if not part.closed and self._to.protocol in _APPENDS:
                part.close()

    def _taken_over(self, known: list[str]) -> list[str]:
        """Read the blocks of the part that are as noted, and count them as done."""
        kept: list[str] = []
        if known:
            with _writing(self._to.url), self._to.fs.open(self._part, "rb") as part:
                for digest in known:
                    block = part.read(self._block_bytes)
                    if not block or _short_digest(block) != digest:
                        break
                    kept.append(digest)
                    self._advance(block)
        return kept

    def _old_destination(self) -> BinaryIO | None:
        with _writing(self._to.url):
            if not self._to.fs.exists(self._to.path):
                return None
            old: BinaryIO = self._to.fs.open(self._to.path, "rb")
            old.seek(self._done)
            return old

    def _rewrite_notes(self, digests: list[str]) -> None:
        if self._to.protocol in _APPENDS:
            self._to.fs.pipe_file(self._notes, "\n".join([self._heading(), *digests, ""]).encode())

    def _note(self, part: Any, block: bytes) -> None:
        if self._to.protocol not in _APPENDS:
            return
        part.flush()
        _to_disk(part)
        with self._to.fs.open(self._notes, "ab") as notes:
            notes.write(f"{_short_digest(block)}\n".encode())

    # -- 3 and 4: verify, replace ------------------------------------------------------------------

    def _commit(self, digest: str) -> None:
        fs = self._to.fs
        with _writing(self._to.url):
            written = hashlib.blake2b(digest_size=32)
            with fs.open(self._part, "rb") as part:
                while block := part.read(self._block_bytes):
                    written.update(block)
            if written.hexdigest() != digest:
                self._discard()
                raise StorageError(
                    f"{self._to.url} did not hold what was written; the old content is untouched, check the disk",
                    url=self._to.url,
                )
            if self._to.protocol in _LOCAL:
                os.replace(self._part, self._to.path)  # noqa: PTH105 (fsspec's paths are strings)
                _folder_to_disk(posixpath.dirname(self._to.path))
            else:
                fs.mv(self._part, self._to.path)
            self._discard()

    def _discard(self) -> None:
        with _writing(self._to.url):
            for path in (self._notes, self._part):  # notes first: a part without notes is never taken over
                if self._to.fs.exists(path):
                    self._to.fs.rm_file(path)


def _look(place: _Place) -> list[Any]:
    """Return what tells a changed file from an unchanged one: size, then time of change or ETag."""
    place.fs.invalidate_cache()
    info = place.fs.info(place.path)
    if info.get("type") == "directory" or info.get("size") is None:
        raise InvalidValue("source", place.url, "the URL of one file whose size is known")
    marks = (info.get(key) for key in ("mtime", "ino", "ETag", "etag", "LastModified", "last_modified", "created"))
    return [int(info["size"]), *(str(mark) for mark in marks if mark is not None)]


def _short_digest(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=16).hexdigest()


def _truncate(place: _Place, path: str, size_bytes: int) -> None:
    if place.protocol in _LOCAL:
        os.truncate(path, size_bytes)
    else:
        place.fs.pipe_file(path, place.fs.cat_file(path)[:size_bytes])


def _to_disk(file: Any) -> None:
    raw = getattr(file, "f", file)  # fsspec wraps a local file
    if isinstance(raw, io.BufferedWriter | io.FileIO | io.BufferedRandom):
        os.fsync(raw.fileno())


def _folder_to_disk(folder: str) -> None:
    """Make the new name durable: a rename is in the folder, and the folder is a file of its own."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnavailable(f"{name} can't be read ({type(error).__name__}: {error})", source=name) from error


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{url} can't be written ({type(error).__name__}: {error})", destination=url) from error
