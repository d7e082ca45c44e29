"""Series from a CSV in long format: one reading a row, ``series_id,timestamp_or_index,value``.

Columns are known by their names, in any order; others are left alone.  What is wrong with single rows costs those
rows and is counted; a file that can't be read as series at all is an error.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Dict

import numpy as np

from balance.errors import BalanceError, InvalidValue, TraceError
from balance.timeseries.regular import regular
from balance.timeseries.series import LARGEST, Array
from balance.timeseries.timestamps import parse_timestamp

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "series": ("series_id", "series", "unique_id", "id"),
    "at": ("timestamp_or_index", "timestamp", "index", "time", "ds", "step"),
    "value": ("value", "y"),
}
"""Each meaning with the names that its column may have; the first that is there counts."""

#: Distances of readings that differ by up to this part of the usual one are equal steps: months are.
_ALIKE = 0.15
#: Rows of one file, at most.
MOST_ROWS = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class TableSeries:
    """One series of a file, in equal steps.

    Attributes
    ----------
    series_id : str
        As the file says.
    values : ndarray of shape (n,)
        Oldest first, NaN where a step has no reading.
    step : float
        The distance of two steps: seconds, or 1 where steps are counted.
    last : float
        When the last step was: POSIX seconds or an index.
    dated : bool
        Whether the file has times for it, not a plain count.
    duplicates, unordered, gaps, unreadable : int
        Readings of one step (their mean counts), readings older than the one before (they are sorted), steps
        without a reading, rows without a number for a moment or a value.
    """

    series_id: str
    values: Array
    step: float
    last: float
    dated: bool
    duplicates: int
    unordered: int
    gaps: int
    unreadable: int

    def warnings(self) -> Dict[str, int]:
        """Return what was wrong, by name, as counts above 0."""
        found = {name: getattr(self, name) for name in ("duplicates", "unordered", "gaps", "unreadable")}
        return {name: count for name, count in found.items() if count}


@dataclass(slots=True)
class _Rows:
    at: list[float]
    values: list[float]
    dated: bool = False
    unreadable: int = 0


def read_series(path: str | Path) -> list[TableSeries]:
    """Read a file of series, in the order in which the file names them first; gzip is understood.

    Parameters
    ----------
    path : str or Path
        A CSV with a header.  Moments are ISO 8601, POSIX seconds, or any numbers that count steps.  Values that are
        empty, no numbers, NaN or infinite are gaps.

    Raises
    ------
    TraceError
        The file can't be read, is empty, lacks a column, or has no row that can be used.

    Notes
    -----
    About 2 s for 200,000 rows.  The newest 4032 steps of a series are kept.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "series.csv"
    ...     _ = path.write_text("series_id,index,value\\na,3,7\\na,1,5\\na,1,6\\nb,1,x\\n")
    ...     a, b = read_series(path)
    >>> a.values.tolist(), a.warnings(), b.values.tolist(), b.warnings()
    ([5.5, 7.0], {'duplicates': 1, 'unordered': 1}, [nan], {'gaps': 1, 'unreadable': 1})
    """
    file = Path(path).expanduser()
    try:
        with _open(file) as lines:
            found = _collect(file, csv.reader(lines))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{str(file)!r} can't be read ({getattr(error, 'strerror', None) or error})") from None
    made = [_equal_steps(name, rows) for name, rows in found.items()]
    if not made:
        raise TraceError(f"{str(file)!r} has a header and no row below it")
    return made


def _open(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _collect(file: Path, rows: Iterator[list[str]]) -> Dict[str, _Rows]:
    header = next(rows, None)
    if not header:
        raise TraceError(f"{str(file)!r} is empty; expected series_id,timestamp_or_index,value")
    names = [cell.strip().lower() for cell in header]
    places = {}
    for meaning, known in COLUMNS.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is None:
            raise TraceError(f"{str(file)!r} has no column {' or '.join(known)}; its header is {','.join(header)!r}")
        places[meaning] = place
    found: Dict[str, _Rows] = {}
    for number, row in enumerate(rows):
        if number >= MOST_ROWS:
            raise TraceError(f"{str(file)!r} has more than {MOST_ROWS:,} rows: split it by its series")
        if any(cell.strip() for cell in row):
            _take_in(found, row, places)
    return found


def _take_in(found: Dict[str, _Rows], row: list[str], places: Mapping[str, int]) -> None:
    name, at, value = (row[places[key]].strip() if places[key] < len(row) else "" for key in ("series", "at", "value"))
    rows = found.setdefault(name, _Rows([], []))
    moment, dated = _moment(at)
    number = _number(value)
    if value and math.isnan(number) and value.lower() not in {"nan", "na", "null"}:
        rows.unreadable += 1
    if moment is None:
        rows.unreadable += 1
        return
    rows.dated |= dated
    rows.at.append(moment)
    rows.values.append(number)


def _moment(text: str) -> tuple[float | None, bool]:
    """Return the moment as a number, and whether it was written as a date."""
    number = _number(text)
    if not math.isnan(number):
        return number, False
    try:
        return parse_timestamp(text), True
    except BalanceError:
        return None, False


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and abs(number) <= LARGEST else math.nan


def _equal_steps(name: str, rows: _Rows) -> TableSeries:
    at, values = np.array(rows.at), np.array(rows.values)
    apart = np.diff(at)
    usual = float(np.median(apart)) if apart.size else 1.0
    if usual > 0 and (np.abs(apart - usual) <= _ALIKE * usual).all():
        gaps = int(np.isnan(values).sum())
        last = float(at[-1]) if at.size else 0.0
        return TableSeries(name, values, usual, last, rows.dated, 0, 0, gaps, rows.unreadable)
    try:
        made = regular(values, rows.at)
    except InvalidValue as error:
        raise TraceError(f"series {name!r} can't be put on equal steps: {error}") from None
    # The mean of a reading and a gap is a reading: `regular` does not count gaps of the values themselves.
    gaps = int(np.isnan(made.values).sum())
    return TableSeries(
        name,
        made.values,
        made.step_s,
        made.last,
        rows.dated,
        made.duplicates,
        made.unordered,
        gaps,
        rows.unreadable,
    )


def without_leading_gaps(values: Array) -> Array:
    """Return `values` from the first known one on; empty where none is.

    Examples
    --------
    >>> without_leading_gaps(np.array([np.nan, 1.0, np.nan])).tolist()
    [1.0, nan]
    """
    known = np.flatnonzero(np.isfinite(values))
    return values[known[0] :] if known.size else values[:0]
