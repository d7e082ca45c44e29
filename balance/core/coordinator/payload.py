"""Data on its way: bytes, what they encode, and their digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from balance.digests import digest_of
from balance.errors import InvalidValue


@dataclass(frozen=True)
class Payload:
    """What a reader delivered.

    It holds bytes whatever was read, so that nobody who got it can change it for the others, and so that
    size and digest mean the same everywhere.

    Attributes
    ----------
    data : bytes
        The content; JSON in UTF-8 where `encoding` says so.
    encoding : str
        ``"bytes"`` or ``"json"``.

    Examples
    --------
    >>> payload = Payload.of([{"year": 1958, "co2": 316.1}])
    >>> payload.size_bytes, payload.value()
    (27, [{'year': 1958, 'co2': 316.1}])
    """

    data: bytes
    encoding: str = "bytes"

    @classmethod
    def of(cls, value: Any) -> Payload:
        """Wrap bytes or a JSON value; anything else raises `InvalidValue`."""
        if isinstance(value, bytes | bytearray | memoryview):
            return cls(bytes(value))
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise InvalidValue("data", value, f"bytes or JSON values only ({error})") from None
        return cls(text.encode(), "json")

    def value(self) -> Any:
        """Return the bytes, or a fresh copy of the JSON value."""
        return json.loads(self.data) if self.encoding == "json" else self.data

    @property
    def size_bytes(self) -> int:
        """How many bytes."""
        return len(self.data)

    @cached_property
    def digest(self) -> str:
        """``blake3:`` and 64 hex digits over the bytes."""
        return digest_of(self.data)
