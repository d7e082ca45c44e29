"""The port to a service outside that answers requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class APIInterface(ABC):
    """Sends requests to a service and takes what it sends of its own accord.

    Examples
    --------
    >>> class Mirror(APIInterface):
    ...     def send_request(self, endpoint, payload):
    ...         return {"status": "ok", "body": {endpoint: payload}}
    ...     def receive_response(self, response_data):
    ...         print(response_data)
    >>> Mirror().send_request("a", {"b": 1})
    {'status': 'ok', 'body': {'a': {'b': 1}}}
    """

    @abstractmethod
    def send_request(self, endpoint: str, payload: Dict[str, Any]) -> Dict[str, Any]:
        """Send `payload` to `endpoint` and return what was answered.

        Returns
        -------
        dict
            At least ``status`` (``ok``, or what happened instead) and ``body`` (JSON).
        """

    @abstractmethod
    def receive_response(self, response_data: Dict[str, Any]) -> None:
        """Take what the service sends later, by a callback."""
