"""Records from the bytes of a file: csv, tsv, json, json lines, parquet, text."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from balance.adapters.collect.decoding import decoded
from balance.adapters.collect.inflater import Inflater
from balance.errors import AccessRefused, ConfigurationError, SourceUnavailable

MEDIA_TYPES = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "text": "text/plain",
}
_ENDINGS = {"ndjson": "jsonl", "pq": "parquet"}
_GZIP = b"\x1f\x8b"


def format_of(address: str) -> str:
    """Return the format that the end of an address stands for; ``text`` where it stands for none.

    Examples
    --------
    >>> [format_of(a) for a in ("s3://b/a.csv", "/a/b.jsonl.gz", "https://example.org/a.parquet?v=1", "README")]
    ['csv', 'jsonl', 'parquet', 'text']
    """
    path = PurePosixPath(urlsplit(address).path.lower().removesuffix(".gz"))
    ending = path.suffix.removeprefix(".")
    found = _ENDINGS.get(ending, ending)
    return found if found in MEDIA_TYPES else "text"


def records(body: bytes, form: str, *, limit: int, max_bytes: int, shown: str, charset: str | None = None) -> list[Any]:
    """Return the records of a file, decompressed if it is gzip.

    Parameters
    ----------
    body : bytes
    form : str
        One of `MEDIA_TYPES`.
    limit : int
        How many records at most; the others are left out.
    max_bytes : int
        The most that may come out of what is compressed.
    shown : str
        What the errors call the file.
    charset : str, optional
        Of text.

    Raises
    ------
    AccessRefused
        It holds too much.
    SourceUnavailable
        It is not what it is said to be.
    ConfigurationError
        It is parquet, and pyarrow is not installed.

    Examples
    --------
    >>> records(b"a,b\\n1,2\\n3,4\\n", "csv", limit=1, max_bytes=100, shown="a.csv")
    [{'a': '1', 'b': '2'}]
    """
    if body.startswith(_GZIP):
        inflater = Inflater("gzip", max_bytes, shown)
        body = inflater.add(body)
        inflater.end()
    try:
        if form == "parquet":
            return _parquet(body, limit, max_bytes, shown)
        return list(itertools.islice(_text_records(decoded(body, charset), form), limit))
    except (ValueError, RecursionError, csv.Error) as error:
        if isinstance(error, AccessRefused):
            raise
        raise SourceUnavailable(f"{shown} can't be read as {form} ({error})") from None


def _text_records(text: str, form: str) -> Iterator[Any]:
    if form == "text":
        yield {"text": text}
    elif form == "json":
        found = json.loads(text)
        yield from found if isinstance(found, list) else [found]
    elif form == "jsonl":
        yield from (json.loads(line) for line in text.splitlines() if line.strip())
    else:
        # What is beyond the header's columns has a column of its own, what is missing is empty: JSON has no None key.
        lines = io.StringIO(text, newline="")
        yield from csv.DictReader(lines, delimiter="\t" if form == "tsv" else ",", restkey="_more", restval="")


def _parquet(body: bytes, limit: int, max_bytes: int, shown: str) -> list[Any]:
    try:
        from pyarrow import parquet  # noqa: PLC0415 (optional, and slow to import)
    except ImportError:
        raise ConfigurationError(f"{shown} is parquet: install pyarrow to read it") from None
    file = parquet.ParquetFile(io.BytesIO(body))
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    size_bytes = sum(group.total_byte_size for group in groups)
    if size_bytes > max_bytes:
        raise AccessRefused(f"{shown} has more than the {max_bytes} bytes that may be read", max_bytes=max_bytes)
    rows: list[Any] = []
    for batch in file.iter_batches(batch_size=min(limit, 10_000)):
        rows += batch.to_pylist()
        if len(rows) >= limit:
            break
    return [{name: _as_json(value) for name, value in row.items()} for row in rows[:limit]]


def _as_json(value: Any) -> Any:
    from balance.adapters.sources.sql import as_json  # noqa: PLC0415 (who reads no parquet does not need SQLAlchemy)

    if isinstance(value, dict):
        return {str(name): _as_json(inner) for name, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, list) else as_json(value)
