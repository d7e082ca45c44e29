"""Scaling with forecasts against a target-utilisation policy tuned in hindsight, in the simulator.

    python tests/bench/bench_scaling.py [--world-cup FILE] [--cold-start 300,60] [--seeds 1,2,3] [--json FILE]

Steps of 15 s, a mean load of ten replicas, an objective of 10 s of waiting, three days before anything counts.
Every policy is a curve of misses over replica-seconds.  Two rivals are tuned in hindsight for each trace, that is, the
best of all their settings is taken at each cost: the plain one (the load of late over a target of up to 110 %,
smoothed or not, held or not), and one that adds what drains its queue, which is stronger.  Balance has one setting for
all traces, and its curve is over its one knob, coverage: a few values, and then those that should cost what the rivals
cost where they miss 1 % and 0.3 %, which is where they are compared.  Beside them: Balance that always follows its
forecast, Ray Serve's default policy (its own code), and an oracle that knows the future.  The World Cup's counts per
minute are an argument; without them that trace is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness import demand_shapes as shapes
from harness.machine import Machine
from harness.serve_default import ServeDefault
from harness.shared_forecasts import shared_forecasts
from harness.table import Report
from harness.utilisation_sweep import SETTINGS, TARGETS, sweep

from balance.planning.scaling import ScalingPolicy
from balance.planning.scaling.state import FRESH
from balance.simulation.scaling import Balanced, Demand, Oracle, Scene, simulate_all
from balance.simulation.scaling.outcome import envelope

SERVICE_S, OBJECTIVE_S, LOAD, WARM_DAYS = 0.1, 10.0, 10.0, 3
COVERAGES = (0.4, 0.75, 0.9, 0.97)
NEAR = 0.003
"""A cost that differs by less is the same."""
POINTS = (0.01, 0.003)
RIVALS = ("plain", "with its queue")
KINDS = ("regime shift", "random walk", "flash crowd")
LEAST = 1e-4
"""Fewer misses than one in ten thousand are a few events: they are not told apart."""


def load_of(trace: str, days: int, file: Path | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the replicas' worth of work in each step of a trace such as ``flash crowd/1``."""
    kind, _, seed = trace.partition("/")
    whole = days + WARM_DAYS
    if kind == "world cup":
        assert file is not None, "the trace is only listed where its file is given"
        raw = shapes.world_cup(file, whole)
    else:
        make = {
            "regime shift": shapes.regime_shift,
            "random walk": shapes.random_walk,
            "flash crowd": shapes.flash_crowd,
        }[kind]
        raw = make(whole, int(seed))
    return raw / raw[WARM_DAYS * shapes.DAY :].mean() * LOAD


def measure(trace: str, cold_start_s: float, days: int, file: Path | None) -> dict[str, Any]:
    """Return every policy's points (cost, share of misses) on one trace."""
    load = load_of(trace, days, file)
    demand = Demand(tuple((load / SERVICE_S).tolist()), shapes.STEP_S)
    warm_up = WARM_DAYS * shapes.DAY
    scene = Scene(
        demand,
        cold_start_s=cold_start_s,
        service_s=SERVICE_S,
        objective_s=OBJECTIVE_S,
        warm_up_s=warm_up * shapes.STEP_S,
    )

    def run(policies: Sequence[Any]) -> list[tuple[float, float]]:
        with shared_forecasts():
            return [(made.cost, made.miss_share) for made in simulate_all(scene, policies)]

    def led(coverage: float, lead: str = "auto") -> Balanced:
        return Balanced(ScalingPolicy(coverage=coverage, lead=lead), FRESH)

    swept = sweep(load, step_s=shapes.STEP_S, cold_start_s=cold_start_s, objective_s=OBJECTIVE_S, warm_up=warm_up)
    rivals = {
        "plain": [point for setting, point in zip(SETTINGS, swept, strict=True) if not setting.drain_s],
        "with its queue": [point for setting, point in zip(SETTINGS, swept, strict=True) if setting.drain_s],
    }
    *first, only = run([*map(led, COVERAGES), led(0.9, "forecast")])
    curve = dict(zip(COVERAGES, first, strict=True))
    costs = [cost_at(rivals[who], share) for who in rivals for share in POINTS]
    more = coverages_for(curve, [cost for cost in costs if cost is not None])
    curve.update(zip(more, run([led(coverage) for coverage in more]), strict=True))
    others: list[Any] = [ServeDefault(0.8), Oracle(demand, SERVICE_S, cold_start_s)]
    return {
        "trace": trace,
        "cold_start_s": cold_start_s,
        **rivals,
        "coverages": sorted(curve),
        "balance": [curve[coverage] for coverage in sorted(curve)],
        "forecast only": [only],
        **{who: [made] for who, made in zip(("serve", "oracle"), run(others), strict=True)},
    }


def coverages_for(curve: dict[float, tuple[float, float]], costs: Sequence[float]) -> list[float]:
    """Return the coverages that should cost that much, by a line through the log-odds of those that were run.

    Examples
    --------
    >>> coverages_for({0.5: (1.0, 0.1), 0.9: (1.2, 0.01)}, [1.1, 1.1001, 1.2, 0.5, 9.0])
    [0.1, 0.75, 0.995, 0.9995]
    """
    known = sorted((cost, math.log(coverage / (1.0 - coverage))) for coverage, (cost, _) in curve.items())
    wanted: list[float] = []
    done = [cost for cost, _ in known]
    for cost in costs:
        if any(abs(cost - other) < NEAR for other in done):
            continue
        done.append(cost)
        if cost < known[0][0]:
            wanted.append(0.1)
        elif cost > known[-1][0]:
            wanted += [0.995, 0.9995]
        else:
            odds = float(np.interp(cost, [one for one, _ in known], [odds for _, odds in known]))
            wanted.append(round(1.0 / (1.0 + math.exp(-odds)), 3))
    return sorted(set(wanted) - set(curve))


def cost_at(points: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return the cost at which a curve comes down to a share of misses; None if it never does."""
    curve = envelope(points)
    if curve[0][1] <= share:
        return curve[0][0]
    for (cost, miss), (dearer, fewer) in itertools.pairwise(curve):
        if fewer <= share:
            part = math.log(miss / share) / math.log(miss / max(fewer, LEAST / 10))
            return cost + min(1.0, part) * (dearer - cost)
    return None


def misses_at(points: Sequence[tuple[float, float]], cost: float) -> float | None:
    """Return a curve's share of misses at a cost; None where it begins above that."""
    curve = envelope(points)
    if cost < curve[0][0] - 1e-9:
        return None
    for (low, miss), (high, fewer) in itertools.pairwise(curve):
        if cost < high:
            part = max(0.0, (cost - low) / (high - low))
            return math.exp((1 - part) * math.log(max(miss, LEAST)) + part * math.log(max(fewer, LEAST)))
    return max(curve[-1][1], LEAST)


def compare(found: dict[str, Any], rival: str, share: float) -> tuple[float | None, float | None]:
    """Return the rival's cost at its point, and Balance's misses there over the rival's."""
    cost = cost_at(found[rival], share)
    if cost is None:
        return None, None
    ours, theirs = misses_at(found["balance"], cost), misses_at(found[rival], cost)
    return cost, (ours / max(theirs or 0.0, LEAST) if ours is not None else None)


def report(found: list[dict[str, Any]], machine: Machine) -> Report:
    """Make the table, and set it against the bars; those are on the plain rival."""
    title = "Scaling: misses of the objective at equal replica-seconds"
    at = " / ".join(f"{share:.1%}" for share in POINTS)
    columns = ["trace", "start"]
    for rival in RIVALS:
        columns += [f"{rival}: cost at {at}", "Balance there, times"]
    table = Report(title, [*columns, "Balance, coverage 0.9", "forecast only", "Serve at 0.8", "oracle"], machine)
    ratios: dict[tuple[str, float], list[float]] = {}
    for each in found:
        cells = []
        for rival in RIVALS:
            pairs = [compare(each, rival, share) for share in POINTS]
            cells.append(" / ".join("-" if cost is None else f"{cost:.3f}" for cost, _ in pairs))
            cells.append(" / ".join("dearer" if ratio is None else f"{ratio:.2f}" for _, ratio in pairs))
            ratios.setdefault((rival, each["cold_start_s"]), []).extend(
                math.inf if ratio is None else max(ratio, 1e-3) for _, ratio in pairs
            )
        usual = each["balance"][each["coverages"].index(0.9)]
        others = (_points(each[who]) for who in ("forecast only", "serve", "oracle"))
        table.add(each["trace"], f"{each['cold_start_s']:.0f} s", *cells, _points([usual]), *others)
    for (rival, cold_start_s), values in ratios.items():
        worst, mean = max(values), math.exp(sum(map(math.log, values)) / len(values))
        if rival != "plain":
            as_cheap = [value for value in values if math.isfinite(value)]
            mean = math.exp(sum(map(math.log, as_cheap)) / max(1, len(as_cheap)))
            table.facts[f"against the rival {rival}, start {cold_start_s:.0f} s"] = {
                "mean": mean,
                "worst": max(as_cheap, default=math.inf),
                "dearer": len(values) - len(as_cheap),
            }
            continue
        if cold_start_s >= 300:
            table.bar(f"start {cold_start_s:.0f} s: geometric mean at most 0.6", f"{mean:.2f}", met=mean <= 0.6)
        table.bar(f"start {cold_start_s:.0f} s: no trace above 1.1", f"{worst:.2f}", met=worst <= 1.1)
    return table


def _points(points: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{cost:.2f}: {share:.2%}" for cost, share in points)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--world-cup", type=Path, help="the World Cup's counts: timestamp,requests for each minute")
    parser.add_argument("--cold-start", default="300,60", help="seconds, commas between")
    parser.add_argument("--days", type=int, default=8, help="that count, after three that do not")
    parser.add_argument("--seeds", default="1,2,3", help="of the made traces, commas between")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    made = [f"{kind}/{seed}" for seed in given.seeds.split(",") for kind in KINDS]
    if given.world_cup is None:
        print("without --world-cup that trace is left out", file=sys.stderr)
    traces = (["world cup"] if given.world_cup is not None else []) + made
    machine = Machine.here("ray", "numpy")
    with ProcessPoolExecutor(given.jobs) as pool:
        waiting = [
            pool.submit(measure, trace, float(cold), given.days, given.world_cup)
            for cold in given.cold_start.split(",")
            for trace in traces
        ]
        found = []
        for each in waiting:
            found.append(each.result())
            print(f"{found[-1]['trace']}, start {found[-1]['cold_start_s']:.0f} s: done", file=sys.stderr, flush=True)
    table = report(found, machine)
    print(table)
    for what, value in table.facts.items():
        print(f"{what}: mean {value['mean']:.2f}, worst {value['worst']:.2f}, not as cheap: {value['dearer']}")
    print(f"the rivals' targets: {TARGETS[0]:.2f} to {TARGETS[-1]:.2f}")
    if given.json is not None:
        table.facts["curves"] = [{**each, **{rival: envelope(each[rival]) for rival in RIVALS}} for each in found]
        given.json.write_text(table.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
