"""The rows of a Parquet file that a stranger sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any

from balance.adapters.collect.parquet_worker import NOT_INSTALLED, TOO_LARGE
from balance.adapters.collect.wanted import MAX_BYTES
from balance.errors import AccessRefused, ConfigurationError, SourceUnavailable

MEMORY_BYTES = 2 * 2**30
"""The most that reading a file may take, all of the process's code included."""

_ALONE = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def parquet_rows(body: bytes, *, limit: int, shown: str, timeout_s: float) -> list[dict[str, Any]]:
    """Return the rows, read in a process of its own.

    Raises
    ------
    AccessRefused
        They take more than `MEMORY_BYTES` of memory, `timeout_s`, or `MAX_BYTES` as JSON.
    SourceUnavailable
        It is no Parquet.
    ConfigurationError
        pyarrow is not installed.
    """
    with tempfile.TemporaryFile() as given:
        given.write(body)
        given.seek(0)
        with subprocess.Popen(  # noqa: S603 (our own module, two numbers)
            [sys.executable, "-m", "balance.adapters.collect.parquet_worker", str(MEMORY_BYTES), str(limit)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ALONE},
        ) as worker:
            assert worker.stdout is not None
            assert worker.stderr is not None
            late = threading.Timer(max(0.0, timeout_s), worker.kill)
            late.start()
            try:
                found = worker.stdout.read(MAX_BYTES + 1)
                if len(found) > MAX_BYTES:
                    worker.kill()
                said = worker.stderr.read().decode("utf-8", "replace").strip()
                status = worker.wait()
            finally:
                late.cancel()
                worker.kill()
    if status == NOT_INSTALLED:
        raise ConfigurationError(f"{shown} is parquet: install pyarrow to read it (the extra 'parquet')")
    if status > 0 and status != TOO_LARGE:
        raise SourceUnavailable(f"{shown} can't be read as parquet ({said[-500:]})")
    if status != 0:  # or the system ended it
        raise AccessRefused(
            f"{shown} holds more than may be read: {MEMORY_BYTES} bytes of memory, {timeout_s:g} s, {MAX_BYTES} bytes "
            "as JSON",
            max_bytes=MAX_BYTES,
        )
    return [json.loads(line) for line in found.splitlines()]
