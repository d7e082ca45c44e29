"""``balance scaling``: what scaling policies would have made of a trace of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from actors.console import err, out
from balance.errors import InvalidValue
from balance.types import check_number

if TYPE_CHECKING:
    from balance.simulation.scaling import Demand

STEP_S = 15.0


def scaling(  # noqa: PLR0917 (typer reads options off the signature)
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE", help="Requests: counts per minute, times, or an access log.")
    ],
    cold_start: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Until a replica answers.")] = 300.0,
    spread: Annotated[float, typer.Option(metavar="SIGMA", min=0, help="Of the logarithm of that.")] = 0.0,
    service: Annotated[float, typer.Option(metavar="SECONDS", min=1e-6, help="Of a replica for a request.")] = 0.1,
    load: Annotated[float | None, typer.Option(metavar="REPLICAS", min=0.01, help="Scale to this mean load.")] = None,
    objective: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="A longer wait is a miss.")] = 10.0,
    coverage: Annotated[str, typer.Option(metavar="LIST", help="Balance's knob.")] = "0.9,0.95,0.98",
    target: Annotated[str, typer.Option(metavar="LIST", help="Of a target-utilisation policy.")] = "0.7,0.8,0.9",
    warm_up: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Not counted, at the beginning.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Run a trace of requests through scaling policies, and show replica-seconds against missed objectives."""
    from balance.planning.scaling import ScalingPolicy  # noqa: PLC0415 (numpy: only this command pays)
    from balance.simulation.scaling import Balanced, Oracle, Scene, TargetUtilisation, simulate  # noqa: PLC0415

    policies: list[tuple[str, Any]] = [
        (f"Balance, coverage {each:g}", Balanced(ScalingPolicy(coverage=each)))
        for each in _numbers("coverage", coverage)
    ]
    policies += [(f"target utilisation {each:g}", TargetUtilisation(each)) for each in _numbers("target", target)]
    demand = demand_of(trace)
    if load is not None:
        demand = demand.scaled_to(load, service)
    scene = Scene(
        demand,
        cold_start_s=cold_start,
        cold_spread=spread,
        service_s=service,
        objective_s=objective,
        warm_up_s=warm_up,
        seed=seed,
    )
    policies.append(("oracle", Oracle(demand, service, cold_start)))
    found = []
    for name, policy in policies:
        with err.status(f"{name} ..."):
            found.append({"policy": name, **simulate(scene, policy).to_dict()})
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("policy", no_wrap=True)
    for title in ("replica-hours", "per hour of work", "missed", "of all", "most replicas"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in found:
        table.add_row(
            row["policy"],
            f"{row['replica_s'] / 3600:,.1f}",
            f"{row['cost']:.3f}",
            f"{row['missed']:,.0f}",
            f"{row['miss_share']:.2%}",
            str(row["peak"]),
        )
    out.print(table)


def demand_of(trace: Path) -> Demand:
    """Return the requests of a file as a rate for each step, an interval's spread evenly over it."""
    import numpy as np  # noqa: PLC0415

    from balance.adapters.traces import read_trace  # noqa: PLC0415
    from balance.simulation.scaling import Demand  # noqa: PLC0415

    counts: list[float] = []
    for arrival in read_trace(trace):
        first = arrival.t_s / STEP_S
        last = (arrival.t_s + arrival.span_s) / STEP_S
        while len(counts) < int(max(last - 1e-9, first)) + 1:
            counts.append(0.0)
        if arrival.span_s <= 0:
            counts[int(first)] += arrival.count
            continue
        for step in range(int(first), int(last - 1e-9) + 1):
            counts[step] += arrival.count * (min(last, step + 1) - max(first, step)) / (last - first)
    if not counts:
        raise InvalidValue("trace", str(trace), "a file with at least one request")
    return Demand(tuple((np.array(counts) / STEP_S).tolist()), STEP_S)


def _numbers(name: str, text: str) -> list[float]:
    return [check_number(name, word, minimum=0.01) for word in filter(None, text.replace(" ", "").split(","))]
