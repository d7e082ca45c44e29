"""Keep many AI models and the data that feeds them in balance on one Ray cluster.

Try 'balance demo', or begin with 'balance up'.  What goes wrong is said in one line; the exit code is then
1 (what Balance found), 2 (a wrong command line) or 130 (interrupted).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from actors import dlq_commands, forecast_commands, plan_commands, scaling_commands, simulate, task_commands
from actors.console import Address, StateDir, asking, err, out, settings_for
from balance import __version__
from balance.config import Settings
from balance.errors import BalanceError, ClusterError

if TYPE_CHECKING:
    from actors.record import Record

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a wrong command line; it does not export the name."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)
NumCpus = Annotated[
    float | None, typer.Option(metavar="CORES", min=0, help="Cores that Ray may use (default: all there are).")
]
NumGpus = Annotated[
    float | None, typer.Option(metavar="GPUS", min=0, help="GPUs that Ray may use (default: all there are).")
]
Report = Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")]


@app.command()
def up(
    address: Address = None,
    state_dir: StateDir = None,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    dashboard: Annotated[bool, typer.Option(help="Start Ray's dashboard.")] = True,
    dashboard_port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Its port; 0 lets Ray choose (8265 if free).")
    ] = 0,
    block: Annotated[bool, typer.Option("--block", help="Stay in the foreground until Ctrl-C.")] = False,
) -> None:
    """Start Ray and every actor, or attach to what runs already."""
    from actors import checks, host, record  # noqa: PLC0415 (psutil: only the commands that need a cluster pay)

    settings = settings_for(state_dir)
    found = record.read_record(settings)
    where = address or os.environ.get("RAY_ADDRESS") or (found.address if found and not found.owned else None)
    if where:
        _up_on(settings, where, block)
    elif found is not None:
        if block:
            raise ClusterError(f"Balance runs already on {settings.state_dir}; stop it with 'balance down' first")
        _up_again(settings)
    else:
        settings.writable_state_dir()
        if dashboard and dashboard_port:
            checks.check_port_free(dashboard_port, "Ray's dashboard")
        options: dict[str, Any] = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        options |= {"dashboard": dashboard, "dashboard_port": dashboard_port}
        if block:
            _over(host.serve(settings, options, lambda made: _show_up(made, "is up; Ctrl-C stops it")))
        else:
            with out.status("starting Ray and the actors ..."):
                made = host.start(settings, options)
            _show_up(made, "is up")


def _up_on(settings: Settings, where: str, block: bool) -> None:
    """Be a guest on a cluster that somebody else has started."""
    from actors import host, processes, system  # noqa: PLC0415

    settings.writable_state_dir()
    processes.raise_on_signals()
    with out.status("starting the actors ..."):
        joined = system.System.attach(settings, where, start_actors=True)
    what = "runs already" if joined.found else "is up"
    if block:
        _over(host.stay(joined, lambda made: _show_up(made, f"{what}; Ctrl-C stops it")))
    else:
        _show_up(joined.record, what)


def _up_again(settings: Settings) -> None:
    from actors import host, system  # noqa: PLC0415

    with out.status("looking for the actors ..."):
        record = host.wait_until_ready(settings)
        system.running(settings, record.address)
        from actors import client  # noqa: PLC0415 (imports Ray, which has to know by now whether to send a token)

        answers = client.actors()
    _show_up(record, "runs already", answers)


def _over(outcome: dict[str, Any]) -> None:
    if outcome["left"]:
        tasks = "1 task" if outcome["left"] == 1 else f"{outcome['left']} tasks"
        out.print(f"{tasks} had not ended in time; what is kept of them goes on at the next 'balance up'")
    out.print("Balance is down")


def _show_up(record: Record, what: str, answers: Sequence[dict[str, Any]] | None = None) -> None:
    out.print(f"[bold]Balance {record.version}[/bold] {what} at [bold]{record.address}[/bold]")
    _show_actors(record.actors if answers is None else answers)
    if record.dashboard_url:
        out.print(f"dashboard  {record.dashboard_url}  (token: ray get-auth-token)", soft_wrap=True)
    out.print('python     ray.init("auto"); ray.get_actor("scheduler", namespace="balance")', markup=False)


def _show_actors(answers: Sequence[dict[str, Any]]) -> None:
    from actors.roles import does  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("actor", "state", "pid", "starts"):
        table.add_column(title, no_wrap=True, justify="left" if title in {"actor", "state"} else "right")
    table.add_column("what it does")
    for answer in answers:
        state = answer["state"]
        colour = {"ready": "green", "busy": "green", "closing": "yellow"}.get(state, "red")
        table.add_row(
            answer["role"],
            f"[{colour}]{state}[/{colour}]",
            str(answer.get("pid", "")),
            str(answer.get("epoch", "")),
            does(answer["role"]),
        )
    out.print(table)


@app.command()
def status(
    address: Address = None,
    state_dir: StateDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs, what waits and what is held; exit code 1 if an actor is missing."""
    with asking(state_dir, address) as client:
        overview = client.overview()
    if as_json:
        out.print_json(json.dumps(overview))
    else:
        _show_actors(overview["actors"])
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in overview["figures"].items():
            table.add_row(name, str(value))
        out.print()
        out.print(table)
    if any(answer["state"] not in {"ready", "busy"} for answer in overview["actors"]):
        raise typer.Exit(1)


@app.command()
def actors(address: Address = None, state_dir: StateDir = None) -> None:
    """List the actors, executors included, with their state."""
    with asking(state_dir, address) as client:
        answers = client.actors()
    _show_actors(answers)


app.add_typer(dlq_commands.app, name="dlq")
for _command in (
    task_commands.submit,
    task_commands.tasks,
    task_commands.explain,
    plan_commands.plan,
    task_commands.cancel,
):
    app.command()(_command)


@app.command()
def down(
    address: Address = None,
    state_dir: StateDir = None,
    drain: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long running tasks are given to finish.")
    ] = 30.0,
) -> None:
    """Drain, stop every actor, and leave nothing running."""
    from actors import host, record  # noqa: PLC0415

    settings = settings_for(state_dir)
    found = record.read_record(settings)
    if found is None and not address and not os.environ.get("RAY_ADDRESS"):
        out.print("Balance does not run here; nothing to do")
        return
    with out.status("draining ..."):
        if found is not None and found.owned and not address:
            outcome = host.stop(settings, found, drain_s=drain)
        else:
            outcome = host.leave(settings, address, drain_s=drain)
    _over(outcome)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=5, help="How long the day takes.")] = 60.0,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="The same seed makes the same demand.")] = 1,
    report: Report = Path("balance-report"),
) -> None:
    """Run three real models through a day of demand, and write a report."""
    from actors.demo import run  # noqa: PLC0415

    raise typer.Exit(run.demo(out, seconds=seconds, seed=seed, report=report))


@app.command()
def replay(
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE", help="CSV with timestamps, per-minute counts, Azure LLM, or access log.")
    ],
    speed: Annotated[
        float, typer.Option(metavar="TIMES", min=0.001, help="Seconds of the trace that pass in one.")
    ] = 1.0,
    limit: Annotated[int | None, typer.Option(metavar="REQUESTS", min=1, help="At most so many.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A line that can't be read ends the run.")] = False,
    report: Report = Path("balance-report"),
) -> None:
    """Drive the demo's models with the traffic of a real trace."""
    from actors.demo import run  # noqa: PLC0415

    raise typer.Exit(run.replay(out, trace, speed=speed, limit=limit, strict=strict, report=report))


app.command()(simulate.simulate)
app.command()(scaling_commands.scaling)
app.command()(forecast_commands.forecast)
app.command()(forecast_commands.backtest)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(f"balance {__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; whatever goes wrong becomes one line.

    Examples
    --------
    >>> main(["version"])
    balance ...
    0
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(args=given or ["--help"], prog_name="balance", standalone_mode=False)
    except UsageError as error:
        return _complain(_usage(error), 2)
    except BalanceError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        return _complain(_surprise(error), 1)
    if code == 130:
        err.print("interrupted")
    return int(code or 0)


def _complain(message: str, code: int) -> int:
    err.print(f"error: {' '.join(message.split())}")
    return code


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx is not None else "balance"
    return f"{error.format_message().rstrip('.')}; see '{command} --help'"


def _surprise(error: Exception) -> str:
    """Say what nobody foresaw, and where; all of it with ``BALANCE_TRACEBACK=1``."""
    if os.environ.get("BALANCE_TRACEBACK"):
        traceback.print_exception(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    return f"unexpected {type(error).__name__}: {error} (at {place}); BALANCE_TRACEBACK=1 shows how it came to that"


if __name__ == "__main__":
    sys.exit(main())
