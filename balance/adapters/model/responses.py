"""Answers of models in one form, written down one line each."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Dict

from balance.errors import InvalidValue
from balance.interfaces.model import ResponseHandler
from balance.types import check_id, check_int

STATUSES = ("completed", "failed", "dead_lettered", "pending", "rejected", "denied", "timed_out", "cancelled")
COUNTED_MODELS = 1_000
"""Of how many models answers are counted under their own names; further ones share the name ``other``."""

_OTHER_WORDS = {"ok": "completed", "success": "completed", "error": "failed"}
_TIMES = ("queued_s", "run_s", "elapsed_s")
_ENVELOPE = ("status", "model_id", "request_id", "result", "error", *_TIMES)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One answer.

    Attributes
    ----------
    status : str
        One of `STATUSES`.
    model_id, request_id : str or None
        Who answered what, where it is known.
    result : JSON
        What the model said.
    error : dict or None
        Why there is no result: ``error`` (a class name), ``message``, and what else is known.
    queued_s, run_s, elapsed_s : float or None
        Seconds that the request waited, that the model worked, and in all as the asker saw it.
    """

    status: str
    model_id: str | None = None
    request_id: str | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    queued_s: float | None = None
    run_s: float | None = None
    elapsed_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)


class ModelResponses(ResponseHandler):
    """Formats, logs and counts answers.

    Parameters
    ----------
    logged_chars : int, default 500
        How much of a result or an error a line of the log shows.

    Examples
    --------
    >>> responses = ModelResponses()
    >>> responses.log_response("whisper", {"status": "ok", "data": "سلام"})
    >>> responses.log_response("whisper", {"error": "out of memory"})
    >>> responses.counts()
    {'whisper': {'completed': 1, 'failed': 1}}
    """

    def __init__(self, *, logged_chars: int = 500) -> None:
        self._logged_chars = check_int("logged_chars", logged_chars, minimum=0)
        self._counts: dict[str, Counter[str]] = {}

    def format_response(self, response_data: Dict[str, Any]) -> Dict[str, Any]:
        """Return an answer with the keys that all answers have.

        Taken in are answers of Balance's actors and topics, and whatever JSON object a model's own service answers:
        without a ``status`` it is ``completed`` unless it has an ``error``, and without a ``result`` or ``data`` the
        result is everything that is not one of the keys below.

        Returns
        -------
        dict
            ``status`` (``completed | failed | dead_lettered | pending | rejected | denied | timed_out | cancelled``),
            ``model_id``, ``request_id``, ``result``, ``error``, ``queued_s``, ``run_s``, ``elapsed_s`` (seconds or
            None); see `ModelAnswer`.

        Raises
        ------
        InvalidValue
            It is no dict of JSON values, or its status is none that is known.

        Examples
        --------
        >>> answer = ModelResponses().format_response({"text": "hello", "run_s": 0.2})
        >>> answer["status"], answer["result"], answer["run_s"]
        ('completed', {'text': 'hello'}, 0.2)
        """
        if not isinstance(response_data, dict):
            raise InvalidValue("response_data", response_data, "a dict of JSON values")
        try:
            given = json.loads(json.dumps(response_data, allow_nan=False))  # a copy, of what JSON has words for
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValue("response_data", response_data, f"a dict of JSON values ({error})") from None
        metadata = given.get("metadata")
        request_id = given.get("request_id") or (metadata.get("request_id") if isinstance(metadata, dict) else None)
        status = self._status(given)
        return ModelAnswer(
            status,
            _text_or_none(given.get("model_id")),
            _text_or_none(request_id),
            _result(given) if status == "completed" else given.get("result"),
            _error(given),
            *(_seconds(name, given.get(name)) for name in _TIMES),
        ).to_dict()

    def log_response(self, model_id: str, response_data: Dict[str, Any]) -> None:
        """Write one line of bounded length, and count the answer by model and status.

        An answer that makes no sense is written and counted as ``malformed``: who logs must not fail.
        """
        check_id("model_id", model_id)
        try:
            answer = self.format_response(response_data)
        except InvalidValue as error:
            self._count(model_id, "malformed")
            logger.warning("event=model_response_malformed model=%s reason=%s", model_id, self._short(str(error)))
            return
        self._count(model_id, answer["status"])
        is_good = answer["status"] in ("completed", "pending")
        logger.log(
            logging.INFO if is_good else logging.WARNING,
            "event=model_response model=%s request=%s status=%s queued_s=%s run_s=%s elapsed_s=%s %s=%s",
            model_id,
            answer["request_id"],
            answer["status"],
            *(answer[name] for name in _TIMES),
            "result" if is_good else "error",
            self._short(json.dumps(answer["result" if is_good else "error"], ensure_ascii=False)),
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many answers of each status, or ``malformed``, were logged, by model."""
        return {model_id: dict(sorted(counts.items())) for model_id, counts in sorted(self._counts.items())}

    def _status(self, given: Mapping[str, Any]) -> str:
        said = given.get("status", "failed" if given.get("error") else "completed")
        status = _OTHER_WORDS.get(said, said) if isinstance(said, str) else said
        if status not in STATUSES:
            raise InvalidValue("status", said, " or ".join((*STATUSES, *_OTHER_WORDS)))
        return str(status)

    def _count(self, model_id: str, status: str) -> None:
        if model_id not in self._counts and len(self._counts) >= COUNTED_MODELS:
            model_id = "other"
        self._counts.setdefault(model_id, Counter())[status] += 1

    def _short(self, text: str) -> str:
        kept = text[: self._logged_chars].replace("\n", "\\n")
        return kept if len(text) <= self._logged_chars else f"{kept}... ({len(text)} characters)"


def answered(handler: ResponseHandler, model_id: str, request_id: str, said: dict[str, Any]) -> dict[str, Any]:
    """Return what a model said to a request as an answer, and log it; one that makes no sense is ``failed``."""
    ids = {"model_id": model_id, "request_id": request_id}
    try:
        answer = handler.format_response({**said, **ids})
    except InvalidValue as error:
        answer = handler.format_response({**ids, "status": "failed", "error": error.to_dict()})
    handler.log_response(model_id, answer)
    return answer


def _result(given: dict[str, Any]) -> Any:
    for name in ("result", "data"):
        if name in given:
            return given[name]
    return {name: value for name, value in given.items() if name not in _ENVELOPE} or None


def _error(given: dict[str, Any]) -> dict[str, Any] | None:
    said = given.get("error")
    if said is None or isinstance(said, dict):
        return said
    return {"error": str(given.get("error_type") or "ModelError"), "message": str(said)}


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidValue(name, value, "seconds, 0 or more")
    return float(value)
