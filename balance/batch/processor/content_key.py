"""What a request asks for, as one short key: equal keys mean that one answer serves both.

A merge that should not have been gives somebody the wrong answer; a merge that was missed costs one
execution.  So texts are compared loosely only where case and spelling carry no meaning: a URL, an
identifier, a path, or a query in a formal language is compared exactly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Set
from datetime import date, datetime
from enum import Enum
from hashlib import blake2b
from typing import Any

from balance.batch.processor.text import normalise
from balance.errors import InvalidValue

#: Fields that say who asks, when, how urgently and where the answer goes; none says what is asked for.
# fmt: off
IDENTITY_FIELDS = frozenset(
    [
        "id", "request_id", "request_ids", "correlation_id", "trace_id", "span_id", "parent_id", "message_id",
        "batch_id", "task_id", "idempotency_key", "traceparent", "tracestate", "timestamp", "created_at", "sent_at",
        "received_at", "accepted_at", "submitted_at", "enqueued_at", "updated_at", "response_topic",
        "response_topics", "reply_to", "requester", "request_source", "priority", "deadline", "ttl", "ttl_s",
        "timeout_s", "retries", "retry_count", "attempt", "attempts", "schema_version",
    ]
)
# fmt: on
#: Envelopes: the identity fields are left out inside these too.
ENVELOPES = frozenset(("metadata", "headers"))
#: Fields whose text is a name of something: case and spacing belong to it.
EXACT_FIELDS = frozenset(
    ("url", "uri", "path", "file", "location", "source", "digest", "token", "sql", "code", "regex", "pattern")
)
#: Sources whose query is a formal language or a name.
EXACT_SOURCES = frozenset(("database", "api", "file", "custom"))

_MAX_DEPTH = 64


def content_key(request: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits that are equal for requests that ask for the same thing.

    Left out are `IDENTITY_FIELDS`, at the top and inside `ENVELOPES`.  ``model_id`` counts, since it says
    which model runs, except in a request for data (one that has ``data_type`` or ``source_type``): there it
    says who asks.

    Parameters
    ----------
    request : mapping
        The request: JSON values, and dates, bytes, sets, enums or importable functions.

    Returns
    -------
    str
        BLAKE2b of the canonical content, 128 bits; the same in every process and Python version.

    Raises
    ------
    InvalidValue
        For content that has no canonical form: an open file, a lambda, a nesting deeper than 64.

    Examples
    --------
    >>> content_key({"request_id": "1", "query": "Persian  Cats"}) == content_key({"id": 2, "query": "persian cats"})
    True
    >>> content_key({"query": "cats", "limit": 5}) == content_key({"query": "cats", "limit": 6})
    False
    """
    left_out = "model_id" if "data_type" in request or "source_type" in request else None
    merged = "request_ids" in request  # only then is "count" the merger's own
    loose = str(request.get("source_type", "")).lower().rpartition(".")[2] not in EXACT_SOURCES
    content = {}
    for name, value in request.items():
        if name in IDENTITY_FIELDS or name == left_out or (merged and name == "count"):
            continue
        if name in ENVELOPES and isinstance(value, Mapping):
            value = {key: inner for key, inner in value.items() if key not in IDENTITY_FIELDS}  # noqa: PLW2901 (the same value, without its envelope)
            if not value:
                continue
        content[_name(name)] = _canonical(value, loose and _is_loose(name), 1)
    try:
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:  # an int of more digits than Python prints
        raise InvalidValue("request", request, f"content that can be written down ({error})") from None
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _is_loose(name: object) -> bool:
    return not (isinstance(name, str) and (name in EXACT_FIELDS or name.endswith(("_id", "_ids", "_url", "_path"))))


def _name(key: object) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    raise InvalidValue("field name", key, "a string")


def _canonical(value: Any, loose: bool, depth: int) -> Any:
    """Return `value` as JSON values with one form for equal content."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return normalise(value) if loose and "://" not in value else value.strip()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if depth > _MAX_DEPTH:
        raise InvalidValue("request", "...", f"at most {_MAX_DEPTH} levels of nesting")
    if isinstance(value, Mapping):
        return {_name(key): _canonical(inner, loose and _is_loose(key), depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner, loose, depth + 1) for inner in value]
    return _canonical_object(value, loose, depth)


def _canonical_object(value: Any, loose: bool, depth: int) -> Any:
    # The NUL in front keeps these apart from a dict that a request could hold.
    if isinstance(value, Set):
        members = [_canonical(inner, loose, depth + 1) for inner in value]
        return {"\0set": sorted(members, key=lambda member: json.dumps(member, sort_keys=True))}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"\0bytes": blake2b(value, digest_size=16).hexdigest()}
    if isinstance(value, datetime | date):
        return {"\0time": value.isoformat()}
    if callable(value) and _importable(value):
        return {"\0call": f"{value.__module__}.{value.__qualname__}"}
    raise InvalidValue("request", value, "content made of JSON values, dates, bytes, sets, enums, importable functions")


def _importable(function: Callable[..., Any]) -> bool:
    """Say whether the name leads back to this very object (pickle's own rule): a closure's does not."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found is function
