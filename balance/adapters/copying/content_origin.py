"""Bytes that lie in memory, to be copied."""

from __future__ import annotations

from typing import Any

from balance.digests import digest_of


class ContentOrigin:
    """Bytes that lie in memory."""

    name = "memory"
    in_order = False

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._look = [len(content), digest_of(content)]

    def look(self) -> list[Any]:
        """As `Origin.look`."""
        return self._look

    def read(self, offset: int, into: memoryview) -> int:
        """As `Origin.read`, from any thread."""
        found = self._content[offset : offset + len(into)]
        into[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Do nothing."""
