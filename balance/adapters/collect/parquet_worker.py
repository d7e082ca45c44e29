"""Reads Parquet in a process of its own, within a memory limit: ``python -m balance.adapters.collect.parquet_worker``.

A few hundred bytes of Parquet can stand for gigabytes, and what its headers say of that can be a lie.  Only the system
can keep such a file from taking the memory of everybody else.

Takes a file on its standard input, and writes its rows to the standard output, one JSON object a line.
"""

from __future__ import annotations

import io
import json
import math
import resource
import sys
from typing import Any

from balance.adapters.sources import json_values

NOT_INSTALLED, TOO_LARGE, NOT_PARQUET = 3, 4, 5
_ROWS_AT_ONCE = 500


def main() -> int:
    """Do so, with the memory limit (bytes) and the most rows on the command line; return the exit status."""
    memory_bytes, limit = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 (optional)
    except ImportError:
        return NOT_INSTALLED
    try:
        file = parquet.ParquetFile(io.BytesIO(sys.stdin.buffer.read()))
        for batch in file.iter_batches(batch_size=min(limit, _ROWS_AT_ONCE), use_threads=False):
            for row in batch.to_pylist():
                line = json.dumps({name: as_json(value) for name, value in row.items()}, allow_nan=False)
                sys.stdout.write(f"{line}\n")
                limit -= 1
                if limit == 0:
                    return 0
    except MemoryError:  # also Arrow's
        return TOO_LARGE
    except (ArrowException, OSError, ValueError, TypeError) as error:
        sys.stderr.write(str(error)[:500])
        return NOT_PARQUET
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
