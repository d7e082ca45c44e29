"""The formats of `balance.adapters.traces`: each reads one line into a row or says what is wrong with it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Protocol

_TIME_COLUMNS = frozenset(
    ("timestamp", "time", "datetime", "date", "ts", "t", "t_s", "gmt_create", "arrival_time", "arrived_at", "at")
) | frozenset(("created_at", "start_time", "start", "unix_time", "epoch", "minute", "period"))
_COUNT_COLUMNS = frozenset(("requests", "request_count", "count", "counts", "invocations", "hits", "n", "value"))
_MODEL_COLUMNS = frozenset(("model", "model_id", "model_name", "app", "function", "endpoint", "path", "predict_type"))

# %h %l %u %t "%r" %>s %b, with the Combined format's referer and agent after it; quotes inside are escaped.
_ACCESS = re.compile(
    r'^(?P<host>\S+) \S+ (?:\S+|".*?") \[(?P<day>\d{2})/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):'
    r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2}) (?P<sign>[+-])(?P<zone_h>\d{2})(?P<zone_m>\d{2})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}|-) (?P<bytes>\d+|-)'
)
# Written out: the calendar module's names follow the locale, the log's do not.
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: n for n, name in enumerate(_NAMES, 1)}


@dataclass(frozen=True, slots=True)
class Row:
    """One usable line: seconds on the trace's own clock, and what came then."""

    at: float
    count: int = 1
    sizes: dict[str, float] = field(default_factory=dict)
    model_hint: str | None = None
    counted: bool = False


class TraceFormat(Protocol):
    """How a line of a file is read.

    Attributes
    ----------
    name : str
        For people.
    header_line : int
        The number of the line that holds the header; 0 for none.
    span_s : float
        The length of a counted interval.
    """

    name: str
    header_line: int
    span_s: float

    def read(self, line: str) -> Row:
        """Return the row; `ValueError` says what is wrong with the line."""
        ...


class AccessLog:
    """Common and Combined Log Format (Apache HTTP Server's ``mod_log_config``).

    Examples
    --------
    >>> line = '::1 - ann [10/Oct/2000:13:55:36 -0700] "GET /a.gif?x=1 HTTP/1.0" 200 2326'
    >>> row = AccessLog().read(line)
    >>> row.at, row.sizes, row.model_hint
    (971211336.0, {'bytes': 2326.0}, '/a.gif')
    """

    name = "access_log"
    header_line = 0
    span_s = 0.0

    def read(self, line: str) -> Row:
        """Return the row; `ValueError` for a line that is not in the format."""
        found = _ACCESS.match(line)
        if found is None or found["month"] not in _MONTHS:
            raise ValueError("not a line of the Common Log Format")
        zone = timedelta(hours=int(found["zone_h"]), minutes=int(found["zone_m"]))
        at = datetime(
            int(found["year"]),
            _MONTHS[found["month"]],
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            int(found["second"]),
            tzinfo=timezone(zone if found["sign"] == "+" else -zone),
        )
        words = found["request"].split(" ")
        path = words[1].partition("?")[0] if len(words) >= 2 else None
        sizes = {} if found["bytes"] == "-" else {"bytes": float(found["bytes"])}
        return Row(at.timestamp(), 1, sizes, path)


class Table:
    """Comma-separated columns, one of which is a time.

    Parameters
    ----------
    header : sequence of str
        The columns' names.
    time, count, model : int
        Which column is what; -1 for none.
    sizes : sequence of int
        The columns that are numbers.
    header_line : int
        Where the header is; 0 for none.
    """

    def __init__(
        self, header: Sequence[str], *, time: int, count: int, model: int, sizes: Sequence[int], header_line: int
    ) -> None:
        self.name = "counts" if count >= 0 else "csv" if len(header) > 1 else "timestamps"
        self.header_line = header_line
        self.span_s = 0.0
        self._header = list(header)
        self._time, self._count, self._model = time, count, model
        self._sizes = list(sizes)

    def read(self, line: str) -> Row:
        """Return the row; `ValueError` names the column and what it holds."""
        cells = _cells(line)
        if len(cells) != len(self._header):
            columns = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            raise ValueError(f"{columns}; the header has {len(self._header)}")
        at = seconds(cells[self._time])
        if at is None:
            raise ValueError(f"{self._header[self._time]} is {cells[self._time]!r}; expected a time")
        count = 1
        if self._count >= 0:
            number = self._number(cells, self._count)
            if number is None or number != int(number):
                raise ValueError(f"{self._header[self._count]} is {cells[self._count]!r}; expected a whole number")
            count = int(number)
        sizes = {
            self._header[column]: number
            for column in self._sizes
            if (number := self._number(cells, column)) is not None
        }
        model = cells[self._model] or None if self._model >= 0 else None
        return Row(at, count, sizes, model, counted=self._count >= 0)

    def _number(self, cells: Sequence[str], column: int) -> float | None:
        """Return the cell as a number of 0 or more, None where it is empty."""
        text = cells[column]
        if not text:
            return None
        number = _float(text)
        if number is None or number < 0:
            raise ValueError(f"{self._header[column]} is {text!r}; expected a number of 0 or more")
        return number


def sniff(head: Sequence[tuple[int, str]]) -> TraceFormat | None:
    """Return the format that reads the first lines of a file, given as (number, line); None if none does.

    Examples
    --------
    >>> found = sniff([(1, "timestamp,requests"), (2, "2024-01-01 00:00:00,7"), (3, "2024-01-01 00:01:00,9")])
    >>> found.name, found.span_s
    ('counts', 60.0)
    """
    for number, line in head:
        if _ACCESS.match(line):
            return AccessLog()
        table = _table(number, line, head)
        if table is not None:
            return table
    return None


def seconds(text: str) -> float | None:
    """Return a time as seconds: ISO 8601 (UTC where no zone is named), or a number of seconds, ms, µs or ns.

    The unit of a number follows from its size: as POSIX time it must not lie beyond the year 5138.

    Examples
    --------
    >>> seconds("2023-11-16 18:17:03.9799600"), seconds("1700158623979"), seconds("12.5"), seconds("noon")
    (1700158623.97996, 1700158623.979, 12.5, None)
    """
    number = _float(text)
    if number is not None:
        if number < 0:
            return None
        for scale in (1.0, 1e3, 1e6, 1e9):
            if number < 1e11 * scale:
                return number / scale
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _table(number: int, line: str, head: Sequence[tuple[int, str]]) -> Table | None:
    """Return the table whose header is `line`, or whose first row it is, if a later line (or it) can be read."""
    cells = _cells(line)
    if not cells or "\0" in line:
        return None
    bare = next((column for column, text in enumerate(cells) if seconds(text) is not None), None)
    if bare is not None:
        if len(cells) > 1 and number != head[0][0]:
            return None  # a number somewhere below does not make a table of what came before
        header = ["timestamp" if column == bare else f"column_{column + 1}" for column in range(len(cells))]
        return _typed(header, cells, bare, 0, [line])
    for _, row in head:
        values = _cells(row)
        if row is line or len(values) != len(cells):
            continue
        named = (column for column, name in enumerate(cells) if name.lower() in _TIME_COLUMNS)
        for column in (*named, *range(len(cells))):
            # A time written out, or a number in a column that says it is a time.
            if seconds(values[column]) is not None and (
                cells[column].lower() in _TIME_COLUMNS or _float(values[column]) is None
            ):
                return _typed(cells, values, column, number, [text for _, text in head])
    return None


def _typed(header: list[str], values: Sequence[str], time: int, header_line: int, lines: Sequence[str]) -> Table:
    """Return the table with each column's meaning found out from its name and its first value."""
    names = [name.lower() for name in header]
    others = [column for column in range(len(header)) if column != time]
    numbers = [column for column in others if _float(values[column]) is not None]
    counts = [column for column in numbers if names[column] in _COUNT_COLUMNS] if len(others) <= 2 else []
    models = [column for column in others if names[column] in _MODEL_COLUMNS]
    count, model = (counts or [-1])[0], (models or [-1])[0]
    sizes = [column for column in numbers if column not in (count, model)]
    table = Table(header, time=time, count=count, model=model, sizes=sizes, header_line=header_line)
    if count >= 0:
        table.span_s = _interval(table, lines)
    return table


def _interval(table: Table, lines: Sequence[str]) -> float:
    """Return the shortest step between the times of the first lines: the interval that counts are for."""
    times = []
    for line in lines[:1000]:
        try:
            times.append(table.read(line).at)
        except ValueError:
            continue
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return min(steps, default=0.0)


def _cells(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]), [])]
    except csv.Error:
        return []


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
