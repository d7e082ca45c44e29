"""`balance demo` and `balance replay`: three real models under a day of demand, or under a real trace.

Everything runs on a private Ray cluster of this process with its state in a temporary folder; whatever
ends this process ends all of it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors import processes
from actors.demo.models import MODELS
from actors.demo.sources import READERS, catalogue
from actors.demo.workload import Arrival, arrivals, from_trace
from balance.adapters.traces import read_trace
from balance.config import Settings
from balance.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from actors.system import System

TICK_S = 1.0
GROUP_S = 0.05
"""Requests of so many seconds are sent in one call, as a gateway in front of many users would."""

SETTLE_S = 60.0
"""How long the last requests may take after the demand is over."""


def demo(out: Console, *, seconds: float, seed: int, report: Path) -> int:
    """Run the demo and return the exit code: 0 where every request is accounted for."""
    run_id = f"demo-{uuid.uuid4().hex[:8]}"
    return _run(
        out,
        arrivals(seconds, seed, run_id=run_id),
        title=f"A day of demand in {seconds:g} seconds",
        command="balance demo",
        expected_s=seconds,
        report=report,
    )


def replay(out: Console, trace: Path, *, speed: float, limit: int | None, strict: bool, report: Path) -> int:
    """Replay a trace on the same models and return the exit code."""
    read = read_trace(trace, strict=strict, limit=limit)
    lines = iter(read)
    first = next(lines)  # a file without a usable line ends here, before anything is started
    code = _run(
        out,
        from_trace(itertools.chain([first], lines), speed, limit, run_id=f"replay-{uuid.uuid4().hex[:8]}"),
        title=f"{trace.name} at {speed:g} times its speed",
        command=f"balance replay {trace.name} --speed {speed:g}",
        expected_s=None,
        report=report,
    )
    out.print(f"{read.usable} lines of {trace.name} were read as {read.format}, {read.skipped} skipped", markup=False)
    for number, reason in read.errors:
        out.print(f"  line {number}: {reason}", markup=False, soft_wrap=True)
    if read.skipped > len(read.errors):
        out.print(f"  ... and {read.skipped - len(read.errors)} more")
    return code


def _run(
    out: Console, demand: Iterator[Arrival], *, title: str, command: str, expected_s: float | None, report: Path
) -> int:
    made = _made(report)
    from ray.exceptions import RayError  # noqa: PLC0415 (Ray and matplotlib are loaded once nothing stands against it)

    from actors.demo.recording import history_of  # noqa: PLC0415
    from actors.report import summary, write_report  # noqa: PLC0415
    from actors.system import System  # noqa: PLC0415

    folder = tempfile.mkdtemp(prefix="balance-")
    processes.die_on_signals(lambda: _tidy(folder, made))
    settings = Settings.from_env(state_dir=folder, tick_s=TICK_S, store_url="", broker_url="")
    system: System | None = None
    try:
        with out.status("starting Ray and the actors ..."):
            system = System.launch(settings, dashboard=False)
            _deploy()
        out.print(f"[bold]{title}[/bold]: {len(MODELS)} models on {len(system.record.actors)} actors")
        started_at = time.time()
        _drive(out, demand, expected_s)
        with out.status("writing the report ..."):
            history = history_of(settings, started_at, title=title, command=command)
            page = write_report(history, report)
    except RayError as error:
        raise ClusterError(f"the run ended early: {str(error).strip().splitlines()[-1]}; try it again") from error
    finally:
        if system is not None:
            system.end()
        _tidy(folder, made)
    out.print(summary(history))
    out.print(f"report: [bold]{page}[/bold]", soft_wrap=True)
    return 0 if history["conservation"]["holds"] else 1


def _made(report: Path) -> Path | None:
    """Make sure, before a minute is spent, that the report can be written; returns the folder if it is new."""
    new = not report.exists()
    try:
        report.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=report).close()
    except OSError as error:
        raise ConfigurationError(
            f"the report can't be written into {str(report)!r} ({error.strerror or error}); name another folder with "
            "--report",
            report=str(report),
        ) from None
    return report if new else None


def _tidy(folder: str, made: Path | None) -> None:
    """Remove the run's state, and the report's folder if it was made for a report that was not written."""
    shutil.rmtree(folder, ignore_errors=True)
    if made is not None:
        with contextlib.suppress(OSError):
            made.rmdir()


def _actor(name: str) -> Any:
    import ray  # noqa: PLC0415 (importing this module must not load Ray)

    from actors import NAMESPACE  # noqa: PLC0415

    return ray.get_actor(name, namespace=NAMESPACE)


def _get(calls: Any, timeout_s: float = 60.0) -> Any:
    import ray  # noqa: PLC0415

    return ray.get(calls, timeout=timeout_s)


def _deploy() -> None:
    """Register the readers, the data and the models."""
    data, models, batches = _actor("data_coordinator"), _actor("model_coordinator"), _actor("batches")
    _get([data.register_reader.remote(name, reader) for name, reader in READERS.items()])
    items = catalogue()
    calls = [data.register_data_source.remote(item.data_id, item.size_bytes, item.source) for item in items]
    calls += [
        models.register_model.remote(model.model_id, model.demand.cpu, model.demand.memory_bytes, model.priority)
        for model in MODELS.values()
    ]
    _get(calls)
    max_age_s = {item.data_id: item.max_age_s for item in items if item.max_age_s is not None}
    _get(
        [
            batches.deploy_model.remote(
                model.model_id, model, objective_s=model.objective_s, max_age_s=max_age_s, batch_max=8
            )
            for model in MODELS.values()
        ]
    )


def _drive(out: Console, demand: Iterator[Arrival], expected_s: float | None) -> None:
    """Send every request at its moment, show how it goes, and wait for the last answers."""
    from actors.demo.progress import Progress  # noqa: PLC0415 (rich is loaded when there is something to show)

    batches = _actor("batches")
    sent: list[Any] = []
    with Progress(out, batches, expected_s) as progress:
        began = time.monotonic()
        for due_s, group in _groups(demand):
            while (wait_s := due_s - (time.monotonic() - began)) > 0:
                progress.show(time.monotonic() - began)
                time.sleep(min(wait_s, 0.25))
            sent.append(batches.submit_requests.remote([arrival.request for arrival in group]))
            progress.sent += len(group)
            if len(sent) >= 200:
                _check(sent)
        _check(sent)
        over = time.monotonic()
        while progress.open_requests() and time.monotonic() - over < SETTLE_S:
            progress.show(time.monotonic() - began, draining=True)
            time.sleep(0.25)


def _groups(demand: Iterator[Arrival]) -> Iterator[tuple[float, list[Arrival]]]:
    """Yield the requests in groups of `GROUP_S` seconds, each with the moment when it is due."""
    for slot, group in itertools.groupby(demand, key=lambda arrival: int(arrival.t_s / GROUP_S)):
        yield (slot + 1) * GROUP_S, list(group)


def _check(sent: list[Any]) -> None:
    """Wait for the acknowledgements; a request that is refused ends the run, for the demo makes no bad ones."""
    for answer in _get(sent):
        if answer["rejected"]:
            raise ClusterError(f"a request was refused: {answer['rejected'][0]['message']}")
    sent.clear()
