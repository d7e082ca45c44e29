"""The copy of one file: compared, transferred, verified; and only then, by `commit`, put in the destination's place.

A block is what is under way at a time.  It is cut into pieces, which are read, compared and written by as many
threads; the digest takes them in order.  So a crash costs at most one block.

1. While the destination has the same size and its pieces are the source's, nothing is written.
2. From the first piece on that differs, the pieces go to a part beside the destination (`copying.part`), those before
   it from the old destination; or all of them, where an earlier run has left a part of the same copy: its pieces are
   read from there, and count if they are as noted.
3. The part is read back and compared with what was read from the source, piece by piece.
4. If the source looks as it did at first, the part may replace the destination.  Else it is a ``conflict``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from balance.adapters.copying.buffers import Buffers
from balance.adapters.copying.kinds import part_at
from balance.adapters.copying.old_file import OldFile
from balance.adapters.copying.origin import Origin
from balance.adapters.copying.part import Part, checksum, heading_of
from balance.adapters.copying.place import Place
from balance.core.coordinator.ports import CopyReport, Progress
from balance.digests import Digest
from balance.errors import StorageError

_T = TypeVar("_T")


@dataclass(slots=True)
class _Piece:
    number: int
    offset: int
    view: memoryview
    noted: str = ""
    is_old: bool = False  # the old destination holds the same bytes there
    is_written: bool = False
    is_kept: bool = False  # an earlier run wrote it


class _SourceEnded(Exception):
    """The source has fewer bytes than it had at first."""


class FileCopy:
    """One file on its way.

    Parameters
    ----------
    origin : Origin
    place : Place
        The destination.
    piece_bytes, parallel : int
        How much is read at once, and by how many threads.
    buffers : Buffers
        Of at least that size.
    syncs : bool, default True
        Whether the part is on the disk when it is ready; else the caller sees to that, for many at once.

    Notes
    -----
    Without `use`, one piece follows another.
    """

    def __init__(
        self,
        origin: Origin,
        place: Place,
        *,
        piece_bytes: int,
        parallel: int,
        buffers: Buffers,
        syncs: bool = True,
    ) -> None:
        self.origin = origin
        self.place = place
        self.status = ""
        self.look = origin.look()
        self.size_bytes = int(self.look[0])
        self.read_bytes = 0
        self.changed_bytes = 0
        self.digest = ""
        self._piece_bytes = piece_bytes
        self._parallel = parallel
        self._pool: ThreadPoolExecutor | None = None
        self._part: Part | None = None
        self._old = OldFile(place, buffers)
        self._known: dict[int, str] = {}
        self._sums: list[str] = []
        self._buffers = buffers
        self._syncs = syncs

    def use(self, pool: ThreadPoolExecutor) -> None:
        """Let these threads move the pieces."""
        self._pool = pool

    def report(self) -> CopyReport:
        """Return how it went so far."""
        return CopyReport(
            self.status,
            self.size_bytes,
            self.read_bytes,
            self.changed_bytes,
            self.digest,
            files=1,
            changed_files=int(self.status == "copied"),
        )

    def prepare(self, progress: Progress) -> None:
        """Do all but the last step; `status` says whether there is one (``copied``)."""
        try:
            self._old.open()
            self._resume()
            try:
                self._transfer(progress)
            except _SourceEnded:
                return self._end("conflict")
            if self._part is not None:
                self._part.settle(syncs=self._syncs)
                self._verify(self._part)
            if self.origin.look() != self.look:
                return self._end("conflict")
            self.status = "unchanged" if self._part is None else "copied"
        except StorageError as error:
            if error.details.get("is_full"):
                self.discard()  # others need the room
            raise
        finally:
            self._old.close()
            self.origin.close()

    def commit(self) -> None:
        """Put the part in the destination's place."""
        if self.status == "copied" and self._part is not None:
            self._part.replace()

    def discard(self) -> None:
        """Take the part away."""
        if self._part is not None:
            self._part.discard()
            self._part = None

    def close(self) -> None:
        """Let go of what is open; the part stays for the next run."""
        if self._part is not None:
            self._part.close()

    def _end(self, status: str) -> None:
        self.status = status
        self.discard()

    # -- 1 and 2: compare, and write what differs ----------------------------------------------------

    def _resume(self) -> None:
        """Take up the part of an earlier run, or begin one where the destination can't be the source's equal."""
        part = part_at(self.place)
        if part.is_left():
            self._begin(part)
            if not self._known:
                self.discard()  # of another copy, or of a source that has changed
        if self._part is None and self._old.size_bytes != self.size_bytes:
            self._begin(part_at(self.place))

    def _begin(self, part: Part) -> None:
        heading = heading_of(self.origin.name, self.look, self._piece_bytes)
        try:
            self._known = part.begin(heading, self.size_bytes, self._piece_bytes)
        except BaseException:
            part.close()
            raise
        self._part = part  # only now: the threads write to it as soon as they see it

    def _transfer(self, progress: Progress) -> None:
        digest, done = Digest(), 0
        for piece in self._windowed(self._fetched):
            digest.update(piece.view)
            if self._part is None and not piece.is_old:
                part = part_at(self.place)
                self._begin(part)
                self._write_equal_ones(part, piece.number)
            if self._part is not None and not piece.is_written:
                self._write(self._part, piece)  # it was fetched before it was known that it is needed
            self._sums.append(piece.noted)
            if not piece.is_kept:
                self.read_bytes += len(piece.view)
                self.changed_bytes += 0 if piece.is_old else len(piece.view)
            done += len(piece.view)
            self._buffers.give_back(piece.view)
            progress(done, self.size_bytes)
        self.digest = digest.text

    def _fetched(self, number: int) -> _Piece:
        """Read a piece, compare it with the old destination's, and write it where a part is under way."""
        offset = number * self._piece_bytes
        piece = _Piece(number, offset, self._buffers.take(min(self._piece_bytes, self.size_bytes - offset)))
        part = self._part
        if part is not None and number in self._known and self._is_kept(part, piece):
            return piece
        if self.origin.read(offset, piece.view) < len(piece.view):
            raise _SourceEnded
        piece.noted = checksum(piece.view)
        piece.is_old = self._old.holds(offset, piece.view)
        if part is not None:
            self._write(part, piece)
        return piece

    def _is_kept(self, part: Part, piece: _Piece) -> bool:
        whole = part.read(piece.number, piece.offset, piece.view) == len(piece.view)
        piece.noted = checksum(piece.view)
        piece.is_kept = piece.is_written = whole and piece.noted == self._known[piece.number]
        return piece.is_kept

    def _write(self, part: Part, piece: _Piece) -> None:
        part.write(piece.number, piece.offset, piece.view, piece.noted, self._old.handle if piece.is_old else None)
        piece.is_written = True

    def _write_equal_ones(self, part: Part, until: int) -> None:
        """Write the pieces in which nothing had changed, from the old destination: the source is not read again."""
        for number in range(until):
            offset = number * self._piece_bytes
            view = self._buffers.take(min(self._piece_bytes, self.size_bytes - offset))
            self._old.read(offset, view)
            part.write(number, offset, view, self._sums[number], self._old.handle)
            self._buffers.give_back(view)

    # -- 3: verify ---------------------------------------------------------------------------------

    def _verify(self, part: Part) -> None:
        def is_right(number: int) -> bool:
            offset = number * self._piece_bytes
            view = self._buffers.take(min(self._piece_bytes, self.size_bytes - offset))
            right = part.read(number, offset, view) == len(view) and checksum(view) == self._sums[number]
            self._buffers.give_back(view)
            return right

        if not all([*self._windowed(is_right)]):
            self.discard()
            raise StorageError(
                f"{self.place.url} did not hold what was written; the old content is untouched, check the disk",
                url=self.place.url,
            )

    # -- inside ------------------------------------------------------------------------------------

    def _windowed(self, work: Callable[[int], _T]) -> Iterator[_T]:
        """Yield what `work` makes of each piece's number, in order, while those behind are under way."""
        numbers = range(-(-self.size_bytes // self._piece_bytes))
        if self._pool is None or self.origin.in_order or self._old.in_order:
            yield from map(work, numbers)
            return
        under_way: deque[Future[_T]] = deque()
        try:
            for number in numbers:
                if len(under_way) == self._parallel:
                    yield under_way.popleft().result()
                under_way.append(self._pool.submit(work, number))
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:  # nobody may write to a part that is let go of
                if not future.cancel():
                    future.exception()
