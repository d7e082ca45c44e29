"""Signals, processes and streams: a command that is interrupted ends every process that it started.

Ray starts a dozen processes beneath the one that calls ``ray.init``.  They are ended by asking Ray; this
module sees to those that Ray forgets, and to the moments in which Ray can't be asked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)

INTERRUPTED = 130
"""The exit code of a command that was interrupted."""

_TERMINAL_AS_IT_WAS = b"\r\x1b[2K\x1b[?25h"
"""Clears the line of a spinner and shows the cursor."""

_stderr = 2
"""Where standard error really goes, while descriptor 2 goes nowhere."""

KILL_TIMEOUT_S = 10.0
"""How long a process may take to be gone that was killed."""

LOOK_EVERY_S = 0.02

Gone = psutil.Error
"""What looking at a process raises that has ended, or is another user's."""


def die_on_signals(*cleanups: Callable[[], object]) -> None:
    """Let the first Ctrl-C or SIGTERM end every process beneath this one, call `cleanups`, and end this one with 130.

    `KeyboardInterrupt` would not do: it surfaces wherever the interpreter happens to be, which may be a callback
    that swallows it, or the middle of ``ray.init``, after which the interpreter crashes at its end (of sixteen
    interrupts at moments spread over a run one was lost and two ended in a segmentation fault).
    """

    def die(*_: object) -> None:
        ignore_signals()
        end_descendants()
        for cleanup in cleanups:
            with contextlib.suppress(Exception):
                cleanup()
        if sys.stdout.isatty():
            os.write(1, _TERMINAL_AS_IT_WAS)
        os.write(_stderr, b"interrupted\n")
        os._exit(INTERRUPTED)

    for number in SIGNALS:
        signal.signal(number, die)


def raise_on_signals() -> None:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt`: for a stretch of code that knows what to do then."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def same_signals() -> Iterator[None]:
    """Keep our handlers where Ray puts its own in place: it makes `SystemExit` of SIGTERM."""
    kept = {number: signal.getsignal(number) for number in SIGNALS}
    told = False
    try:
        yield
    except SystemExit:
        told = True
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    if told:
        signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt


def ignore_signals() -> None:
    """Let nothing interrupt what is left to do: to be called first by whoever cleans up for good."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def descendants() -> list[psutil.Process]:
    """Return every process that this one has started, and theirs."""
    return psutil.Process().children(recursive=True)


def same_process(pid: int, created: float) -> psutil.Process | None:
    """Return the process of this pid that was created then; None if it is gone and the pid is another's."""
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(pid)
        if abs(found.create_time() - created) < 1.0 and _runs(found):
            return found
    return None


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill these processes, those that are left of them, and wait until they are gone."""
    left = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()  # psutil checks that the pid was not given to another process meanwhile
            left.append(process)
    wait(left, timeout_s=KILL_TIMEOUT_S)


def end_descendants() -> None:
    """Kill every process beneath this one; they are stopped first, for one that runs may start another meanwhile."""
    found: dict[int, psutil.Process] = {}
    while new := [process for process in descendants() if process.pid not in found]:
        for process in new:
            found[process.pid] = process
            with contextlib.suppress(psutil.Error):
                process.suspend()
    end(found.values())


def wait(processes: Iterable[psutil.Process], *, timeout_s: float) -> bool:
    """Wait until all of these have ended, at most `timeout_s` seconds; return whether they have.

    One that has ended counts as gone even if nobody has asked yet how: in a container there may be nobody.
    """
    left = list(processes)
    until = time.monotonic() + timeout_s
    while left := [process for process in left if _runs(process)]:
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2 nowhere.

    Ray's C++ part writes there before it has a log file, whatever its log level; what went wrong is in the
    exception that it raises too.
    """
    global _stderr  # noqa: PLW0603 (a process has one)
    _stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(_stderr, 2)
        os.close(nowhere)
        os.close(_stderr)
        _stderr = 2


class WithoutRay:
    """Standard output without what Ray's own threads print: the complaints of raylets, which are in their logs too.

    Examples
    --------
    >>> import io, threading
    >>> page = io.StringIO()
    >>> for name in ("MainThread", "ray_listen_error_messages"):
    ...     thread = threading.Thread(target=WithoutRay(page).write, args=(name,), name=name)
    ...     thread.start(); thread.join()
    >>> page.getvalue()
    'MainThread'
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, unless one of Ray's threads does."""
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
