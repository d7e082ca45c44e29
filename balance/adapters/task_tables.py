"""Tasks from a file: what was submitted when, what it asked for and how long it ran, as jobs for a simulation.

A CSV with a header; columns are known by their names (`COLUMNS`), in any order, others are left alone.  It
needs a time and a run time (or a start and an end); what else is missing is filled in from a template.
Alibaba's ``cluster-trace-gpu-v2023`` pods read as they are.  A file without run times (an access log, token
counts) is read as a trace of requests (`balance.adapters.traces`), one task each.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from balance.adapters.trace_formats import seconds
from balance.adapters.traces import read_trace
from balance.core.scheduler.spec import TaskSpec
from balance.errors import BalanceError, TraceError
from balance.simulation.job import Job
from balance.types import MILLI, Resources, check_int, check_number

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "at": ("submitted", "submitted_s", "submit_time", "submitted_at", "creation_time", "at_s", "at", "timestamp"),
    "run": ("run_s", "runtime", "run_time", "runtime_s", "duration", "duration_s"),
    "start": ("scheduled_time", "start_time", "started"),
    "end": ("deletion_time", "end_time", "finished"),
    "cpu": ("cpu", "cpus", "cores", "num_cpus"),
    "cpu_milli": ("cpu_milli",),
    "memory": ("memory", "memory_bytes"),
    "memory_mib": ("memory_mib",),
    "gpu": ("gpu", "gpus", "num_gpus"),
    "gpu_count": ("num_gpu",),
    "gpu_milli": ("gpu_milli",),
    "priority": ("priority",),
    "tenant": ("tenant", "user", "team"),
    "kind": ("kind", "model", "app", "function", "job_type", "qos"),
    "expected": ("expected_run_s", "estimate", "estimate_s", "requested_time"),
}
"""Each meaning with the names that a column of it may have, the first that is there counts."""


@dataclass(frozen=True, slots=True)
class TaskTable:
    """The tasks of a file, in order of time.

    Attributes
    ----------
    jobs : tuple of Job
        The first comes at 0 seconds.
    skipped : int
        Rows left out because they never ran (no start, or no end).
    known : tuple of str
        Which meanings were found in the file.
    """

    jobs: tuple[Job, ...]
    skipped: int
    known: tuple[str, ...]


def read_tasks(
    path: str | Path, template: TaskSpec, *, run_s: float = 1.0, speed: float = 1.0, limit: int | None = None
) -> TaskTable:
    """Read a file of tasks.

    Parameters
    ----------
    path : str or Path
        The file.
    template : TaskSpec
        What a task is as far as its row does not say; its id is the prefix of all ids.
    run_s : float
        How long tasks run if the file has no run times, in seconds.
    speed : float
        How many seconds of the trace pass between arrivals in one of the simulation; run times stay.
    limit : int, optional
        At most so many tasks.

    Raises
    ------
    TraceError
        The file can't be read, or a row can't; the message names the line and the column.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "tasks.csv"
    ...     _ = path.write_text("submitted,run_s,gpu,tenant\\n10,5,0.5,a\\n12,60,2,b\\n")
    ...     table = read_tasks(path, TaskSpec("task"))
    >>> [(job.at_s, job.run_s, job.spec.demand.gpu, job.spec.tenant) for job in table.jobs]
    [(0.0, 5.0, 0.5, 'a'), (2.0, 60.0, 2.0, 'b')]
    """
    path = Path(path)
    if check_number("speed", speed, minimum=0) == 0:
        speed = 1.0
    if limit is not None:
        check_int("limit", limit, minimum=1)
    header = _header(path)
    columns = _columns(header)
    if "at" in columns and ("run" in columns or {"start", "end"} <= columns.keys()):
        return _table(path, columns, template, speed, limit)
    return _requests(path, template, run_s, speed, limit)


def _requests(path: Path, template: TaskSpec, run_s: float, speed: float, limit: int | None) -> TaskTable:
    """Read a trace of requests: each is a task that runs for `run_s` seconds."""
    moments: list[tuple[float, str]] = []
    for arrival in read_trace(path, limit=limit):
        step = arrival.span_s / arrival.count
        name = (arrival.model_hint or "")[:200].strip() or template.name
        moments += [((arrival.t_s + number * step) / speed, name) for number in range(arrival.count)]
    moments.sort(key=lambda moment: moment[0])
    jobs = (
        Job(at_s, run_s, replace(template, task_id=f"{template.task_id}-{number}", name=name))
        for number, (at_s, name) in enumerate(moments)
    )
    return TaskTable(tuple(jobs), 0, ("at",))


def _header(path: Path) -> list[str]:
    for row in islice(_rows(path), 1):
        return [cell.strip().lower() for _, cell in enumerate(row[1])]
    raise TraceError(f"{str(path)!r} is empty; expected a CSV with a header", path=str(path))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise TraceError(f"{str(path)!r} can't be read ({why})", path=str(path)) from None


def _columns(header: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for meaning, names in COLUMNS.items():
        for name in names:
            if name in header:
                found[meaning] = header.index(name)
                break
    return found


def _table(path: Path, columns: dict[str, int], template: TaskSpec, speed: float, limit: int | None) -> TaskTable:
    read: list[tuple[float, int, float, TaskSpec]] = []
    skipped = 0
    for line, row in islice(_rows(path), 1, None):
        if limit is not None and len(read) >= limit:
            break
        cells = {name: row[column].strip() for name, column in columns.items() if column < len(row)}
        try:
            at, run = _time(cells, "at"), _run(cells)
            if run is None:
                skipped += 1
                continue
            spec = _spec(cells, template, len(read))
            check_number("run time", run, minimum=0)
        except (ValueError, BalanceError) as error:
            raise TraceError(
                f"line {line} of {str(path)!r} can't be read: {error}", path=str(path), line=line
            ) from None
        read.append((at, line, run, spec))
    if not read:
        raise TraceError(f"no row of {str(path)!r} is a task that ran", path=str(path))
    read.sort(key=lambda each: each[:2])
    first = read[0][0]
    jobs = tuple(Job((at - first) / speed, run, spec) for at, _, run, spec in read)
    return TaskTable(jobs, skipped, tuple(columns))


def _time(cells: Mapping[str, str], name: str) -> float:
    moment = seconds(cells.get(name, ""))
    if moment is None:
        raise ValueError(f"{name} is {cells.get(name, '')!r}; expected a time")
    return moment


def _run(cells: Mapping[str, str]) -> float | None:
    """Return how long the task ran, in seconds; None if it never started or never ended."""
    if cells.get("run"):
        return _number(cells, "run", 0.0)
    if not cells.get("start") or not cells.get("end"):
        return None
    return _time(cells, "end") - _time(cells, "start")


def _spec(cells: Mapping[str, str], template: TaskSpec, number: int) -> TaskSpec:
    asked = template.demand
    cpu = _number(cells, "cpu_milli", 1000 * _number(cells, "cpu", asked.cpu)) / MILLI
    memory = _number(cells, "memory_mib", _number(cells, "memory", asked.memory_bytes) / 2**20) * 2**20
    gpu = _number(cells, "gpu", asked.gpu)
    if cells.get("gpu_count"):
        count = _number(cells, "gpu_count", 0.0)
        gpu = count if count > 1 else count * _number(cells, "gpu_milli", MILLI) / MILLI
    priority = cells.get("priority") or str(template.priority)
    expected = _number(cells, "expected", -1.0)
    return replace(
        template,
        task_id=f"{template.task_id}-{number}",
        demand=Resources.demand(cpu=cpu, memory=memory, gpu=gpu),
        priority=check_int("priority", float(priority), minimum=1),
        tenant=cells.get("tenant") or template.tenant,
        name=cells.get("kind") or template.name,
        expected_run_s=template.expected_run_s if expected < 0 else expected,
    )


def _number(cells: Mapping[str, str], name: str, otherwise: float) -> float:
    text = cells.get(name)
    return check_number(name, text, minimum=0) if text else otherwise
