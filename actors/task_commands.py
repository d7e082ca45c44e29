"""The commands about tasks: submit, list, explain, cancel."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from actors.console import Address, StateDir, asking, out
from actors.guards import in_words
from balance.errors import InvalidValue
from balance.types import check_id, check_number, check_priority

_COLOURS = {"running": "green", "completed": "green", "queued": "yellow", "waiting": "yellow", "delayed": "yellow"}
_COLOURS["retrying"] = "yellow"


def submit(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="module:function, or path/to/file.py:function")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="As JSON, or plain words.")
    ] = None,
    cpu: Annotated[float, typer.Option(metavar="CORES", help="How many it needs.")] = 1.0,
    memory: Annotated[str, typer.Option(metavar="BYTES", help="Also 512MiB, 2GB ...")] = "0",
    priority: Annotated[int, typer.Option(metavar="1-5", help="1 CRITICAL ... 5 BACKGROUND.")] = 3,
    task_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The task's id (default: made up).")] = None,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Run one Python function on the cluster and print its outcome as JSON."""
    from actors.functions import load_function  # noqa: PLC0415

    call = load_function(function)
    given = [_argument(text) for text in arguments or []]
    wants: dict[str, Any] = {
        "cpu": check_number("cpu", cpu, minimum=0, what="number of cores"),
        "memory": _bytes(memory),
        "priority": check_priority(priority),
        "task_id": task_id if task_id is None else check_id("id", task_id),
    }
    with asking(state_dir, address) as client:
        outcome = client.execute(call, given, **wants)
    out.print_json(json.dumps(outcome, default=repr))
    if outcome["status"] != "completed":
        raise typer.Exit(1)


def tasks(
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Only queued, running, failed ...")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only this tenant's.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only this kind of work.")] = None,
    limit: Annotated[int, typer.Option(metavar="TASKS", min=1, help="At most so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """List tasks: what runs, what waits in its order, what is over."""
    with asking(state_dir, address) as client:
        found = client.tasks(state, tenant, name, limit)
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("task", "state", "prio", "tenant", "node", "waited", "ran"):
        table.add_column(title, no_wrap=True, justify="right" if title in {"prio", "waited", "ran"} else "left")
    table.add_column("why")
    for task in found:
        spans = (_span(task["queued_s"]), _span(task["run_s"]))
        cells = (task["priority"], task["tenant"], (task["node_id"] or "")[:8], *spans, task["reason"])
        table.add_row(escape(task["task_id"]), _coloured(task["status"]), *(escape(str(cell)) for cell in cells))
    out.print(table)
    if len(found) == limit:
        out.print(f"the first {limit}; more with --limit, or ask for one --state", style="dim")


def explain(
    task: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="A task's id; without one, the balancing loop's last plans.")
    ] = None,
    last: Annotated[int, typer.Option(metavar="PLANS", min=1, help="How many plans.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Say why a task waits and when it may start, or what the balancing loop decided lately, and why."""
    with asking(state_dir, address) as client:
        found = client.decisions(last) if task is None else client.explain(check_id("task", task))
    if as_json:
        out.print_json(json.dumps(found))
    elif task is not None:
        _show_explanation(found)
    elif not found:
        out.print("the balancing loop has not taken its first turn yet")
    else:
        _show_decisions(found)


def _show_decisions(decisions: list[dict[str, Any]]) -> None:
    for entry in decisions:
        out.print(f"[bold]{entry['at']}[/bold]", entry["summary"], soft_wrap=True)
        for sentence in entry["reasons"]:
            out.print(f"  - {sentence}", markup=False, soft_wrap=True)
        for model_id, guard in sorted(entry["guards"].items()):
            out.print(f"  * {in_words(model_id, guard)}", markup=False, soft_wrap=True)


def _show_explanation(found: dict[str, Any]) -> None:
    out.print(
        f"[bold]{escape(found['task_id'])}[/bold]", _coloured(found["status"]), escape(found["reason"]), soft_wrap=True
    )
    lines: list[tuple[str, str]] = []
    if found["waits_for"]:
        lines.append(("waits for", ", ".join(found["waits_for"])))
    if found["ahead"]:
        more = " ..." if found["ahead"] > len(found["behind"]) else ""
        lines.append(("behind", f"{found['ahead']} tasks: {', '.join(found['behind'])}{more}"))
    if found["resource"]:
        lines.append(("lacks", f"{_amount(found['resource'], found['lacking'])} on {found['node_id'] or 'every node'}"))
    if found["estimated_start"] is not None:
        lines.append(("starts", _estimate(found)))
    if found["change"]:
        lines.append(("would run", _change(found["change"])))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in lines:
        table.add_row(name, escape(text))
    if lines:
        out.print(table)
    for line in found["story"]:
        out.print(f"  {line}", markup=False, soft_wrap=True)


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state, "red")
    return f"[{colour}]{state}[/{colour}]"


def _amount(resource: str, amount: float) -> str:
    """Return an amount as people say it.

    Examples
    --------
    >>> _amount("memory", 2**30), _amount("gpu", 1.5), _amount("licence", 2)
    ('1 GiB of memory', '1.5 devices of gpu', '2 of licence')
    """
    if resource == "memory":
        return f"{amount / 2**30:.3g} GiB of memory"
    unit = {"cpu": "cores ", "gpu": "devices "}.get(resource, "")
    return f"{amount:g} {unit}of {resource}"


def _estimate(found: dict[str, Any]) -> str:
    now = time.time()
    start, low, high = (found[key] for key in ("estimated_start", "estimated_start_low", "estimated_start_high"))
    said = f"in about {_span(max(0.0, start - now))}"
    if low is None or high is None:
        return said
    return (
        f"{said}, with 80 % certainty between {_span(max(0.0, low - now))} and {_span(max(0.0, high - now))} from now"
    )


def _change(change: dict[str, Any]) -> str:
    possible = change.get("largest_possible") or {}
    most = possible.get(change["resource"], (possible.get("custom") or {}).get(change["resource"]))
    said = f"with {_amount(change['resource'], change['lacking'])} less, or a node that has so much more"
    return said if most is None else f"{said}; the most that is possible is {_amount(change['resource'], most)}"


def cancel(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Ids of tasks.")],
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Cancel tasks, queued or running.  Exit code 1 if one was over already."""
    ids = [check_id("task", task) for task in tasks]
    with asking(state_dir, address) as client:
        done = client.cancel(ids)
    for task_id, cancelled in zip(ids, done, strict=True):
        out.print(f"{task_id} {'is cancelled' if cancelled else 'was over already'}", markup=False, soft_wrap=True)
    if not all(done):
        raise typer.Exit(1)


def _span(seconds: float | None) -> str:
    """Return a duration as people say it.

    Examples
    --------
    >>> [_span(value) for value in (None, 0.0123, 4.2, 90, 7300)]
    ['', '12 ms', '4.2 s', '1.5 min', '2.0 h']
    """
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


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
        amount = float(number) * units[text.strip()[len(number) :].lower()]
    except (KeyError, ValueError):
        raise InvalidValue("memory", text, "bytes, or a number with kB, MB, GB, KiB, MiB or GiB") from None
    return check_number("memory", amount, minimum=0, what="number of bytes")
