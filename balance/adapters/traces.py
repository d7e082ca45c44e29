"""Real traffic from a file: what came when, read line by line with the format found out.

Formats: CSV with a header (a time column, optional size, count and model columns), among them the Azure
LLM inference traces (``TIMESTAMP,ContextTokens,GeneratedTokens``) and counts per minute
(``timestamp,requests``); bare timestamps; and access logs in the Common or Combined Log Format.
A name that ends in ``.gz`` is read through gzip.  The file is streamed: memory does not grow with it.
"""

from __future__ import annotations

import gzip
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from balance.adapters.trace_formats import Row, TraceFormat, sniff
from balance.errors import TraceError
from balance.types import check_int

#: No sane line is longer; what is longer is malformed, and is not held in memory.
_MAX_LINE = 64 * 1024
#: How many lines may precede the first usable one.
_MAX_PREAMBLE = 100_000
#: Logs are written when a request ends, so their order is off a little: so many rows are put in order.
_REORDER = 4096


@dataclass(frozen=True, slots=True)
class Arrival:
    """Requests that arrived at a moment, or evenly over a span.

    Attributes
    ----------
    t_s : float
        Seconds since the first arrival of the trace; never decreasing.
    count : int
        How many requests.
    sizes : dict of str to float
        Sizes by column (``ContextTokens``, ``bytes``), as far as the trace has them.
    model_hint : str or None
        What was asked: the model column's value, or the path of an access log.
    span_s : float
        0 for a moment; for counts per minute the length of the interval that begins at `t_s`.
    """

    t_s: float
    count: int = 1
    sizes: dict[str, float] = field(default_factory=dict)
    model_hint: str | None = None
    span_s: float = 0.0


class Trace:
    """The arrivals of a file, in order; iterating again reads it again.

    Attributes
    ----------
    path : Path
        The file.
    format : str
        ``csv``, ``counts``, ``timestamps`` or ``access_log``.
    usable, skipped : int
        Lines read and lines left out so far, by the last iteration.
    errors : list of tuple of (int, str)
        Line number and reason of the first five that were left out.
    """

    def __init__(self, path: Path, trace_format: TraceFormat, *, strict: bool, limit: int | None) -> None:
        self.path = path
        self.format = trace_format.name
        self.usable = 0
        self.skipped = 0
        self.errors: list[tuple[int, str]] = []
        self._format = trace_format
        self._strict = strict
        self._limit = limit

    def __iter__(self) -> Iterator[Arrival]:
        """Yield the arrivals; `TraceError` with the line number for a malformed line if `strict`."""
        start: float | None = None
        latest = 0.0
        left = self._limit
        for row in self._ordered():
            if left is not None and left <= 0:
                return
            count = row.count if left is None else min(row.count, left)
            left = None if left is None else left - count
            start = row.at if start is None else start
            latest = max(latest, row.at - start)
            if count:
                yield Arrival(latest, count, row.sizes, row.model_hint, self._format.span_s if row.counted else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return ``path``, ``format``, ``usable``, ``skipped`` (lines) and ``errors`` (``line``, ``reason``)."""
        return {
            "path": str(self.path),
            "format": self.format,
            "usable": self.usable,
            "skipped": self.skipped,
            "errors": [{"line": line, "reason": reason} for line, reason in self.errors],
        }

    def _ordered(self) -> Iterator[Row]:
        """Yield the rows by time, as far as a bounded buffer can put them in order."""
        buffer: list[tuple[float, int, Row]] = []
        for number, row in enumerate(self._rows()):
            if len(buffer) < _REORDER:
                heapq.heappush(buffer, (row.at, number, row))
            else:
                yield heapq.heappushpop(buffer, (row.at, number, row))[2]
        while buffer:
            yield heapq.heappop(buffer)[2]

    def _rows(self) -> Iterator[Row]:
        self.usable, self.skipped, self.errors = 0, 0, []
        for number, line in _lines(self.path):
            if number <= self._format.header_line or not line.strip():
                continue
            try:
                row = self._format.read(line)
            except ValueError as error:
                if self._strict:
                    raise TraceError(
                        f"line {number} of {str(self.path)!r} can't be read: {error}; without strict it is skipped",
                        path=str(self.path),
                        line=number,
                    ) from None
                self.skipped += 1
                if len(self.errors) < 5:
                    self.errors.append((number, str(error)))
                continue
            self.usable += 1
            yield row


def read_trace(path: str | Path, *, strict: bool = False, limit: int | None = None) -> Trace:
    """Find out the format of a trace file and return its arrivals, to be iterated.

    Parameters
    ----------
    path : str or Path
        The file.
    strict : bool, default False
        Whether a malformed line is an error instead of being skipped and counted.
    limit : int, optional
        At most so many requests (counts are cut to it).

    Returns
    -------
    Trace
        Iterable of `Arrival`.  Only the first lines have been read.

    Raises
    ------
    TraceError
        If the file can't be read, has no usable line, or (`strict`, also while iterating) has a malformed one.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "trace.csv"
    ...     _ = path.write_text("TIMESTAMP,Tokens\\n2024-01-01 00:00:00,10\\nnonsense\\n2024-01-01 00:00:01.5,20\\n")
    ...     trace = read_trace(path)
    ...     [(arrival.t_s, arrival.sizes) for arrival in trace], trace.errors
    ([(0.0, {'Tokens': 10.0}), (1.5, {'Tokens': 20.0})], [(3, '1 column; the header has 2')])
    """
    path = Path(path)
    if limit is not None:
        check_int("limit", limit, minimum=1)
    head = [(number, line) for number, line in islice(_lines(path), _MAX_PREAMBLE) if line.strip()]
    found = sniff(head)
    if found is None:
        shown = f"the first line is {head[0][1][:80]!r}" if head else "it is empty"
        raise TraceError(
            f"no line of {str(path)!r} is usable as a trace ({shown}); expected a CSV with a header and a time column, "
            "or an access log in the Common Log Format",
            path=str(path),
        )
    return Trace(path, found, strict=strict, limit=limit)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with _opened(path) as file:
            number = 0
            while line := file.readline(_MAX_LINE):
                number += 1
                ended = line.endswith("\n")
                while not ended and (rest := file.readline(_MAX_LINE)):
                    ended = rest.endswith("\n")  # the rest of an endless line is dropped
                yield number, line
    except (OSError, EOFError) as error:
        raise TraceError(
            f"{str(path)!r} can't be read ({getattr(error, 'strerror', None) or error})", path=str(path)
        ) from None


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace")
    return path.open(encoding="utf-8-sig", errors="replace")
