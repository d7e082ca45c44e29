"""Reads the rows of a Parquet file, in its own process: ``python -m balance.adapters.collect.parquet_reader``.

A few hundred bytes of Parquet can stand for gigabytes, and what its headers say of that can be a lie.
"""

from __future__ import annotations

import io
import json
import math
import sys
from typing import Any

from balance.adapters.collect.apart import NOT_INSTALLED, TOO_LARGE, UNREADABLE, limit
from balance.adapters.sources import json_values

_ROWS_AT_ONCE = 500


def main() -> int:
    """Do so, with the limits and the most rows on the command line; return the exit status."""
    left = int(*limit())
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 (optional)
    except ImportError:
        return NOT_INSTALLED
    try:
        file = parquet.ParquetFile(io.BytesIO(sys.stdin.buffer.read()))
        for batch in file.iter_batches(batch_size=min(left, _ROWS_AT_ONCE), use_threads=False):
            for row in batch.to_pylist():
                line = json.dumps({name: as_json(value) for name, value in row.items()}, allow_nan=False)
                sys.stdout.write(f"{line}\n")
                left -= 1
                if left == 0:
                    return 0
    except MemoryError:  # also Arrow's
        return TOO_LARGE
    except (ArrowException, OSError, ValueError, TypeError) as error:
        sys.stderr.write(str(error)[:500])
        return UNREADABLE
    return 0


def as_json(value: Any) -> Any:
    """Return a value of Arrow as JSON has it; a number that is none is null.

    Examples
    --------
    >>> as_json({"a": [1.5, float("nan")], "b": b"x"})
    {'a': [1.5, None], 'b': 'eA=='}
    """
    if isinstance(value, dict):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json_values.as_json(value)


if __name__ == "__main__":
    sys.exit(main())
