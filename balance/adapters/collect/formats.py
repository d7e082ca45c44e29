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

from balance.adapters.collect.apart import read_apart
from balance.adapters.collect.decoding import decoded
from balance.adapters.collect.inflater import Inflater
from balance.adapters.collect.wanted import MAX_BYTES
from balance.errors import AccessRefused, SourceUnavailable

MEDIA_TYPES = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "text": "text/plain",
}
CELLS_MAX = MAX_BYTES // 8
"""How many cells a table may have: more would be too much to answer with."""

PARQUET_READER = "balance.adapters.collect.parquet_reader"

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


def records(
    body: bytes,
    form: str,
    *,
    limit: int,
    max_bytes: int,
    shown: str,
    charset: str | None = None,
    timeout_s: float = 60.0,
) -> list[Any]:
    """Return the records of a file, decompressed if it is gzip.

    Parameters
    ----------
    body : bytes
    form : str
        One of `MEDIA_TYPES`.
    limit : int
        How many records at most; the others are left out.
    max_bytes : int
        The most that may come out of gzip.
    shown : str
        What the errors call the file.
    charset : str, optional
        Of text.
    timeout_s : float
        For reading Parquet.

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
            return read_apart(PARQUET_READER, body, str(limit), form=form, shown=shown, timeout_s=timeout_s)
        return list(itertools.islice(_text_records(decoded(body, charset), form, shown), limit))
    except (ValueError, RecursionError, csv.Error) as error:
        if isinstance(error, AccessRefused):
            raise
        raise SourceUnavailable(f"{shown} can't be read as {form} ({error})") from None


def _text_records(text: str, form: str, shown: str) -> Iterator[Any]:
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
        cells = 0
        for row in csv.DictReader(lines, delimiter="\t" if form == "tsv" else ",", restkey="_more", restval=""):
            cells += len(row)  # those that were filled in, too: a long header makes a lot of a short line
            if cells > CELLS_MAX:
                raise AccessRefused(f"{shown} has more than {CELLS_MAX} cells", max_cells=CELLS_MAX)
            yield row
