"""Signals and processes: a command that is interrupted ends every process that it started.

Ray starts a dozen processes beneath the one that calls ``ray.init``.  They are ended by asking Ray; this
module sees to those that Ray forgets, and to the moments in which Ray can't be asked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)

KILL_TIMEOUT_S = 10.0
"""How long a process may take to be gone that was killed."""

LOOK_EVERY_S = 0.02

Gone = psutil.Error
"""What looking at a process raises that has ended, or is another user's."""


def interrupt_on_signals() -> None:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt`; Ray puts a handler of its own in place when it starts."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
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
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
