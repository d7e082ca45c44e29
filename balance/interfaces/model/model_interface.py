"""The port to a model, wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class ModelInterface(ABC):
    """Asks a model and takes its answers.

    Examples
    --------
    >>> class Echo(ModelInterface):
    ...     def send_request(self, model_id, request_data):
    ...         return {"status": "completed", "model_id": model_id, "result": request_data}
    ...     def receive_response(self, model_id, response_data):
    ...         print(model_id, response_data["status"])
    >>> echo = Echo()
    >>> echo.receive_response("echo", echo.send_request("echo", {"text": "hello"}))
    echo completed
    """

    @abstractmethod
    def send_request(self, model_id: str, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Ask the model and wait for its answer.

        Parameters
        ----------
        model_id : str
        request_data : dict
            The model's own fields, JSON values; ``request_id`` makes asking again harmless.

        Returns
        -------
        dict
            At least ``status`` (``completed``, or what happened instead), ``model_id``, ``request_id`` (str or None),
            ``result`` and ``error`` (dict or None); see `ResponseHandler.format_response`.
        """

    @abstractmethod
    def receive_response(self, model_id: str, response_data: Dict[str, Any]) -> None:
        """Take an answer that comes by another way than as the result of `send_request`: late, or by a callback."""
