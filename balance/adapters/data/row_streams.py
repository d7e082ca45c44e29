"""Rows one by one: from a file anywhere, from rows in memory, from a topic."""

from __future__ import annotations

import inspect
import io
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Dict, Generator

from balance.adapters.data.formats import format_of, read_rows
from balance.adapters.sources.files import FileSource
from balance.adapters.sources.http import HttpSource
from balance.adapters.sources.paths import PathPolicy
from balance.config import Settings
from balance.defaults import default
from balance.errors import BalanceError, Conflict, InvalidValue, NotYet, SourceUnavailable
from balance.interfaces.data import StreamHandler
from balance.messaging.topics import check_topic
from balance.types import check_id, check_int, check_number

if TYPE_CHECKING:
    from balance.adapters.external.kafka_messages import KafkaMessages
    from balance.clock import Clock

MAX_OPEN = 64
HTTP_BYTES = 64 * 2**20
"""The largest body of a web page whose rows are streamed: it is read whole, within its limits, before the first."""

STREAMED = ("jsonl", "csv", "text", "parquet")
_QUERY = frozenset({"source", "format", "rows", "topic", "idle_s", "limit"})
_LOOK_S = 0.2


class RowStreams(StreamHandler):
    """Opens streams and ends them all at once; usable from several threads.

    A stream holds one row and what it reads from, and lets go of both when it ends, is closed, or is dropped.

    Parameters
    ----------
    trusted : bool, default True
        Whether any file may be read; else what the settings allow.
    settings : Settings, optional
        ``allow_private_urls`` and ``allow_file_roots`` count here; of the environment where left out.
    messages : KafkaMessages, optional
        Where topics are read.
    clock : Clock, optional

    Examples
    --------
    >>> import fsspec
    >>> with fsspec.open("memory://streams-doc/a.csv", "wb") as file:
    ...     _ = file.write(b"year,co2\\n1958,316.1\\n1959,317.2\\n")
    >>> streams = RowStreams()
    >>> stream = streams.open_stream({"source": "memory://streams-doc/a.csv"})
    >>> next(stream)
    {'year': '1958', 'co2': '316.1'}
    >>> streams.close_stream()
    >>> list(stream)
    []
    """

    def __init__(
        self,
        *,
        trusted: bool = True,
        settings: Settings | None = None,
        messages: KafkaMessages | None = None,
        clock: Clock | None = None,
    ) -> None:
        known = settings or Settings.from_env()
        self._files = FileSource(
            paths=PathPolicy(trusted=trusted, roots=known.allow_file_roots.split(":")), trusted=trusted
        )
        self._clock: Clock = clock or default("clock")
        self._web = HttpSource(clock=self._clock, allow_private=known.allow_private_urls, timeout_s=60.0)
        self._messages = messages
        self._lock = threading.Lock()
        self._streams: weakref.WeakKeyDictionary[Generator[dict[str, Any], None, None], threading.Event] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def open_streams(self) -> int:
        """How many streams are open now."""
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return sum(inspect.getgeneratorstate(stream) != inspect.GEN_CLOSED for stream in list(self._streams))

    def open_stream(self, query_params: Dict[str, Any]) -> Generator[Dict[str, Any], None, None]:
        """Open a stream of rows.

        Parameters
        ----------
        query_params : dict
            One of ``source`` (a path, or any fsspec or http(s) URL), ``rows`` (an iterable of dicts) and ``topic``.
            Optional: ``format`` (``jsonl``, ``csv``, ``parquet``, or ``text``: ``{"text": line}``; else the source's
            ending says it), ``idle_s`` (a topic's stream ends when no message came for so long; 5 by default),
            ``limit`` (rows).

        Returns
        -------
        generator of dict
            It raises `SourceUnavailable` at a row that is not in the format.  A stream that was closed ends like one
            that came to its end.

        Raises
        ------
        InvalidValue, AccessRefused
            The parameters make no sense, or the source may not be read.
        SourceUnavailable
            The source is not there.
        Conflict
            `MAX_OPEN` streams are open; close some first.
        """
        rows, limit = self._source(query_params)
        ended = threading.Event()
        stream = self._rows(rows, ended, limit)
        with self._lock:
            if self._count() >= MAX_OPEN:
                raise Conflict(f"{MAX_OPEN} streams are open already; close some first")
            self._streams[stream] = ended
        return stream

    def close_stream(self) -> None:
        """End every stream; one that is just giving a row to another thread ends after it."""
        with self._lock:
            streams = list(self._streams.items())
        for stream, ended in streams:
            ended.set()
            try:
                stream.close()
            except ValueError:  # another thread is inside: it sees that the stream has ended
                continue

    def _rows(
        self, rows: Callable[[threading.Event], Iterable[Any]], ended: threading.Event, limit: int | None
    ) -> Generator[dict[str, Any], None, None]:
        source = rows(ended)
        try:
            for number, row in enumerate(itertools.islice(source, limit), 1):
                if not isinstance(row, dict):
                    raise SourceUnavailable(f"row {number} is a {type(row).__name__}; expected a dict")
                if ended.is_set():
                    return
                yield row
                if ended.is_set():
                    return
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def _source(self, query: object) -> tuple[Callable[[threading.Event], Iterable[Any]], int | None]:
        """Check the parameters and return what opens the rows."""
        if not isinstance(query, dict) or not query.keys() <= _QUERY:
            raise InvalidValue("query_params", query, f"a dict with keys out of {', '.join(sorted(_QUERY))}")
        limit = None if query.get("limit") is None else check_int("limit", query["limit"], minimum=0)
        if len(query.keys() & {"source", "rows", "topic"}) != 1:
            raise InvalidValue("query_params", query, "one of source, rows and topic")
        if "rows" in query:
            given = query["rows"]
            if not isinstance(given, Iterable) or isinstance(given, str | bytes | dict):
                raise InvalidValue("rows", given, "an iterable of dicts")
            return lambda _ended: iter(given), limit
        if "topic" in query:
            topic, idle_s = check_topic(query["topic"]), check_number("idle_s", query.get("idle_s", 5.0), minimum=0)
            if self._messages is None:
                raise InvalidValue("topic", topic, "a source or rows: no messages were given to this object")
            messages = self._messages
            return lambda ended: self._messages_of(messages, topic, idle_s, ended), limit
        source = check_id("source", query["source"])
        kind = query.get("format") or format_of(source, "text")
        if kind not in STREAMED:
            raise InvalidValue("format", kind, " or ".join(STREAMED))
        return self._file(source, kind), limit

    def _file(self, source: str, kind: str) -> Callable[[threading.Event], Iterator[dict[str, Any]]]:
        if source.partition(":")[0].lower() in ("http", "https"):
            self._web.check(source)
            return lambda _ended: read_rows(kind, io.BytesIO(self._web.read(source, HTTP_BYTES)))
        fs, path = self._files.locate(source)
        with _reading(source):
            is_there = fs.isfile(path)
        if not is_there:
            raise SourceUnavailable(f"{source} is no file that is there", source=source)
        return lambda _ended: _read(fs, path, source, kind)

    def _messages_of(
        self, messages: KafkaMessages, topic: str, idle_s: float, ended: threading.Event
    ) -> Iterator[dict[str, Any]]:
        until = self._clock.now() + idle_s
        while not ended.is_set():
            try:  # in short waits, so that a stream that is closed meanwhile ends soon
                row = messages.consume(topic, timeout_s=max(0.0, min(_LOOK_S, until - self._clock.now()))).value
            except NotYet:
                if self._clock.now() >= until:
                    return
                continue
            yield row
            until = self._clock.now() + idle_s


def _read(fs: Any, path: str, source: str, kind: str) -> Iterator[dict[str, Any]]:
    with _reading(source), fs.open(path, "rb") as file:
        yield from read_rows(kind, file)


@contextmanager
def _reading(source: str) -> Iterator[None]:
    try:
        yield
    except BalanceError:
        raise
    except Exception as error:  # each fsspec implementation raises its own kinds
        said = f"{type(error).__name__}: {error}"
        raise SourceUnavailable(f"{source} can't be read ({said})", source=source) from error
