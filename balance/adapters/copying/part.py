"""Where the bytes of a copy lie until all of them are there: beside the destination, piece by piece.

Each piece is noted with its checksum (XXH3, 128 bits) when it is written.  A note proves nothing by itself: a piece
is taken over only if it reads as it was noted, and all are read again before the part replaces the destination.
So nothing has to be synced before the end, and a crash costs what was under way and no more.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from xxhash import xxh3_128_hexdigest

from balance.errors import BalanceError, StorageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def checksum(piece: memoryview) -> str:
    """Return the checksum of a piece: 32 hex digits."""
    return xxh3_128_hexdigest(piece)


class Part(Protocol):
    """A destination in the making."""

    def is_left(self) -> bool:
        """Say whether an earlier run left something."""
        ...

    def begin(self, heading: str, size_bytes: int, piece_bytes: int) -> dict[int, str]:
        """Make ready for a copy; return the checksums of the pieces that an earlier run of the same left, by number."""
        ...

    def write(self, number: int, offset: int, piece: memoryview, noted: str, old: int | None) -> None:
        """Write a piece and note it, from any thread; `old` is a file that holds the same bytes there."""
        ...

    def read(self, number: int, offset: int, into: memoryview) -> int:
        """Read a piece back, from any thread."""
        ...

    def settle(self, *, syncs: bool) -> None:
        """Complete it and, where `syncs`, bring all that was written to the disk."""
        ...

    def replace(self) -> None:
        """Put it in the destination's place, at once."""
        ...

    def discard(self) -> None:
        """Take away what there is of it."""
        ...

    def close(self) -> None:
        """Let go of it; what was written stays for the next run."""
        ...


def heading_of(source: str, look: list[Any], piece_bytes: int) -> str:
    """Return by what a part is known to be of this very copy."""
    return json.dumps([source, look, piece_bytes])


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Turn whatever a place raises into `StorageError`."""
    try:
        yield
    except BalanceError:
        raise
    except Exception as error:  # each fsspec implementation raises its own kinds
        full = isinstance(error, OSError) and error.errno in FULL
        raise StorageError(
            f"{url} can't be written ({type(error).__name__}: {error})", destination=url, is_full=full
        ) from error
