"""Requests made ready for a model: checked against the schema of their operation, complete, in one Unicode form."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Mapping
from typing import Any, Dict

from pydantic import BaseModel, ValidationError

from balance.errors import InvalidValue, UnknownId
from balance.interfaces.model import RequestHandler
from balance.messaging import ModelRequest, OperationType
from balance.messaging.delivery import encode_message

_DEPTH = 64


class ModelRequests(RequestHandler):
    """Checks requests with pydantic, one schema for each operation.

    Parameters
    ----------
    schemas : mapping of str to pydantic model, optional
        What a request of each ``operation`` looks like; where left out, `balance.messaging.ModelRequest` for each
        operation that Balance knows.
    operation : str, default "fetch_data"
        Of requests that name none.

    Notes
    -----
    Texts are brought into Unicode's composed form (NFC, Unicode Standard Annex 15), in which an alef with its madda is
    one letter.  More is not changed: the joiners of Persian and the letters that Arabic writes differently carry
    meaning for a model.  That two spellings ask for the same is found where requests are merged
    (`balance.batch.processor.text`).

    Examples
    --------
    >>> requests = ModelRequests()
    >>> ready = requests.preprocess_request({"model_id": "m", "query": "\\u0627\\u0653ب", "source_type": "wiki"})
    >>> ready["query"] == "آب", ready["operation"], ready["priority"], len(ready["request_id"])
    (True, 'fetch_data', 3, 32)
    >>> requests.validate_request({"model_id": "m"}), requests.problem({"model_id": "m"})
    (False, 'query is None; expected a value; the field is required')
    """

    def __init__(
        self, *, schemas: Mapping[str, type[BaseModel]] | None = None, operation: str = OperationType.FETCH_DATA.value
    ) -> None:
        self._schemas = dict(schemas or {each.value: ModelRequest for each in OperationType})
        if operation not in self._schemas:
            raise UnknownId("operation", operation, self._schemas)
        self._operation = operation

    def validate_request(self, request_data: Dict[str, Any]) -> bool:
        """Say whether `preprocess_request` would take it; `problem` says why not."""
        return self.problem(request_data) is None

    def problem(self, request_data: object) -> str | None:
        """Return what is wrong with a request in a sentence, None if nothing is."""
        try:
            self._checked(request_data)
        except (InvalidValue, UnknownId) as error:
            return str(error)
        return None

    def preprocess_request(self, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Return the request with every default, its texts in NFC, and a ``request_id``.

        Returns
        -------
        dict
            The fields of the operation's schema that have a value, and ``operation`` and ``request_id``.

        Raises
        ------
        InvalidValue
            A field does not fit; the message names the first.
        UnknownId
            There is no such operation.
        """
        ready = self._checked(request_data)
        ready["request_id"] = ready.get("request_id") or uuid.uuid4().hex
        return ready

    def _checked(self, given: object) -> dict[str, Any]:
        composed = _composed(given, 0)
        encode_message(composed)  # JSON values only, of a size that can be sent
        operation = composed.get("operation", self._operation)
        if not isinstance(operation, str):
            raise InvalidValue("operation", operation, "the name of an operation")
        if operation not in self._schemas:
            raise UnknownId("operation", operation, self._schemas)
        schema = self._schemas[operation]
        # Fields of the envelope are checked where the schema has them, and go along where it has not.
        envelope = {name: composed[name] for name in ("operation", "request_id") if name in composed}
        body = {name: v for name, v in composed.items() if name in schema.model_fields or name not in envelope}
        try:
            made = schema.model_validate_json(encode_message(body), strict=True)
        except ValidationError as error:
            raise _said(error) from None
        fields = made.model_dump(mode="json", exclude_none=True)
        return {**envelope, **fields, "operation": operation}


def _said(error: ValidationError) -> InvalidValue:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "request_data"
    if first["type"] == "missing":
        return InvalidValue(where, None, "a value; the field is required")
    return InvalidValue(where, first["input"], first["msg"])


def _composed(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise InvalidValue("request_data", "...", f"at most {_DEPTH} levels of nesting")
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_composed(name, depth + 1): _composed(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_composed(inner, depth + 1) for inner in value]
    return value
