"""The runner of a plain process: each model's requests go to the handler that was registered for it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from balance.batch.processor.batch import Batch
from balance.errors import InvalidValue, NotReady
from balance.types import check_id

#: What runs a batch: one result for each of its requests; an exception in the list fails that one alone.
Runner = Callable[[Batch], "list[Any]"]
Handler = Callable[[Mapping[str, Any]], Any]


class Handlers:
    """Call one handler for each request, in this process and one after the other.

    A request may bring its own handler under ``handler``; without any handler it fails and says so:
    there is nothing that could answer it.

    Examples
    --------
    >>> from balance.batch.processor import BatchProcessor
    >>> handlers = Handlers()
    >>> handlers.register("square", lambda request: request["n"] ** 2)
    >>> processor = BatchProcessor(runner=handlers)
    >>> report = processor.process_batch([{"model_id": "square", "n": 3}, {"model_id": "cube", "n": 3}])
    >>> [answer["result"] for answer in report["results"]], report["results"][1]["error"]["message"]
    ([9, None], "no handler is registered for model 'cube': call register_handler, or pass a runner")
    """

    def __init__(self) -> None:
        self._by_model: dict[str, Handler] = {}

    def register(self, model_id: str, handler: Handler) -> None:
        """Let `handler` answer the requests of `model_id`; a second call replaces the first."""
        check_id("model_id", model_id)
        if not callable(handler):
            raise InvalidValue("handler", handler, "a callable that takes one request")
        self._by_model[model_id] = handler

    def __call__(self, batch: Batch) -> list[Any]:
        """Return a result, or the exception, for each request of `batch`."""
        return [self._answer(batch.model_id, request) for request in batch.requests]

    def _answer(self, model_id: str, request: Mapping[str, Any]) -> Any:
        handler = request.get("handler", self._by_model.get(model_id))
        if not callable(handler):
            named = f"model {model_id!r}" if model_id else "a request that names no model_id"
            return NotReady(f"no handler is registered for {named}: call register_handler, or pass a runner")
        try:
            return handler(request)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a handler's failure is its request's alone)
            return error


def error_dict(error: BaseException) -> dict[str, Any]:
    """Return ``error`` (class name), ``message`` and ``traceback`` (the last lines) of an exception.

    Examples
    --------
    >>> error_dict(ValueError("no such series"))["message"]
    'no such series'
    """
    lines = traceback.format_exception(error) if error.__traceback__ else []
    return {
        "error": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "traceback": "".join(lines)[-4000:],
    }
