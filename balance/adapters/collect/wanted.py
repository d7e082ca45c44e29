"""What one request wants of a source: the query, its parameters checked one by one, and how much it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from balance.errors import InvalidValue
from balance.types import check_int, check_number

MAX_BYTES = 64 * 2**20
"""The most that is taken from sources for one request, decompressed."""


@dataclass(frozen=True)
class Wanted:
    """A request as the sources see it.

    Attributes
    ----------
    query : str
        What to look for, or an address: that is up to the source.
    parameters : mapping
        As they came with the request; not checked before a source asks for one.
    deadline_s : float
        On the clock's `now`: when all of it has to be over.
    max_bytes : int
        The most that sources may deliver for it, decompressed.

    Examples
    --------
    >>> wanted = Wanted("cats", {"limit": 5, "language": 7}, deadline_s=30.0)
    >>> wanted.count("limit", 10, maximum=50), wanted.text("format", "csv")
    (5, 'csv')
    >>> wanted.text("language", "fa")
    Traceback (most recent call last):
    ...
    balance.errors.InvalidValue: parameters.language is 7; expected text
    """

    query: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    deadline_s: float = float("inf")
    max_bytes: int = MAX_BYTES

    @property
    def max_age_s(self) -> float | None:
        """How old a copy may be that the source is not asked about; None leaves it to the settings."""
        given = self.parameters.get("max_age_s")
        return None if given is None else check_number("parameters.max_age_s", given, minimum=0)

    @property
    def address(self) -> str:
        """The parameter ``url``, or else the query."""
        return self.text("url", self.query).strip()

    def text(self, name: str, otherwise: str = "") -> str:
        """Return a parameter that is text, `otherwise` if it was not given."""
        value = self.parameters.get(name)
        if value is None:
            return otherwise
        if not isinstance(value, str):
            raise InvalidValue(f"parameters.{name}", value, "text")
        return value

    def count(self, name: str, otherwise: int, *, maximum: int) -> int:
        """Return a parameter that is a number of things, from 1 to `maximum`."""
        value = self.parameters.get(name)
        found = otherwise if value is None else check_int(f"parameters.{name}", value, minimum=1)
        if found > maximum:
            raise InvalidValue(f"parameters.{name}", value, f"at most {maximum}")
        return found

    def choice(self, name: str, otherwise: str, words: tuple[str, ...]) -> str:
        """Return a parameter that is one of a few words."""
        value = self.text(name, otherwise)
        if value not in words:
            raise InvalidValue(f"parameters.{name}", value, "one of " + ", ".join(words))
        return value
