"""Reads what a stranger sent in a process of its own, within limits of memory and time that the system keeps.

Some content takes far more to read than its size says, and the libraries that read it have no limits of their own.
Only the system can keep it from taking the memory, and the time, of everybody else.

A reader is a module: it calls `limit` first, takes the content on its standard input, and writes what it found to the
standard output, one JSON value a line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

from balance.adapters.collect.wanted import MAX_BYTES
from balance.errors import AccessRefused, ConfigurationError, SourceUnavailable

MEMORY_BYTES = 2 * 2**30
"""The most that a reader may take, all of the process's code included."""

CPU_S = 15
"""The most of a processor's seconds that a reader may take."""

WAIT_S = 60.0
"""How long a reader is waited for at most."""

NOT_INSTALLED, TOO_LARGE, UNREADABLE = 3, 4, 5
"""What a reader exits with, if not 0; with the last, the standard error says why."""

_ALONE = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def limit() -> list[str]:
    """Set the limits of this process, a reader, as its command line says; return what else that says."""
    memory_bytes, cpu_s, *others = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s), int(cpu_s) + 1))  # a signal that says so, then the end
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return others


def read_apart(module: str, body: bytes, *arguments: str, form: str, shown: str, timeout_s: float) -> list[Any]:
    """Return what a reader finds in a body.

    Parameters
    ----------
    module : str
        The reader.
    body : bytes
    *arguments : str
        What `limit` returns there.
    form : str
        What the body is said to be; the name of the extra, too, that a reader may need.
    shown : str
        What the errors call the body.
    timeout_s : float
        How long it may take, if that is less than `WAIT_S`.

    Raises
    ------
    AccessRefused
        It takes more than `MEMORY_BYTES` of memory, `CPU_S`, the time, or `MAX_BYTES` as JSON.
    SourceUnavailable
        It is not what it is said to be.
    ConfigurationError
        What reads it is not installed.
    """
    wait_s = max(0.0, min(WAIT_S, timeout_s))
    with tempfile.TemporaryFile() as given:
        given.write(body)
        given.seek(0)
        with subprocess.Popen(  # noqa: S603 (our own modules; arguments, no shell)
            [sys.executable, "-m", module, str(MEMORY_BYTES), str(CPU_S), *arguments],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ALONE},
        ) as reader:
            assert reader.stdout is not None
            assert reader.stderr is not None
            late = threading.Timer(wait_s, reader.kill)
            late.start()
            try:
                found = reader.stdout.read(MAX_BYTES + 1)
                if len(found) > MAX_BYTES:
                    reader.kill()
                said = reader.stderr.read().decode("utf-8", "replace").strip()
                status = reader.wait()
            finally:
                late.cancel()
                reader.kill()
    if status == NOT_INSTALLED:
        raise ConfigurationError(f"{shown} is {form}, and what reads that is not installed (the extra {form!r})")
    if status > 0 and status != TOO_LARGE:
        raise SourceUnavailable(f"{shown} can't be read as {form} ({said[-500:]})")
    if status != 0:
        most = {
            TOO_LARGE: f"{MEMORY_BYTES} bytes of memory to read",
            -signal.SIGXCPU: f"{CPU_S} s of a processor to read",
        }.get(status, f"{wait_s:g} s to read, or {MAX_BYTES} bytes as JSON")
        raise AccessRefused(f"{shown} takes more than may be taken: {most}", limit=most)
    return [json.loads(line) for line in found.splitlines()]
