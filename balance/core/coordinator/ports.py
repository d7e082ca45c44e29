"""What the data and sync coordinators need of the world around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from balance.core.coordinator.payload import Payload

#: Called while a copy runs with the bytes done and the bytes in total.
Progress = Callable[[int, int], None]


class Journal(Protocol):
    """Documents that survive a restart (`balance.storage.StoreJournal`)."""

    def put(self, collection: str, key: str, body: Mapping[str, Any]) -> None:
        """Write a document; it is durable when this returns."""
        ...

    def delete(self, collection: str, key: str) -> None:
        """Remove a document, if it is there."""
        ...

    def scan(self, collection: str) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(key, document)`` of a collection, sorted by key."""
        ...


class Readers(Protocol):
    """Where data comes from (`balance.adapters.readers.Readers`)."""

    def check(self, source: str) -> None:
        """Raise `InvalidValue`, `UnknownId` or `AccessRefused` if this source could never be read."""
        ...

    def read(self, source: str, max_bytes: int) -> Payload:
        """Read it; `SourceUnavailable` if it does not deliver, `AccessRefused` if it may not or is too large."""
        ...

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Make ``reader:NAME?arg=value`` call this function."""
        ...

    def is_file(self, source: str) -> bool:
        """Say whether a copier can copy the source itself, without reading it first."""
        ...


class Placer(Protocol):
    """Where data is put within reach of the models: this process, or Ray's object store."""

    def put(self, data_id: str, payload: Payload) -> str:
        """Place it and return its location."""
        ...

    def get(self, location: str) -> Payload:
        """Return what lies there; `UnknownId` if nothing does."""
        ...

    def holds(self, location: str) -> bool:
        """Say whether something lies there (still: a restart may have taken it)."""
        ...

    def drop(self, location: str) -> None:
        """Free it, if it is there; this must not block."""
        ...


@dataclass(frozen=True, slots=True)
class CopyReport:
    """How a copy ended.

    Attributes
    ----------
    status : str
        ``copied``; ``unchanged`` (the destination was right already and was not touched); ``conflict``
        (the source changed meanwhile: the destination is as it was).
    size_bytes : int
        Of the source; of a folder, of all its files.
    copied_bytes : int
        Read from the source in this run: less than `size_bytes` where a broken-off copy was resumed.
    changed_bytes : int
        In blocks in which the old destination differed.
    digest : str
        ``blake3:`` of the source, and, unless there was a conflict, of the destination as read back; of a folder over
        a line for each file with its digest and its path, as ``b3sum`` prints them.
    files, changed_files : int
        How many, and how many of them were written.
    """

    status: str
    size_bytes: int
    copied_bytes: int
    changed_bytes: int
    digest: str
    files: int = 1
    changed_files: int = 0


class Copier(Protocol):
    """Moves bytes from place to place (`balance.adapters.copier.FsspecCopier`)."""

    def check(self, source: str | None, destination: str) -> None:
        """Raise `InvalidValue` or `AccessRefused` if this copy (None: of bytes in memory) could never be made."""
        ...

    def copy(self, source: str, destination: str, progress: Progress | None = None) -> CopyReport:
        """Copy a file or a folder, verify, and replace the destination; a crash leaves no file half-way."""
        ...

    def write(self, content: bytes, destination: str, progress: Progress | None = None) -> CopyReport:
        """Do the same with bytes that lie in memory."""
        ...

    def digest(self, url: str) -> str | None:
        """Return the digest of what lies at a place now, as of a copy; None if nothing does."""
        ...
