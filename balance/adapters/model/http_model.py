"""A model behind a service of its own, asked over HTTP."""

from __future__ import annotations

import uuid
from typing import Any, Dict
from urllib.parse import quote

from balance.adapters.external.http_api import HttpAPI
from balance.adapters.model.responses import ModelResponses, answered
from balance.errors import InvalidValue, SourceUnavailable
from balance.interfaces.model import ModelInterface, RequestHandler, ResponseHandler
from balance.types import check_id


class HttpModel(ModelInterface):
    """POSTs each request as JSON to the model's own endpoint.

    The ``Idempotency-Key`` is the request's id, percent-encoded, so that an attempt
    that is repeated is the same request to the service.

    Parameters
    ----------
    api : HttpAPI
        The service.
    endpoint : str, default "models/{model_id}"
        Below the service's base URL; the model's id is put in percent-encoded.
    requests : RequestHandler, optional
        Makes requests ready; they go as they are where left out.
    responses : ResponseHandler, optional
        Formats and logs answers.

    Examples
    --------
    >>> model = HttpModel(api=HttpAPI(base_url="http://127.0.0.1:9", allow_private=True, attempts=1))
    >>> answer = model.send_request("whisper", {"text": "hello"})
    >>> answer["status"], answer["error"]["error"]
    ('failed', 'SourceUnavailable')
    """

    def __init__(
        self,
        *,
        api: HttpAPI,
        endpoint: str = "models/{model_id}",
        requests: RequestHandler | None = None,
        responses: ResponseHandler | None = None,
    ) -> None:
        if "{model_id}" not in endpoint:
            raise InvalidValue("endpoint", endpoint, "a path with {model_id} in it")
        self._api = api
        self._endpoint = endpoint
        self._requests = requests
        self._responses = responses or ModelResponses()

    def send_request(self, model_id: str, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Ask the model and wait for its answer.

        Returns
        -------
        dict
            As `ModelResponses.format_response`; ``status`` is what the service says, ``completed`` where it says
            nothing else, ``rejected`` where it answered 4xx, ``failed`` where it did not answer.

        Raises
        ------
        InvalidValue
            The request is no dict of JSON values.
        AccessRefused
            The service lies on a private network, or answered too much.
        """
        check_id("model_id", model_id)
        if not isinstance(request_data, dict):
            raise InvalidValue("request_data", request_data, "a dict of JSON values")
        fields = self._requests.preprocess_request(request_data) if self._requests else request_data
        request_id = check_id("request_id", fields.get("request_id") or uuid.uuid4().hex)
        body = {**fields, "model_id": model_id, "request_id": request_id}
        path = self._endpoint.replace("{model_id}", quote(model_id, safe=""))
        try:
            key = quote(request_id, safe="")  # a header is ASCII, an id need not be
            answer = _answer(self._api.request("POST", path, body, idempotency_key=key))
        except SourceUnavailable as error:
            answer = {"status": "failed", "error": error.to_dict()}
        return answered(self._responses, model_id, request_id, answer)

    def receive_response(self, model_id: str, response_data: Dict[str, Any]) -> None:
        """Log and count an answer that came by another way, such as a webhook."""
        self._responses.log_response(model_id, response_data)


def _answer(said: dict[str, Any]) -> dict[str, Any]:
    body, elapsed = said["body"], {"elapsed_s": said["elapsed_s"]}
    if said["status"] != "ok":
        message = f"the service answered {said['http_status']}"
        details = {"http_status": said["http_status"], "body": body, "location": said["location"]}
        return {"status": "rejected", "error": {"error": "Rejected", "message": message, "details": details}, **elapsed}
    return {**elapsed, **body} if isinstance(body, dict) else {"result": body, **elapsed}
