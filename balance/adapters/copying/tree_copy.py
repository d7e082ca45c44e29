"""The copy of a folder: every file that differs is prepared beside its destination, then all are put in place.

So a source that changed meanwhile, a full disk or a refused name leave the whole destination as it was.  The last step
is one rename after another; a crash within it leaves new files beside old ones, each of them whole, and the next run
goes on with the renames.  What the destination holds beside the source's files stays.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from balance.adapters.copying.buffers import Buffers
from balance.adapters.copying.file_copy import FileCopy
from balance.adapters.copying.kinds import origin_at
from balance.adapters.copying.local_part import sync_disk, sync_folder
from balance.adapters.copying.part import writing
from balance.adapters.copying.place import Place
from balance.adapters.copying.tree import Files, files_below, places_below
from balance.core.coordinator.ports import CopyReport, Progress
from balance.digests import Digest
from balance.errors import AccessRefused, StorageError


class TreeCopy:
    """One folder on its way.

    Parameters
    ----------
    source, destination : Place
    piece_bytes, parallel : int
    pool : ThreadPoolExecutor
        Small files are prepared as many at a time, large ones piece by piece.
    """

    def __init__(
        self, source: Place, destination: Place, *, piece_bytes: int, parallel: int, pool: ThreadPoolExecutor
    ) -> None:
        self._source = source
        self._destination = destination
        self._piece_bytes = piece_bytes
        self._parallel = parallel
        self._pool = pool
        self._buffers = Buffers(piece_bytes)
        self._copies: list[tuple[str, FileCopy]] = []

    def run(self, progress: Progress) -> CopyReport:
        """Copy; raises as `FsspecCopier.copy`."""
        found = files_below(self._source)
        total = sum(int(look[0]) for _place, look in found.values())
        targets = places_below(self._destination, found)
        _check_distinct(targets)
        try:
            self._prepare(found, targets, _Added(progress, total))
            looks = {relative: look for relative, (_place, look) in found.items()}
            if self._is_altered(looks):
                self._discard()
                return self._report("conflict")
            self._commit()
        except StorageError as error:
            if error.details.get("is_full"):
                self._discard()  # what others need is room
            raise
        finally:
            for _relative, copy in self._copies:
                copy.close()
        changed = any(copy.status == "copied" for _relative, copy in self._copies)
        return self._report("copied" if changed else "unchanged")

    def _prepare(self, found: Files, targets: dict[str, Place], added: _Added) -> None:
        """Make every file ready to be put in place."""
        under_way: deque[Future[FileCopy]] = deque()

        def next_one() -> None:
            added.file(under_way.popleft().result().size_bytes)

        try:
            for relative, (source, _look) in found.items():
                if len(under_way) == self._parallel:
                    next_one()
                copy = self._new(source, targets[relative], relative)
                if copy.size_bytes <= self._piece_bytes:
                    under_way.append(self._pool.submit(_prepare, copy))
                    continue
                while under_way:  # then all threads are the large one's
                    next_one()
                copy.use(self._pool)
                copy.prepare(added.piece)
                added.file(copy.size_bytes)
            while under_way:
                next_one()
        finally:
            for future in under_way:
                if not future.cancel():
                    future.exception()

    def _new(self, source: Place, target: Place, relative: str) -> FileCopy:
        copy = FileCopy(
            origin_at(source),
            target,
            piece_bytes=self._piece_bytes,
            parallel=self._parallel,
            buffers=self._buffers,
            syncs=False,
        )
        self._copies.append((relative, copy))
        return copy

    def _is_altered(self, looks: dict[str, list[object]]) -> bool:
        if any(copy.status == "conflict" for _relative, copy in self._copies):
            return True
        return {relative: look for relative, (_place, look) in files_below(self._source).items()} != looks

    def _commit(self) -> None:
        """Bring all parts to the disk, then put them in place, then bring their names to the disk."""
        changed = [copy for _relative, copy in self._copies if copy.status == "copied"]
        with writing(self._destination.url):
            self._destination.fs.makedirs(self._destination.path, exist_ok=True)  # also for a folder without files
            if changed and self._destination.is_local:
                sync_disk(self._destination.path)
        folders = set()
        for copy in changed:
            copy.commit()
            if copy.place.is_local:
                folders.add(copy.place.folder)
        with writing(self._destination.url):
            for folder in sorted(folders):
                sync_folder(folder)

    def _discard(self) -> None:
        for _relative, copy in self._copies:
            copy.discard()

    def _report(self, status: str) -> CopyReport:
        """Add up; the digest is over a line for each file: its digest and its path, as `b3sum` prints them."""
        digest = Digest()
        reports = [(relative, copy.report()) for relative, copy in self._copies]
        for relative, each in reports:
            line = f"{each.digest.removeprefix('blake3:')}  {relative}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return CopyReport(
            status,
            size_bytes=sum(each.size_bytes for _relative, each in reports),
            copied_bytes=sum(each.copied_bytes for _relative, each in reports),
            changed_bytes=sum(each.changed_bytes for _relative, each in reports),
            digest=digest.text,
            files=len(reports),
            changed_files=sum(each.changed_files for _relative, each in reports),
        )


class _Added:
    """The progress of one file after another as that of the whole."""

    def __init__(self, progress: Progress, total_bytes: int) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self._done_bytes = 0

    def piece(self, done_bytes: int, size_bytes: int) -> None:
        """Take note of how far the present file is; its end is told by `file`."""
        if done_bytes < size_bytes:
            self._progress(self._done_bytes + done_bytes, self._total_bytes)

    def file(self, size_bytes: int) -> None:
        """Take note that a file is ready."""
        self._done_bytes += size_bytes
        self._progress(self._done_bytes, self._total_bytes)


def _prepare(copy: FileCopy) -> FileCopy:
    copy.prepare(lambda _done, _total: None)
    return copy


def _check_distinct(targets: dict[str, Place]) -> None:
    """Refuse links in the destination that make one file of two."""
    seen: dict[str, str] = {}
    for relative, place in targets.items():
        if (other := seen.setdefault(place.path, relative)) != relative:
            raise AccessRefused(f"{other!r} and {relative!r} are the same file at the destination", path=place.path)
