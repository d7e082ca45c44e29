"""The port that brings models' answers into one form and tells of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class ResponseHandler(ABC):
    """Gives every answer the same keys, whoever answered, and writes it down.

    Examples
    --------
    >>> class Printed(ResponseHandler):
    ...     def format_response(self, response_data):
    ...         return {"status": "completed", **response_data}
    ...     def log_response(self, model_id, response_data):
    ...         print(model_id, self.format_response(response_data)["status"])
    >>> Printed().log_response("whisper", {"result": "text"})
    whisper completed
    """

    @abstractmethod
    def format_response(self, response_data: Dict[str, Any]) -> Dict[str, Any]:
        """Return the answer with the keys that all answers have.

        Returns
        -------
        dict
            At least ``status``, ``model_id``, ``request_id``, ``result``, ``error``.
        """

    @abstractmethod
    def log_response(self, model_id: str, response_data: Dict[str, Any]) -> None:
        """Write down that the model gave this answer; an answer that makes no sense is written down as such."""
