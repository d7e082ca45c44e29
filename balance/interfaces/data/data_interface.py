"""The port to stored data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class DataInterface(ABC):
    """Fetches data and stores it.

    Examples
    --------
    >>> class InMemory(DataInterface):
    ...     def __init__(self):
    ...         self._kept = {}
    ...     def fetch_data(self, query_params):
    ...         return {"status": "ok", "rows": self._kept[query_params["data_id"]]}
    ...     def store_data(self, data):
    ...         self._kept[data["data_id"]] = data["rows"]
    >>> kept = InMemory()
    >>> kept.store_data({"data_id": "years", "rows": [{"year": 1958}]})
    >>> kept.fetch_data({"data_id": "years"})
    {'status': 'ok', 'rows': [{'year': 1958}]}
    """

    @abstractmethod
    def fetch_data(self, query_params: Dict[str, Any]) -> Dict[str, Any]:
        """Read the data that the parameters name.

        Returns
        -------
        dict
            At least ``status`` (``ok``, or what happened instead); the data itself as JSON values.
        """

    @abstractmethod
    def store_data(self, data: Dict[str, Any]) -> None:
        """Store data; when this returns, all of it is there, and if it raises, none of it is."""
