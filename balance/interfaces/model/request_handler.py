"""The port that makes requests ready for a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class RequestHandler(ABC):
    """Says whether a request makes sense, and brings it into the form that the model expects.

    Examples
    --------
    >>> class NeedsText(RequestHandler):
    ...     def validate_request(self, request_data):
    ...         return isinstance(request_data.get("text"), str)
    ...     def preprocess_request(self, request_data):
    ...         return {"language": "fa", **request_data}
    >>> NeedsText().validate_request({}), NeedsText().preprocess_request({"text": "سلام"})
    (False, {'language': 'fa', 'text': 'سلام'})
    """

    @abstractmethod
    def validate_request(self, request_data: Dict[str, Any]) -> bool:
        """Say whether the request could be handled as it is; a wrong one does not raise."""

    @abstractmethod
    def preprocess_request(self, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Return the request complete and in one form; what was given stays as it is.

        Raises
        ------
        InvalidValue
            It can't be handled; the message says why.
        """
