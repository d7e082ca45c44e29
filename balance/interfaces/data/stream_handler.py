"""The port to data that is too much to hold at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict, Generator


class StreamHandler(ABC):
    """Gives rows one by one, in bounded memory, until somebody has enough of them.

    Examples
    --------
    >>> class Counting(StreamHandler):
    ...     def open_stream(self, query_params):
    ...         self.is_open = True
    ...         return ({"n": n} for n in range(query_params["count"]))
    ...     def close_stream(self):
    ...         self.is_open = False
    >>> list(Counting().open_stream({"count": 2}))
    [{'n': 0}, {'n': 1}]
    """

    @abstractmethod
    def open_stream(self, query_params: Dict[str, Any]) -> Generator[Dict[str, Any], None, None]:
        """Open what the parameters name; a mistake in them raises here, not at the first row."""

    @abstractmethod
    def close_stream(self) -> None:
        """End every stream that is open and let go of what it holds; safe to call twice, and from another thread."""
