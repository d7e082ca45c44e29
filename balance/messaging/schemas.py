"""The messages themselves: versioned, strict, and nothing but data.

A message is parsed from bytes by `parse_request`, `parse_response` or `parse_model_request`; whatever does not fit the
schema exactly raises `MessageRejected` with the reason and goes to the dead-letter topic.  Unknown fields are refused:
a sender that means something by them must not be half understood.

Source: the metadata follow CloudEvents 1.0 (id, time, trace) in names that say what they are here.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from balance.clock import iso
from balance.errors import InvalidValue, MessageRejected
from balance.messaging.delivery import decode_message, encode_message
from balance.messaging.enums import DataSource, DataType, OperationType, Priority, RequestSource
from balance.messaging.topics import RESULTS_PREFIX, check_topic

SCHEMA_VERSION: Literal[1] = 1
MAX_QUERY_CHARS = 16_384
#: Answers up to this size travel in the message; larger ones are left at a location.
MAX_INLINE_BYTES = 256 * 2**10


def _nonblank(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be blank")
    return value


Id = Annotated[str, Field(min_length=1, max_length=512), BeforeValidator(_nonblank)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=2**20)


class Metadata(_Message):
    """What every message says about itself.

    Attributes
    ----------
    request_id : str
        The same for a request and all its answers; handling is idempotent by it.
    correlation_id, trace_id : str
        What belongs together for the requester, and across the whole system.
    priority : int
        1 CRITICAL to 5 BACKGROUND; larger numbers are allowed and less urgent.
    created_at : datetime
        ISO 8601 with its offset.
    ttl_s : float or None
        After so many seconds nobody wants the answer any more.
    retries : int
        How often the requester has tried before.
    request_source : RequestSource
        Who asked.
    """

    request_id: Id
    correlation_id: Id
    trace_id: Id
    priority: Annotated[int, Field(ge=1, le=2**31)] = int(Priority.MEDIUM)
    created_at: AwareDatetime
    ttl_s: Annotated[float, Field(gt=0)] | None = None
    retries: Count = 0
    request_source: RequestSource = RequestSource.USER

    def is_expired(self, now_s: float) -> bool:
        """Say whether nobody wants the answer any more at POSIX time `now_s`."""
        return self.ttl_s is not None and now_s - self.created_at.timestamp() > self.ttl_s


class DataRequest(_Message):
    """A request for data, as it lies on `DATA_REQUESTS_TOPIC`.

    Attributes
    ----------
    schema_version : int
        1.
    metadata : Metadata
        Ids, priority, times.
    model_id : str
        For whom.
    operation : OperationType
        What to do.
    query : str
        What to look for, at most 16,384 characters.
    data_type, data_source :
        What kind of data, and where from.
    parameters : dict
        What the source needs: JSON values.
    response_topic : str
        Where the answer goes; always a results topic.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    metadata: Metadata
    model_id: Id
    operation: OperationType = OperationType.FETCH_DATA
    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS), BeforeValidator(_nonblank)]
    data_type: DataType
    data_source: DataSource
    parameters: dict[str, Any] = Field(default_factory=dict)
    response_topic: Annotated[str, Field(pattern=r"^balance\.results\.[A-Za-z0-9._-]{1,200}$")]

    @property
    def content(self) -> dict[str, Any]:
        """What is asked for, without who asks and when: equal contents have equal answers."""
        return {
            "operation": self.operation.value,
            "query": self.query,
            "data_type": self.data_type.value,
            "source_type": self.data_source.value,
            "parameters": self.parameters,
        }


class DataResponse(_Message):
    """The answer to a `DataRequest`, as it lies on the model's results topic.

    Attributes
    ----------
    schema_version : int
        1.
    metadata : Metadata
        The request's ids; `created_at` is when the answer was made.
    model_id : str
        For whom.
    status : str
        ``ok`` or ``error``.
    data_type, data_source, parameters :
        As in the request.
    location : str or None
        Where the data lies, if it is not in `data`.
    data : JSON or None
        The data itself, at most 256 KiB.
    size_bytes : int
        How much data it is, wherever it lies.
    digest : str or None
        Of the data, where the collector knows it.
    error, error_type : str or None
        Why there is no data: a sentence, and the error's class.
    wait_s, fetch_s : float
        Seconds from the request's `created_at` to the collector, and from there to the data.
    merged : int
        How many requests were answered by the same fetch at the time.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    metadata: Metadata
    model_id: Id
    status: Literal["ok", "error"]
    data_type: DataType
    data_source: DataSource
    parameters: dict[str, Any] = Field(default_factory=dict)
    location: str | None = None
    data: Any = None
    size_bytes: Count = 0
    digest: str | None = None
    error: str | None = None
    error_type: str | None = None
    wait_s: Seconds = 0.0
    fetch_s: Seconds = 0.0
    merged: Annotated[int, Field(ge=1)] = 1


class ModelRequest(_Message):
    """What a model puts on `MODELS_REQUESTS_TOPIC`; everything but `model_id` and `query` has a default.

    Attributes
    ----------
    model_id, query : str
        Who asks for what.
    operation, data_type, source_type, priority, request_source, parameters :
        As in `DataRequest` and `Metadata`.
    request_id, correlation_id, trace_id : str or None
        Made up where missing.
    ttl_s : float or None
        After so many seconds the answer is not wanted any more.
    response_topic : str or None
        Another results topic than the model's own.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model_id: Id
    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS), BeforeValidator(_nonblank)]
    operation: OperationType = OperationType.FETCH_DATA
    data_type: DataType = DataType.TEXT
    source_type: DataSource = DataSource.WEB
    priority: Annotated[int, Field(ge=1, le=2**31)] = int(Priority.MEDIUM)
    request_source: RequestSource = RequestSource.MODEL
    parameters: dict[str, Any] = Field(default_factory=dict)
    request_id: Id | None = None
    correlation_id: Id | None = None
    trace_id: Id | None = None
    ttl_s: Annotated[float, Field(gt=0)] | None = None
    response_topic: Annotated[str, Field(pattern=r"^balance\.results\.[A-Za-z0-9._-]{1,200}$")] | None = None


_Schema = TypeVar("_Schema", bound=_Message)


def _parse(kind: type[_Schema], raw: bytes | dict[str, Any]) -> _Schema:
    """Validate JSON bytes; a dict goes the same way, so that both are held to the same."""
    try:
        given = raw if isinstance(raw, bytes) else encode_message(raw)
        decode_message(given)  # refuses what pydantic would take: NaN, and messages that are too large
        return kind.model_validate_json(given, strict=True)
    except InvalidValue as error:
        raise MessageRejected(str(error), **error.details) from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or kind.__name__}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
        raise MessageRejected(
            f"the message is no {kind.__name__} of version {SCHEMA_VERSION}: {problems}", problems=problems
        ) from None


def parse_request(raw: bytes | dict[str, Any]) -> DataRequest:
    """Return the request in `raw`.

    Raises
    ------
    MessageRejected
        It is not JSON, or does not fit the schema; the message says where.

    Examples
    --------
    >>> parse_request(b'{"schema_version": 2}')
    Traceback (most recent call last):
    balance.errors.MessageRejected: the message is no DataRequest of version 1: schema_version: Input should be 1; ...
    """
    return _parse(DataRequest, raw)


def parse_response(raw: bytes | dict[str, Any]) -> DataResponse:
    """Return the answer in `raw`; `MessageRejected` as for `parse_request`."""
    return _parse(DataResponse, raw)


def parse_model_request(raw: bytes | dict[str, Any]) -> ModelRequest:
    """Return the model's request in `raw`; `MessageRejected` as for `parse_request`."""
    return _parse(ModelRequest, raw)


def create_data_request(
    model_id: str,
    query: str,
    data_type: DataType,
    data_source: DataSource,
    *,
    response_topic: str,
    now_s: float,
    priority: int = int(Priority.MEDIUM),
    request_source: RequestSource = RequestSource.USER,
    operation: OperationType = OperationType.FETCH_DATA,
    parameters: dict[str, Any] | None = None,
    request_id: str | None = None,
    correlation_id: str | None = None,
    trace_id: str | None = None,
    ttl_s: float | None = None,
    retries: int = 0,
) -> DataRequest:
    """Build a request; ids that are left out are made up.

    Parameters
    ----------
    model_id, query, data_type, data_source, response_topic, priority, request_source, operation, parameters, ttl_s, \
    retries :
        As in `DataRequest` and `Metadata`.
    now_s : float
        POSIX time, for `created_at`.
    request_id, correlation_id, trace_id : str, optional
        A random id; the request id; the correlation id.

    Raises
    ------
    InvalidValue
        A value does not fit; the message says which.

    Examples
    --------
    >>> request = create_data_request(
    ...     "whisper", "زبان فارسی", DataType.TEXT, DataSource.WIKI,
    ...     response_topic="balance.results.whisper-1", now_s=0.0, request_id="r-1")
    >>> request.metadata.correlation_id, parse_request(request.model_dump_json().encode()) == request
    ('r-1', True)
    """
    chosen = request_id if request_id is not None else uuid.uuid4().hex
    correlated = correlation_id if correlation_id is not None else chosen
    if not check_topic(response_topic).startswith(RESULTS_PREFIX):
        raise InvalidValue("response_topic", response_topic, f"a results topic ({RESULTS_PREFIX}...)")
    try:
        encode_message(parameters or {})  # pydantic would turn a NaN in there into null without a word
    except InvalidValue as error:
        raise InvalidValue("parameters", parameters, error.details["expected"]) from None
    try:
        return DataRequest.model_validate(
            {
                "metadata": {
                    "request_id": chosen,
                    "correlation_id": correlated,
                    "trace_id": trace_id if trace_id is not None else correlated,
                    "priority": priority,
                    "created_at": iso(now_s),
                    "ttl_s": ttl_s,
                    "retries": retries,
                    "request_source": request_source,
                },
                "model_id": model_id,
                "operation": operation,
                "query": query,
                "data_type": data_type,
                "data_source": data_source,
                "parameters": parameters or {},
                "response_topic": response_topic,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise InvalidValue(".".join(map(str, first["loc"])), first["input"], first["msg"]) from None
