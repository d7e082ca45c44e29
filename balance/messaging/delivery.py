"""What happens to one message: the policy, the message as a handler sees it, and the dead letter.

At least once: a message counts as handled when its handler returned, or when it lies in the dead-letter topic.
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from balance.clock import iso
from balance.errors import BalanceError, InvalidValue, MessageRejected
from balance.messaging.broker import MAX_RECORD_BYTES, Record, Send
from balance.types import check_int, check_number

#: The largest message that is sent or handed to a handler.
MAX_MESSAGE_BYTES = 2**20
MAX_HEADERS_BYTES = 8 * 2**10
_TRACEBACK_CHARS = 8_000
#: The most that a letter holds of its original: with what is said about it, a broker takes it.
MAX_LETTER_BYTES = MAX_RECORD_BYTES - 2**16


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How a subscription hands messages to its handler.

    Attributes
    ----------
    max_attempts : int
        How often a message is tried before it is dead-lettered.
    backoff_s, backoff_max_s : float
        The wait after the first failure in seconds, doubled after each further one up to the maximum
        (0.1, 0.2, 0.4, 0.8, ...).
    handler_timeout_s : float
        A handler that takes longer is cancelled, and that counts as a failure.
    concurrency : int
        How many messages of one partition are handled at a time; 1 keeps their order.
    buffer : int
        How many messages of one partition are held in memory; a partition with a full buffer is not read.
    commit_every_s : float
        The shortest time between two commits of a partition: what a crash can make come again.
    grace_s : float
        How long running handlers may go on when the subscription is stopped.

    Examples
    --------
    >>> [DeliveryPolicy(backoff_s=1, backoff_max_s=5).wait_s(failures) for failures in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """

    max_attempts: int = 5
    backoff_s: float = 0.1
    backoff_max_s: float = 10.0
    handler_timeout_s: float = 60.0
    concurrency: int = 1
    buffer: int = 1_000
    commit_every_s: float = 0.05
    grace_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("max_attempts", "concurrency", "buffer"):
            check_int(name, getattr(self, name), minimum=1)
        for name in ("backoff_s", "backoff_max_s", "handler_timeout_s", "commit_every_s", "grace_s"):
            check_number(name, getattr(self, name), minimum=0.0, what="number of seconds")

    def wait_s(self, failures: int) -> float:
        """Return how long to wait after so many failures, in seconds."""
        return float(min(self.backoff_max_s, self.backoff_s * 2 ** min(failures - 1, 60)))


@dataclass(slots=True)
class Counters:
    """What a `KafkaService` has done since it was built; all of them only grow.

    Attributes
    ----------
    sent : int
        Messages that the broker acknowledged.
    delivered : int
        Messages whose handler returned.
    retried : int
        Attempts that failed and were followed by another.
    dead_lettered : int
        Messages that were given up.
    """

    sent: int = 0
    delivered: int = 0
    retried: int = 0
    dead_lettered: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return ``sent``, ``delivered``, ``retried`` and ``dead_lettered`` (messages)."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as its handler sees it.

    Attributes
    ----------
    topic, partition, offset :
        Where it lies; the three together identify it for ever.
    value : dict
        The message itself, parsed from JSON.
    raw : bytes
        The same as it was sent, for strict parsers.
    key : bytes or None
        What its partition was chosen by.
    headers : dict of str to str
        What travelled beside it.
    timestamp_s : float
        POSIX time at which the broker took it.
    attempt : int
        1 for the first try in this process.
    is_last_attempt : bool
        Whether a failure now sends it to the dead-letter topic.
    """

    topic: str
    partition: int
    offset: int
    value: dict[str, Any]
    raw: bytes
    key: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timestamp_s: float = 0.0
    attempt: int = 1
    is_last_attempt: bool = False


#: Handles a message; what it returns is sent with the commit, as one.
Handler = Callable[[Message], Awaitable["Sequence[Send] | None"]]


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_message(message: object, *, max_bytes: int | None = MAX_MESSAGE_BYTES) -> bytes:
    """Return `message` as JSON bytes.

    Raises
    ------
    InvalidValue
        It is not a JSON object, holds NaN or something that JSON has no word for, or is larger than `max_bytes`.

    Examples
    --------
    >>> encode_message({"model": "مدل"}).decode()
    '{"model":"مدل"}'
    """
    if not isinstance(message, dict):
        raise InvalidValue("message", message, "a dict of JSON values")
    try:
        encoded = _ENCODER.encode(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue("message", message, f"JSON values only ({error})") from None
    if max_bytes is not None and len(encoded) > max_bytes:
        raise InvalidValue("message", f"{len(encoded)} bytes", f"at most {max_bytes} bytes; send a location instead")
    return encoded


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_message(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`; nothing but JSON is ever read from a topic.

    Raises
    ------
    MessageRejected
        It is too large, not UTF-8, not JSON, or not an object.

    Examples
    --------
    >>> decode_message(b'[1, 2')
    Traceback (most recent call last):
    balance.errors.MessageRejected: the message is not JSON: Expecting ',' delimiter: line 1 column 6 (char 5)
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MessageRejected(f"the message has {len(raw)} bytes; at most {MAX_MESSAGE_BYTES} are taken")
    return decode_letter(raw)


def decode_letter(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw` whatever its size: a dead letter holds a whole message and more."""
    try:
        value = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise MessageRejected(f"the message is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MessageRejected(f"the message is a JSON {type(value).__name__}; expected an object")
    return value


def check_headers(headers: object) -> dict[str, str]:
    """Return `headers` if they are text by text and at most 8 KiB, else raise `InvalidValue`."""
    if headers is None:
        return {}
    given = headers
    if not isinstance(given, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in given.items()):
        raise InvalidValue("headers", headers, "a dict of str to str")
    size = sum(len(k.encode()) + len(v.encode()) for k, v in given.items())
    if size > MAX_HEADERS_BYTES:
        raise InvalidValue("headers", f"{size} bytes", f"at most {MAX_HEADERS_BYTES} bytes")
    return given


def check_received(record: Record) -> None:
    """Raise `MessageRejected` if a message carries more headers than may be sent: somebody else's doing."""
    size = sum(len(name.encode()) + len(text.encode("utf-8", "replace")) for name, text in record.headers.items())
    if size > MAX_HEADERS_BYTES:
        raise MessageRejected(f"the message has {size} bytes of headers; at most {MAX_HEADERS_BYTES} are taken")


def dead_letter(
    record: Record, *, topic: str, group: str, failure: BaseException, attempts: int, now_s: float
) -> dict[str, Any]:
    """Return the message that says why `record` could not be handled, with the whole original.

    Returns
    -------
    dict
        ``schema_version`` (1), ``reason`` (a sentence), ``error`` (``type``, ``message``, ``details``, ``traceback``),
        ``attempts``, ``group``, ``dead_lettered_at`` (ISO 8601) and ``original``: ``topic``, ``partition``,
        ``offset``, ``key`` and ``value`` (Base64), ``headers``,
        ``timestamp_s``.  What would make the letter larger than a broker takes is left out: then ``value`` and ``key``
        are None, ``headers`` empty, and ``left_out`` says how much it was; the original lies in its place for as long
        as its topic keeps it.
    """
    is_timeout = isinstance(failure, TimeoutError)
    said = str(failure) or type(failure).__name__
    original: dict[str, Any] = {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": None if record.key is None else base64.b64encode(record.key).decode(),
        "value": base64.b64encode(record.value).decode(),
        "headers": record.headers,
        "timestamp_s": record.timestamp_s,
    }
    size = len(encode_message(original, max_bytes=None))
    if size > MAX_LETTER_BYTES:
        original |= {"key": None, "value": None, "headers": {}, "left_out": f"{size} bytes, which no letter can hold"}
    return {
        "schema_version": 1,
        "reason": "the handler did not finish in time" if is_timeout else said[:2_000],
        "error": {
            "type": type(failure).__name__,
            "message": said[:2_000],
            "details": failure.details if isinstance(failure, BalanceError) else {},
            "traceback": "".join(traceback.format_exception(failure))[-_TRACEBACK_CHARS:],
        },
        "attempts": attempts,
        "group": group,
        "dead_lettered_at": iso(now_s),
        "original": original,
    }
