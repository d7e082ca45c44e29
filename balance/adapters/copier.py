"""Copies files and folders from any fsspec place to any other, so that the destination is never wrong.

A file appears whole or not at all: it is prepared beside the destination, read back and compared, and then put in
place with one step (`balance.adapters.copying.file_copy`; folders: `tree_copy`).  A run that broke off anywhere leaves
the old destination, and perhaps a part beside it.  The next run takes over every piece of the part that is as it was
noted, if the source still looks the same; at most one block is copied again.

Only the content is copied: no permissions, no times, no links.  Two runs to one destination exclude each other, on one
machine also those of two processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from balance.adapters.copying.buffers import Buffers
from balance.adapters.copying.content_origin import ContentOrigin
from balance.adapters.copying.file_copy import FileCopy
from balance.adapters.copying.kinds import origin_at
from balance.adapters.copying.local_part import sync_folder
from balance.adapters.copying.origin import Origin, reading
from balance.adapters.copying.part import writing
from balance.adapters.copying.place import Place
from balance.adapters.copying.places import Places
from balance.adapters.copying.tree import files_below
from balance.adapters.copying.tree_copy import TreeCopy
from balance.core.coordinator.ports import CopyReport, Progress
from balance.digests import Digest
from balance.errors import InvalidValue
from balance.types import check_int


class FsspecCopier:
    """Copies piece by piece: parallel, verified, resumable and atomic.

    Parameters
    ----------
    block_bytes : int, default 8 MiB
        How much is under way at a time, and may have to be copied again after a crash; also the memory that a copy
        takes, twice.
    parallel : int, default 4
        In how many pieces a block is moved at a time.
    trusted : bool, default True
        Whether any place may be read and written; else only local files below `roots`.
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

    def __init__(
        self, *, block_bytes: int = 8 * 2**20, parallel: int = 4, trusted: bool = True, roots: Iterable[str] = ()
    ) -> None:
        self._parallel = check_int("parallel", parallel, minimum=1)
        self._piece_bytes = -(-check_int("block_bytes", block_bytes, minimum=1) // self._parallel)
        self._places = Places(trusted=trusted, roots=roots)

    def check(self, source: str | None, destination: str) -> None:
        """Raise `InvalidValue` or `AccessRefused` if this copy (None: of bytes in memory) could never be made."""
        write = self._places.find("destination", destination)
        if source is not None:
            read = self._places.find("source", source)
            if read.overlaps(write):
                raise InvalidValue("destination", destination, "another place than the source, and not within it")

    def copy(self, source: str, destination: str, progress: Progress | None = None) -> CopyReport:
        """Copy a file, or all files of a folder.

        Parameters
        ----------
        source, destination : str
            Paths or fsspec URLs: of one file each, or of one folder each.  Folders are made where they are missing.
        progress : callable, optional
            Called after each piece, in order, with the bytes done and the bytes in total.

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
            A path outside what is allowed, also by a link within a folder.
        Conflict
            Another copy to the same destination is under way.
        """
        self.check(source, destination)
        read, write = self._places.find("source", source), self._places.find("destination", destination)
        with reading(source):
            is_folder = read.is_folder()
        if not is_folder:
            return self._copied(origin_at(read), write, progress or _nobody)
        with ThreadPoolExecutor(self._parallel, "copy") as pool:
            tree = TreeCopy(read, write, piece_bytes=self._piece_bytes, parallel=self._parallel, pool=pool)
            return tree.run(progress or _nobody)

    def write(self, content: bytes, destination: str, progress: Progress | None = None) -> CopyReport:
        """Copy bytes that lie in memory; as `copy` otherwise."""
        place = self._places.find("destination", destination)
        return self._copied(ContentOrigin(content), place, progress or _nobody)

    def _copied(self, origin: Origin, place: Place, progress: Progress) -> CopyReport:
        with writing(place.url):
            if place.is_folder():
                raise InvalidValue("destination", place.url, "the place of one file; a folder is there")
        copy = FileCopy(
            origin,
            place,
            piece_bytes=self._piece_bytes,
            parallel=self._parallel,
            buffers=Buffers(min(self._piece_bytes, max(1, int(origin.look()[0])))),
        )
        try:
            if copy.size_bytes > self._piece_bytes:
                with ThreadPoolExecutor(self._parallel, "copy") as pool:
                    copy.use(pool)
                    copy.prepare(progress)
            else:
                copy.prepare(progress)
            copy.commit()
        finally:
            copy.close()
        if copy.status == "copied" and place.is_local:
            with writing(place.url):
                sync_folder(place.folder)
        return copy.report()

    def digest(self, url: str) -> str | None:
        """Return the digest of what lies at a place now, as `CopyReport.digest`; None if nothing does.

        Raises
        ------
        SourceUnavailable, AccessRefused
            It can't or may not be read.
        """
        place = self._places.find("source", url)
        with reading(url):
            if not place.exists():
                return None
            is_folder = place.is_folder()
        if not is_folder:
            return self._digest_of(place)
        digest = Digest()
        for relative, (file, _look) in files_below(place).items():
            line = f"{self._digest_of(file).removeprefix('blake3:')}  {relative}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.text

    def _digest_of(self, place: Place) -> str:
        origin, digest, offset = origin_at(place), Digest(), 0
        buffer = memoryview(bytearray(self._piece_bytes))
        try:
            origin.look()
            while got := origin.read(offset, buffer):
                digest.update(buffer[:got])
                offset += got
        finally:
            origin.close()
        return digest.text


def _nobody(_done_bytes: int, _total_bytes: int) -> None:
    """Tell nobody how far it is."""
