"""A model that is deployed in Balance, asked through Ray."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Dict, Protocol

from balance.adapters.model.responses import ModelResponses, answered
from balance.defaults import default
from balance.errors import ClusterError, InvalidValue, UnknownId
from balance.interfaces.model import ModelInterface, RequestHandler, ResponseHandler
from balance.types import check_id, check_number

if TYPE_CHECKING:
    from balance.clock import Clock

_PATIENCE_S = 30.0
"""How long the actor may take to accept a request, and beyond the answer's own time to say that there is none."""


class _Peer(Protocol):
    def call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any: ...


class ActorModel(ModelInterface):
    """Asks the batches actor: a request is accepted durably, merged with equal ones, batched, supplied and answered.

    Parameters
    ----------
    peer : optional
        With ``call(method, *arguments, timeout_s=)``; the batches actor of the cluster that this program is connected
        to where left out.
    timeout_s : float, default 60
        How long an answer is waited for.
    requests : RequestHandler, optional
        Makes requests ready; they go as they are where left out, for a model has fields of its own.
    responses : ResponseHandler, optional
        Formats and logs answers.
    clock : Clock, optional

    Examples
    --------
    >>> class Batches:
    ...     def call(self, method, *arguments, timeout_s=None):
    ...         if method == "submit_requests":
    ...             return {"accepted": 1, "request_ids": [arguments[0][0]["request_id"]], "rejected": []}
    ...         return {"status": "completed", "request_id": arguments[0], "result": 42}
    >>> answer = ActorModel(peer=Batches()).send_request("whisper", {"request_id": "r-1", "text": "hello"})
    >>> answer["status"], answer["model_id"], answer["request_id"], answer["result"]
    ('completed', 'whisper', 'r-1', 42)
    """

    def __init__(
        self,
        *,
        peer: _Peer | None = None,
        timeout_s: float = 60.0,
        requests: RequestHandler | None = None,
        responses: ResponseHandler | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._peer = peer
        self._timeout_s = check_number("timeout_s", timeout_s, minimum=0)
        self._requests = requests
        self._responses = responses or ModelResponses()
        self._clock: Clock = clock or default("clock")

    def send_request(self, model_id: str, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Ask the model and wait for its answer; with the same ``request_id`` again, the same answer.

        Returns
        -------
        dict
            As `ModelResponses.format_response`; ``status`` is ``completed | failed | dead_lettered``, ``pending``
            where there is no answer within ``timeout_s`` (ask again by the ``request_id``), or ``rejected`` where the
            model does not take such a request.

        Raises
        ------
        InvalidValue
            The request is no dict, or names another model.
        UnknownId
            No such model is deployed.
        ClusterError
            Balance does not run, or did not answer.
        """
        check_id("model_id", model_id)
        if not isinstance(request_data, dict):
            raise InvalidValue("request_data", request_data, "a dict of the model's own fields")
        if request_data.get("model_id", model_id) != model_id:
            raise InvalidValue("request_data.model_id", request_data["model_id"], f"{model_id!r}, or nothing")
        fields = self._requests.preprocess_request(request_data) if self._requests else request_data
        request_id = check_id("request_id", fields.get("request_id") or uuid.uuid4().hex)
        asked = {**fields, "model_id": model_id, "request_id": request_id}
        began = self._clock.now()
        peer = self._connected()
        taken = peer.call("submit_requests", [asked], timeout_s=_PATIENCE_S)
        if taken["rejected"]:
            answer = self._rejected(model_id, taken["rejected"][0])
        else:
            answer = peer.call("answer", request_id, self._timeout_s, timeout_s=self._timeout_s + _PATIENCE_S)
        elapsed_s = self._clock.now() - began
        return answered(self._responses, model_id, request_id, {"elapsed_s": elapsed_s, **answer})

    def receive_response(self, model_id: str, response_data: Dict[str, Any]) -> None:
        """Log and count an answer that came by another way."""
        self._responses.log_response(model_id, response_data)

    def _rejected(self, model_id: str, reason: dict[str, Any]) -> dict[str, Any]:
        if reason["error"] == UnknownId.__name__:
            raise UnknownId("model", model_id, reason["details"].get("nearest", ()))
        return {"status": "rejected", "error": {name: reason[name] for name in ("error", "message", "details")}}

    def _connected(self) -> _Peer:
        if self._peer is None:
            import ray  # noqa: PLC0415 (who brings a peer of its own needs none)

            if not ray.is_initialized():
                raise ClusterError("this program is not connected to Ray; call ray.init('auto') first")
            self._peer = default("peer", role="batches")
        return self._peer
