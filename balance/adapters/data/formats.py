"""Rows and texts as bytes, and back: JSON lines, JSON, CSV, plain text, Parquet, or the bytes themselves.

Rows are dicts of JSON values.  CSV knows texts only: what is read from it is text, and what is no text is written as
JSON writes it.  Parquet needs pyarrow; without it the format is refused by name.
"""

from __future__ import annotations

import base64
import binascii
import csv
import importlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from balance.core.coordinator.payload import Payload
from balance.errors import ConfigurationError, InvalidValue, SourceUnavailable

ROW_FORMATS = ("jsonl", "csv", "parquet")
FORMATS = (*ROW_FORMATS, "json", "text", "bytes")
MAX_LINE_BYTES = 8 * 2**20
"""The longest line that is read: without a bound one row could take all memory."""

_BY_ENDING = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".json": "json",
    ".txt": "text",
    ".md": "text",
}
_BATCH_ROWS = 1_000


def check_format(name: str, value: object) -> str:
    """Return a format's name, else raise `InvalidValue`."""
    if not isinstance(value, str) or value not in FORMATS:
        raise InvalidValue(name, value, " or ".join(FORMATS))
    return value


def format_of(url: str, otherwise: str = "bytes") -> str:
    """Return the format that the ending of a URL or path names.

    Examples
    --------
    >>> format_of("s3://bucket/years.csv"), format_of("https://a.example/x.jsonl?y=1"), format_of("data")
    ('csv', 'jsonl', 'bytes')
    """
    path = urlsplit(url).path if "://" in url else url
    return _BY_ENDING.get(PurePosixPath(path).suffix.lower(), otherwise)


def encode(kind: str, *, rows: object = None, content: object = None) -> bytes:
    """Return rows (``jsonl``, ``csv``, ``parquet``) or a content (``json``, ``text``, ``bytes`` in Base64) as bytes.

    Raises
    ------
    InvalidValue
        The format can't hold it.

    Examples
    --------
    >>> encode("csv", rows=[{"year": 1958, "name": "Ada"}, {"year": 1959, "co2": None}])
    b'year,name,co2\\r\\n1958,Ada,\\r\\n1959,,\\r\\n'
    """
    if kind in ROW_FORMATS:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InvalidValue("rows", rows, "a list of dicts")
        texts = [Payload.of(row).data for row in rows]  # JSON values only, whatever the format
        if kind == "jsonl":
            return b"".join(text + b"\n" for text in texts)
        return _csv(rows) if kind == "csv" else _parquet(rows)
    if kind == "json":
        return Payload.of(content).data
    if not isinstance(content, str):
        raise InvalidValue("content", content, "text" if kind == "text" else "bytes in Base64")
    try:
        return content.encode() if kind == "text" else base64.b64decode(content, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidValue("content", content, f"{'Unicode' if kind == 'text' else 'Base64'} ({error})") from None


def decode(kind: str, data: bytes) -> Any:
    """Return the rows (a list of dicts), the JSON value, the text, or the bytes in Base64.

    Raises
    ------
    SourceUnavailable
        The data is not in that format; the message says where.

    Examples
    --------
    >>> decode("jsonl", b'{"a": 1}\\n\\n{"a": 2}\\n')
    [{'a': 1}, {'a': 2}]
    """
    if kind in ROW_FORMATS:
        return list(read_rows(kind, io.BytesIO(data)))
    if kind == "bytes":
        return base64.b64encode(data).decode()
    try:
        return data.decode() if kind == "text" else json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SourceUnavailable(f"the data is no {kind} ({error})") from None


def read_rows(kind: str, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Give the rows of an open file one by one, in bounded memory; the lines of a text as ``{"text": line}``.

    Raises
    ------
    SourceUnavailable
        A row is not in that format, or a line is longer than `MAX_LINE_BYTES`.
    """
    readers: dict[str, Callable[[BinaryIO], Iterator[dict[str, Any]]]] = {
        "jsonl": _read_jsonl,
        "csv": _read_csv,
        "parquet": _read_parquet,
        "text": _read_text,
    }
    if kind not in readers:
        raise InvalidValue("format", kind, " or ".join(readers))
    yield from readers[kind](file)


def _lines(file: BinaryIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise SourceUnavailable(f"line {number} is longer than the {MAX_LINE_BYTES} bytes that are read")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SourceUnavailable(f"line {number} is not UTF-8 ({error})") from None


def _read_text(file: BinaryIO) -> Iterator[dict[str, Any]]:
    for line in _lines(file):
        yield {"text": line.rstrip("\r\n")}


def _read_jsonl(file: BinaryIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise SourceUnavailable(f"line {number} is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise SourceUnavailable(f"line {number} is a JSON {type(row).__name__}; expected an object")
        yield row


def _read_csv(file: BinaryIO) -> Iterator[dict[str, Any]]:
    reader = csv.reader(_lines(file), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise SourceUnavailable(f"the header names a column twice: {', '.join(header)}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise SourceUnavailable(f"line {reader.line_num} has {len(row)} fields; the header has {len(header)}")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise SourceUnavailable(f"line {reader.line_num} is no CSV ({error})") from None


def _read_parquet(file: BinaryIO) -> Iterator[dict[str, Any]]:
    parquet, arrow = _pyarrow("pyarrow.parquet"), _pyarrow("pyarrow")
    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                # Dates, decimals and bytes have no word in JSON: they are given as text.
                yield json.loads(json.dumps(row, default=str))
    except (arrow.ArrowException, OSError) as error:
        raise SourceUnavailable(f"the data is no Parquet ({error})") from None


def _csv(rows: list[dict[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if columns:
        writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    parquet, arrow = _pyarrow("pyarrow.parquet"), _pyarrow("pyarrow")
    made = io.BytesIO()
    try:
        parquet.write_table(arrow.Table.from_pylist(list(rows)), made)
    except arrow.ArrowException as error:
        raise InvalidValue("rows", "...", f"rows whose columns have one type each ({error})") from None
    return made.getvalue()


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'balance[parquet]'") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
