"""``balance simulate``: what a scheduling policy would have made of a trace, on a cluster that need not exist."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from actors.console import err, out
from balance.errors import ClusterError, InvalidValue
from balance.types import check_number

if TYPE_CHECKING:
    from balance.simulation import History

_REDRAW = 500  # tasks between two looks at the progress bar
_PICTURES = (".png", ".svg", ".pdf")
_COLUMNS = "task_id,tenant,priority,state,submitted_s,eligible_s,started_s,finished_s,node,attempts"


def simulate(  # noqa: PLR0917 (typer reads options off the signature)
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE", help="CSV of tasks (submitted, run_s, cpu, gpu ...), or a request trace.")
    ],
    nodes: Annotated[
        str, typer.Option(metavar="NODES", help="Such as 100x8cpu64gib,20x8cpu64gib4gpu.")
    ] = "4x8cpu32gib",
    tenants: Annotated[str, typer.Option(metavar="WEIGHTS", help="Such as research=2,batch=1.")] = "",
    aging: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="Waiting worth one priority.")] = 300.0,
    policy: Annotated[str, typer.Option(metavar="SETTINGS", help="Others of the policy, such as chunk_s=0.01.")] = "",
    speed: Annotated[float, typer.Option(metavar="TIMES", min=0.001, help="Arrivals so many times as fast.")] = 1.0,
    run_s: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Run time where the file has none.")] = 1.0,
    until: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="End there, simulated time.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="TASKS", min=1, help="At most so many.")] = None,
    history: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Every task, as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="A picture: PNG, SVG or PDF.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Run a trace through the scheduler on a simulated cluster, and show waits, shares and utilisation."""
    from balance.adapters.task_tables import read_tasks  # noqa: PLC0415 (numpy: only this command pays)
    from balance.core.scheduler.spec import TaskSpec  # noqa: PLC0415
    from balance.simulation import Cluster, Simulation  # noqa: PLC0415

    cluster = Cluster.parse(nodes)
    rules = scheduling_policy(tenants, aging, policy)
    for file in (history, plot):
        if file is not None and not file.expanduser().absolute().parent.is_dir():
            raise InvalidValue("file", str(file), "a file in a directory that exists")
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise InvalidValue("plot", str(plot), "a file name that ends in " + ", ".join(_PICTURES))
    table = read_tasks(trace, TaskSpec("task"), run_s=run_s, speed=speed, limit=limit)
    simulation = Simulation(cluster, table.jobs, policy=rules)
    made = _run(simulation, len(table.jobs), math.inf if until is None else until)
    if history is not None:
        _write(made, history)
    if plot is not None:
        from actors.report.timeline import draw  # noqa: PLC0415 (matplotlib)

        draw(made, plot)
    if as_json:
        out.print_json(json.dumps(made.to_dict()))
        return
    _show(made, len(cluster.nodes), table.skipped)


def scheduling_policy(tenants: str, aging_s: float, settings: str) -> Any:
    """Return the policy that the options describe; `InvalidValue` names what is wrong.

    Examples
    --------
    >>> policy = scheduling_policy("a=1,b=2", 60.0, "chunk_s=0.01")
    >>> [(tenant.name, tenant.weight) for tenant in policy.tenants], policy.chunk_s
    ([('a', 1.0), ('b', 2.0)], 0.01)
    """
    from dataclasses import fields  # noqa: PLC0415

    from balance.core.scheduler.policy import SchedulingPolicy, tenants_of  # noqa: PLC0415

    plain = {field.name: field.default for field in fields(SchedulingPolicy) if field.name != "tenants"}
    given: dict[str, Any] = {}
    for name, value in _pairs(settings):
        if name not in plain:
            raise InvalidValue("policy", name, "one of " + ", ".join(sorted(plain)))
        given[name] = int(value) if isinstance(plain[name], int) and value == int(value) else value
    return SchedulingPolicy(**{"aging_step_s": aging_s, **given, "tenants": tenants_of(tenants)})


def _pairs(text: str) -> list[tuple[str, float]]:
    found = []
    for word in filter(None, text.replace(" ", "").split(",")):
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise InvalidValue("policy", word, "name=number, such as chunk_s=0.01,earmarks_max=8")
        found.append((name, check_number(f"policy: {name}", value, minimum=0)))
    return found


def _run(simulation: Any, tasks: int, until_s: float) -> History:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as bar:
        line = bar.add_task("", total=tasks, at="")
        drawn = 0

        def progress(now_s: float, submitted: int) -> None:
            nonlocal drawn
            if submitted - drawn >= _REDRAW:
                drawn = submitted
                bar.update(line, completed=submitted, at=f"at {duration(now_s)}")

        made: History = simulation.run(until_s=until_s, on_progress=progress)
    return made


def _write(made: History, file: Path) -> None:
    try:
        with file.expanduser().open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(_COLUMNS.split(","))
            # NaN is "did not happen": an empty cell, which every reader takes for that.
            writer.writerows(["" if cell != cell else cell for cell in row] for row in made.rows())  # noqa: PLR0124
    except OSError as error:
        raise ClusterError(f"{str(file)!r} can't be written ({error.strerror})") from None


def _show(made: History, nodes: int, skipped: int) -> None:
    found = made.to_dict()
    states = ", ".join(f"{count:,} {state}" for state, count in found["states"].items())
    out.print(f"[bold]{found['tasks']:,} tasks[/bold] on {nodes:,} nodes: {states}")
    if skipped:
        out.print(f"{skipped:,} rows of the file never ran and are left out")
    used = "  ".join(f"{name} {part:.1%}" for name, part in found["utilisation"].items())
    out.print(f"utilisation  {used}")
    out.print(f"last task over after {duration(made.makespan_s)}; at most {found['queue_max']:,} tasks waited")
    lost = found["lost_work"]
    if lost["attempts"]:
        out.print(
            f"run in vain  {lost['attempts']:,} attempts, {lost['core_s']:,.0f} core-s, {lost['gpu_s']:,.0f} GPU-s"
        )
    _table_of_waits(found["waits"])
    if len(found["shares"]) > 1:
        _table_of_shares(found["shares"])
    if found["decisions_per_s"]:
        out.print(f"[dim]{found['decisions_per_s']:,.0f} decisions a second; digest {found['digest'][:16]}[/dim]")


def _table_of_waits(waits: dict[str, dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("priority", "started", "wait p50", "p95", "p99", "longest"):
        table.add_column(title, justify="right", no_wrap=True)
    for level, row in waits.items():
        figures = (row["p50_s"], row["p95_s"], row["p99_s"], row["max_s"])
        table.add_row(level, f"{row['count']:,}", *(duration(figure) for figure in figures))
    out.print(table)


def _table_of_shares(shares: dict[str, float]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tenant", no_wrap=True)
    table.add_column("dominant share", justify="right", no_wrap=True)
    table.add_column("of all", justify="right", no_wrap=True)
    total = sum(shares.values()) or 1.0
    for tenant, share in shares.items():
        table.add_row(tenant, f"{share:.1%}", f"{share / total:.1%}")
    out.print(table)


def duration(seconds: float | None) -> str:
    """Return a time for people.

    Examples
    --------
    >>> duration(0.0421), duration(75), duration(9000), duration(200_000), duration(None)
    ('42 ms', '1 min 15 s', '2 h 30 min', '2 d 7 h', '-')
    """
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    for size, unit, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole:.0f} {unit} {rest // smaller:.0f} {name}"
    return f"{seconds:.3g} s"
