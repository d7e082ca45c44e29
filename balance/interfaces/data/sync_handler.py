"""The port to copies that are kept in step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class SyncHandler(ABC):
    """Copies data from place to place and says whether a copy is right.

    Examples
    --------
    >>> class Places(SyncHandler):
    ...     def __init__(self):
    ...         self.places = {"here": "text", "there": ""}
    ...     def sync_data(self, source, destination, data):
    ...         self.places[destination] = self.places[source]
    ...     def verify_sync(self, source, destination):
    ...         return self.places[source] == self.places[destination]
    >>> places = Places()
    >>> places.sync_data("here", "there", {})
    >>> places.verify_sync("here", "there")
    True
    """

    @abstractmethod
    def sync_data(self, source: str, destination: str, data: Dict[str, Any]) -> None:
        """Make the destination equal to the source; when this raises, the destination is what it was.

        Parameters
        ----------
        source, destination : str
            Places, as URLs.
        data : dict
            What else is known of the copy.
        """

    @abstractmethod
    def verify_sync(self, source: str, destination: str) -> bool:
        """Say whether both places hold the same bytes now."""
