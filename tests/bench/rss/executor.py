"""An executor whose tasks are processes with a real resident size, killed when it exceeds what they asked for."""

from __future__ import annotations

import mmap
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from balance.core.scheduler.events import Event, TaskFailed, TaskFinished
from balance.core.scheduler.instructions import StartChunk, StartTask

LOOK_EVERY_S = 0.002
STEPS = 16
PAGE_BYTES = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Hungry:
    """A task: it grows to `size_bytes` step by step within `run_s` seconds, and holds that for as long again."""

    size_bytes: int
    run_s: float

    def be(self) -> None:
        """Take the memory, in a process of its own."""
        held = mmap.mmap(-1, self.size_bytes)
        for step in range(STEPS):
            for page in range(self.size_bytes * step // STEPS, self.size_bytes * (step + 1) // STEPS, PAGE_BYTES):
                held[page] = 1
            time.sleep(self.run_s / STEPS)
        time.sleep(self.run_s)


@dataclass(slots=True)
class _Run:
    start: StartTask
    base_bytes: int
    began: float
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as it went.

    Attributes
    ----------
    task_id : str
        Whose.
    request_bytes, peak_bytes : int
        What it held of the cluster, and what it took at most.
    run_s : float
        How long it ran.
    killed : bool
        Whether it took more than it had asked for.
    """

    task_id: str
    request_bytes: int
    peak_bytes: int
    run_s: float
    killed: bool


class RssExecutor:
    """Runs `Hungry` tasks in children of this process and looks at their size every few milliseconds.

    Parameters
    ----------
    tells_peaks : bool
        Whether it tells the scheduler what attempts took: a scheduler without that can only escalate.
    """

    eager = True

    def __init__(self, *, tells_peaks: bool) -> None:
        self.attempts: list[Attempt] = []
        self._tells_peaks = tells_peaks
        self._runs: dict[int, _Run] = {}

    def start(self, instruction: StartTask, call: object) -> None:
        """Begin an attempt."""
        assert isinstance(call, Hungry)
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.read(ready, 1)  # its size before it grows is being read
                call.be()
            finally:
                os._exit(0)
        self._runs[pid] = _Run(instruction, _rss(pid), time.monotonic())
        os.write(go, b"!")
        os.close(ready)
        os.close(go)

    def start_chunk(self, instruction: StartChunk, calls: list[object]) -> None:
        """Refuse: tasks that take memory are no short ones."""
        raise NotImplementedError(f"{len(calls)} tasks of {instruction.node_id}")

    def stop(self, task_id: str, attempt: int, reason: str) -> None:
        """Do nothing: nobody stops these tasks."""

    def wait(self, timeout_s: float | None) -> list[Event]:
        """Return what ended, killing what outgrew its request meanwhile."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not (events := self._look()) and (until is None or time.monotonic() < until) and self._runs:
            time.sleep(LOOK_EVERY_S)
        return events

    def _look(self) -> list[Event]:
        events: list[Event] = []
        for pid, run in list(self._runs.items()):
            request = run.start.demand.memory_bytes
            run.peak_bytes = max(run.peak_bytes, _rss(pid) - run.base_bytes)
            if outgrown := run.peak_bytes > request:
                os.kill(pid, signal.SIGKILL)
            ended, _status, usage = os.wait4(pid, 0 if outgrown else os.WNOHANG)
            if ended:
                run.peak_bytes = max(run.peak_bytes, usage.ru_maxrss * 1024 - run.base_bytes)
                # One that ended between two looks outgrew its request all the same: a kernel would have killed it.
                events.append(self._over(pid, run.peak_bytes > request))
        return events

    def _over(self, pid: int, killed: bool) -> Event:
        run = self._runs.pop(pid)
        start, run_s = run.start, time.monotonic() - run.began
        self.attempts.append(Attempt(start.task_id, start.demand.memory_bytes, run.peak_bytes, run_s, killed))
        peak = run.peak_bytes if self._tells_peaks else None
        if killed:
            return TaskFailed(start.task_id, start.attempt, "out_of_memory", run_s=run_s, peak_memory_bytes=peak)
        return TaskFinished(start.task_id, start.attempt, run_s=run_s, peak_memory_bytes=peak)


def _rss(pid: int) -> int:
    """Return a child's resident size; a child that has ended takes none."""
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * PAGE_BYTES
