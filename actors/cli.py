"""The command line: ``balance up | status | actors | submit | explain | demo | replay | down``.

Every command ends with exit code 0, or with one line that says what is wrong and what to do, and a code
that is not 0 (1 for what Balance found, 2 for a wrong command line, 130 for Ctrl-C).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from balance import __version__
from balance.config import Settings
from balance.errors import BalanceError, ClusterError, InvalidValue

if TYPE_CHECKING:
    from actors.system import Record

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
out = Console()
err = Console(stderr=True)

StateDir = Annotated[str | None, typer.Option(help="Where durable state lives (default: ~/.local/state/balance).")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster that runs already (default: RAY_ADDRESS, else ours).")]
NumCpus = Annotated[float | None, typer.Option(min=0, help="Cores that Ray may use (default: all).")]
NumGpus = Annotated[
    float | None, typer.Option(min=0, help="GPUs that Ray may use; may be logical (default: those there are).")
]


def _settings(state_dir: str | None) -> Settings:
    return Settings.from_env(state_dir=str(Path(state_dir).expanduser().absolute()) if state_dir else None)


@app.command()
def up(
    address: Address = None,
    state_dir: StateDir = None,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    dashboard: Annotated[bool, typer.Option(help="Start Ray's dashboard.")] = True,
    dashboard_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Its port; 0 lets Ray choose (8265 if free).")
    ] = 0,
    block: Annotated[bool, typer.Option("--block", help="Stay in the foreground until Ctrl-C.")] = False,
) -> None:
    """Start Ray and every actor, or attach to what runs already."""
    from actors import system  # noqa: PLC0415 (psutil and friends: only the commands that need a cluster pay)

    settings = _settings(state_dir)
    where = address or os.environ.get("RAY_ADDRESS")
    if where:
        joined = system.System.attach(settings, where, start_actors=True)
        _show_up(joined.record, "attached to the Ray cluster that runs")
        if block:
            _until_signalled()
            joined.stop(drain_s=30)
        return
    record = system.read_record(settings)
    if record is not None:
        if not record.owned or block:
            raise ClusterError(
                f"Balance runs already on {settings.state_dir}; see 'balance status', stop it with 'balance down'"
            )
        _show_up(record, "runs already")
        return
    if block:
        _host(settings, num_cpus, num_gpus, dashboard, dashboard_port)
    else:
        settings.writable_state_dir()
        if dashboard and dashboard_port:
            system.check_port_free(dashboard_port, "Ray's dashboard")
        _show_up(_start_host(settings, num_cpus, num_gpus, dashboard, dashboard_port), "is up")


def _host(
    settings: Settings, num_cpus: float | None, num_gpus: float | None, dashboard: bool, dashboard_port: int
) -> None:
    """Own a local cluster until a signal comes: what ``up --block`` is, and what ``up`` starts behind itself."""
    from actors import system  # noqa: PLC0415

    with system.host_lock(settings) as free:
        if not free:
            raise ClusterError(
                f"another 'balance up' is starting on {settings.state_dir}; wait for it, see 'balance status'"
            )
        started = system.System.launch(
            settings, num_cpus=num_cpus, num_gpus=num_gpus, dashboard=dashboard, dashboard_port=dashboard_port
        )
        _show_up(started.record, "is up; Ctrl-C stops it")
        try:
            _until_signalled()
        finally:
            started.stop(drain_s=30)
        out.print("stopped")


def _until_signalled() -> None:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    while not told.wait(3600):
        pass


def _start_host(
    settings: Settings, num_cpus: float | None, num_gpus: float | None, dashboard: bool, dashboard_port: int
) -> Record:
    """Start ``up --block`` in a session of its own and wait until every actor has answered."""
    from actors import system  # noqa: PLC0415

    log = Path(settings.state_dir) / "host.log"
    command = [sys.executable, "-m", "actors.cli", "up", "--block", "--state-dir", settings.state_dir]
    command += [f"--num-cpus={num_cpus}"] if num_cpus is not None else []
    command += [f"--num-gpus={num_gpus}"] if num_gpus is not None else []
    command += [f"--dashboard-port={dashboard_port}"] if dashboard else ["--no-dashboard"]
    with log.open("w") as sink:
        host = subprocess.Popen(  # noqa: S603 (our own module, by this interpreter)
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        with out.status("starting Ray and the actors ..."):
            while host.poll() is None:
                record = system.read_record(settings)
                if record is not None and record.host_pid == host.pid:
                    return record
                time.sleep(0.05)
    except BaseException:
        host.terminate()
        host.wait()
        raise
    said = log.read_text(errors="replace").strip()
    if said.startswith("error: "):
        raise ClusterError(said.removeprefix("error: "))
    raise ClusterError(f"the host process ended with code {host.returncode}; its log: {log}\n{said[-2000:]}")


def _show_up(record: Record, what: str) -> None:
    out.print(f"[bold]Balance {record.version}[/bold] {what} at [bold]{record.address}[/bold]")
    _show_actors(record.actors)
    if record.dashboard_url:
        out.print(f"dashboard  {record.dashboard_url}  (its token: 'ray get-auth-token')")
    out.print(
        'python     ray.init("auto"); ray.get_actor("operation_coordinator", namespace="balance")', soft_wrap=True
    )


def _show_actors(answers: list[dict[str, Any]]) -> None:
    from actors.roles import ROLES  # noqa: PLC0415

    does = {role.name: role.does for role in ROLES}
    table = Table("actor", "state", "pid", "node", "starts", "what it does", box=None, pad_edge=False)
    for answer in answers:
        state = answer["state"]
        colour = "green" if state == "ready" else "yellow" if state == "closing" else "red"
        table.add_row(
            answer["role"],
            f"[{colour}]{state}[/{colour}]",
            str(answer.get("pid", "")),
            str(answer.get("node_id", ""))[:8],
            str(answer.get("epoch", "")),
            does.get(answer["role"], "runs tasks"),
        )
    out.print(table)


@app.command()
def status(
    address: Address = None, state_dir: StateDir = None, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Show what runs, what waits and what is held."""
    from actors import client  # noqa: PLC0415

    _connect(state_dir, address)
    overview = client.overview()
    if as_json:
        out.print_json(json.dumps(overview))
        return
    _show_actors(overview["actors"])
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in overview["figures"].items():
        table.add_row(name, str(value))
    out.print(table)
    if any(answer["state"] != "ready" for answer in overview["actors"]):
        raise typer.Exit(1)


@app.command()
def actors(address: Address = None, state_dir: StateDir = None) -> None:
    """List the actors, executors included, with their state."""
    from actors import client  # noqa: PLC0415

    _connect(state_dir, address)
    _show_actors(client.actors())


@app.command()
def submit(
    function: Annotated[str, typer.Argument(help="module:function or path/to/file.py:function")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments, as JSON or plain words.")] = None,
    cpu: Annotated[float, typer.Option(help="Cores.")] = 1.0,
    memory: Annotated[str, typer.Option(help="Bytes, or 512MiB, 2GB ...")] = "0",
    priority: Annotated[int, typer.Option(help="1 CRITICAL ... 5 BACKGROUND.")] = 3,
    task_id: Annotated[str | None, typer.Option("--id", help="The task's id (default: made up).")] = None,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Run one Python function on the cluster and print its outcome as JSON."""
    from actors import client  # noqa: PLC0415

    call = client.load_function(function)
    _connect(state_dir, address)
    outcome = client.execute(
        call,
        [_argument(a) for a in arguments or []],
        cpu=cpu,
        memory=_bytes(memory),
        priority=priority,
        task_id=task_id,
    )
    out.print_json(json.dumps(outcome, default=repr))
    if outcome["status"] != "completed":
        raise typer.Exit(1)


@app.command()
def explain(
    last: Annotated[int, typer.Option(min=1, help="How many plans.")] = 5,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Say what the balancing loop decided lately, and why."""
    from actors import client  # noqa: PLC0415

    _connect(state_dir, address)
    for entry in client.decisions(last):
        out.print(f"[bold]{entry['at']}[/bold]  {entry['summary']}", highlight=False)
        for sentence in entry["reasons"]:
            out.print(f"  - {sentence}", highlight=False, markup=False)


@app.command()
def down(
    address: Address = None,
    state_dir: StateDir = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that running tasks are given to finish.")] = 30.0,
) -> None:
    """Drain, stop every actor, and leave nothing running."""
    from actors import system  # noqa: PLC0415

    settings = _settings(state_dir)
    record = system.read_record(settings)
    if record is not None and record.owned and not address:
        with out.status("draining ..."):
            system.end_host(record, timeout_s=drain + 30)
        out.print("Balance is down")
        return
    if record is None and not address and not os.environ.get("RAY_ADDRESS"):
        out.print("Balance does not run here; nothing to do")
        return
    system.running(settings, address).stop(drain_s=drain)
    out.print("Balance is down; the Ray cluster is as it was")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=5, help="How long the day is squeezed into.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the demand.")] = 1,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("balance-report"),
) -> None:
    """Run three real models through a day of demand, and write a report."""
    from actors.demo import run  # noqa: PLC0415

    raise typer.Exit(run.demo(out, seconds=seconds, seed=seed, report=report))


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="CSV with timestamps, per-minute counts, Azure LLM, or an access log.")],
    speed: Annotated[float, typer.Option(min=0.001, help="How many seconds of the trace pass in one.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many requests.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A line that can't be read ends the run.")] = False,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("balance-report"),
) -> None:
    """Drive the demo's models with the traffic of a real trace."""
    from actors.demo import run  # noqa: PLC0415

    raise typer.Exit(run.replay(out, trace, speed=speed, limit=limit, strict=strict, report=report))


@app.command()
def version() -> None:
    """Print the version."""
    out.print(f"balance {__version__}", highlight=False)


def _connect(state_dir: str | None, address: str | None) -> None:
    from actors import system  # noqa: PLC0415

    system.running(_settings(state_dir), address)


def _argument(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _bytes(text: str) -> float:
    """Read an amount of memory.

    Examples
    --------
    >>> _bytes("512MiB"), _bytes("2GB"), _bytes("100")
    (536870912.0, 2000000000.0, 100.0)
    """
    units = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.strip().rstrip("KMGTkmgtiIbB")
    try:
        return float(number) * units[text.strip()[len(number) :].lower()]
    except (KeyError, ValueError):
        raise InvalidValue("memory", text, "bytes, or a number with kB, MB, GB, KiB, MiB or GiB") from None


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BalanceError as error:
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
