"""What a web address delivered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from balance.errors import SourceUnavailable


@dataclass(frozen=True, slots=True)
class WebPage:
    """A body, decompressed, and what its server said of it.

    Attributes
    ----------
    url : str
        Where it came from in the end, redirects followed.
    body : bytes
    headers : dict
        By name in lower case; only those that were asked to be kept.
    fetched_at : float
        POSIX seconds at which the server sent or confirmed it.
    wire_bytes : int
        How much came over the wire for this call.
    from_cache : bool
        Whether no body had to be transferred.

    Examples
    --------
    >>> page = WebPage("https://example.org", b'{"a": 1}', {"content-type": "application/json; charset=UTF-8"})
    >>> page.media_type, page.charset, page.json()
    ('application/json', 'utf-8', {'a': 1})
    """

    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    fetched_at: float = 0.0
    wire_bytes: int = 0
    from_cache: bool = False

    @property
    def media_type(self) -> str:
        """``Content-Type`` without its parameters; ``application/octet-stream`` where there is none."""
        return self._content_type().get_content_type() if "content-type" in self.headers else "application/octet-stream"

    @property
    def charset(self) -> str | None:
        """What the server says of the body's characters, in lower case; None where it says nothing."""
        return self._content_type().get_content_charset()

    def json(self) -> Any:
        """Return the body as JSON; `SourceUnavailable` if it is none, or nested too deeply."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise SourceUnavailable(f"{self.url} did not answer with JSON ({error})", url=self.url) from None

    def _content_type(self) -> Message:
        message = Message()
        message["content-type"] = self.headers.get("content-type", "")
        return message
