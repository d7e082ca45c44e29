"""What the soak's tasks do, and what can be read afterwards of what they did.

An effect is an empty file named after its task, made with ``O_EXCL``: the file system itself refuses to make
it twice, as a database refuses a second row of one key.  Beside it each process keeps a log of its own, one
``write`` a line, which a ``kill -9`` can't take back: the page cache outlives the process.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

RUNS, EFFECTS = "runs", "effects"


def prepare(folder: Path) -> None:
    """Make the folders that tasks write to."""
    for name in (RUNS, EFFECTS):
        (folder / name).mkdir()


def act(folder: str, task_id: str, run_s: float) -> str:
    """Be a task: note the beginning, take `run_s` seconds, have the effect, note whether it was the first.

    Returns
    -------
    str
        The task's id.
    """
    log = os.open(f"{folder}/{RUNS}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(log, f"{time.time():.6f} begun {task_id}\n".encode())
        if run_s:
            time.sleep(run_s)
        try:
            os.close(os.open(f"{folder}/{EFFECTS}/{task_id}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            what = "made"
        except FileExistsError:
            what = "found"
        os.write(log, f"{time.time():.6f} {what} {task_id}\n".encode())
    finally:
        os.close(log)
    return task_id


@dataclass(frozen=True, slots=True)
class Traces:
    """What the tasks left.

    Attributes
    ----------
    begun, made, found : Counter
        By task: how often its function began, made its effect, and found that it was made already.
    effects : frozenset of str
        The tasks whose effect is there.
    begun_at : list of tuple
        When a function began and the pid of its process, in the order of time.
    """

    begun: Counter[str]
    made: Counter[str]
    found: Counter[str]
    effects: frozenset[str]
    begun_at: list[tuple[float, int]]

    @classmethod
    def of(cls, folder: Path) -> Traces:
        """Read them.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     prepare(Path(name))
        ...     _ = act(name, "a", 0.0), act(name, "a", 0.0)
        ...     traces = Traces.of(Path(name))
        >>> traces.begun["a"], traces.made["a"], traces.found["a"], sorted(traces.effects)
        (2, 1, 1, ['a'])
        """
        counts: dict[str, Counter[str]] = {"begun": Counter(), "made": Counter(), "found": Counter()}
        begun_at: list[tuple[float, int]] = []
        for log in sorted((folder / RUNS).iterdir()):
            for line in log.read_text(encoding="utf-8").splitlines():
                at, what, task_id = line.split(" ", 2)
                counts[what][task_id] += 1
                if what == "begun":
                    begun_at.append((float(at), int(log.name)))
        effects = frozenset(entry.name for entry in (folder / EFFECTS).iterdir())
        return cls(counts["begun"], counts["made"], counts["found"], effects, sorted(begun_at))
