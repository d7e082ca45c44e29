"""Where the bytes of a copy are read: pieces at any offset where the place can do that, else one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from balance.errors import BalanceError, SourceUnavailable


class Origin(Protocol):
    """Bytes to be copied."""

    name: str
    in_order: bool  # whether `read` wants the offsets in order, from one thread at a time

    def look(self) -> list[Any]:
        """Return what tells whether they changed; their number comes first."""
        ...

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into` from an offset on; fewer bytes than that mean that the source ended."""
        ...

    def close(self) -> None:
        """Let go of what is open; nothing if nothing is."""
        ...


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a place raises into `SourceUnavailable`."""
    try:
        yield
    except BalanceError:
        raise
    except Exception as error:  # each fsspec implementation raises its own kinds
        raise SourceUnavailable(f"{name} can't be read ({type(error).__name__}: {error})", source=name) from error
