"""The history of a run, gathered from the actors and the store, in the form that `actors.report` draws."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from typing import Any

import psutil
import ray

from actors import NAMESPACE
from balance import __version__
from balance.clock import iso
from balance.config import Settings
from balance.storage import Store

DECISIONS = 10_000


def history_of(settings: Settings, started_at: float, *, title: str, command: str) -> dict[str, Any]:
    """Return the history of a run that began at `started_at` (POSIX seconds); see `actors.report` for its form."""
    recorded = _ask("monitoring", "recorded", started_at)
    decisions = [entry for entry in _ask("balancer", "decisions", DECISIONS) if entry["at_s"] >= started_at]
    decisions.reverse()
    models = _ask("batches", "stats_only")["models"]
    data = _ask("data_coordinator", "stats")
    failures = _ask("batches", "failures")
    store = Store(settings.database_url())
    try:
        conservation = store.conservation()
        with store.reading() as tx:
            by_model = tx.requests.counts_by_model()
            latencies = {
                name: sorted(row["latency_s"] for row in tx.requests.latencies(since=started_at, model_id=name))
                for name in models
            }
    finally:
        store.close()
    records = recorded["records"]
    return {
        "title": title,
        "command": command,
        "started_at": iso(started_at),
        "duration_s": (records[-1]["at"] - started_at) if records else 0.0,
        "conservation": conservation,
        "models": [
            {
                "model_id": name,
                "priority": model["priority"],
                "objective_s": model["objective_s"],
                **by_model.get(name, {}),
                "executed": model["executed"],
                "latency_s": {f"p{share}": _quantile(latencies[name], share) for share in (50, 95, 99)},
            }
            for name, model in sorted(models.items(), key=lambda item: (item[1]["priority"], item[0]))
        ],
        "demand": _demand(recorded["arrivals"], decisions, started_at),
        "queue": _queue(records, started_at),
        "start_latency": {str(priority): _latency(values) for priority, values in recorded["start_latency"].items()},
        "usage": _usage(records, started_at),
        "actions": _actions(decisions, started_at),
        "data": _data(data["counts"]),
        "errors": _errors(recorded["problems"], decisions, failures, started_at),
        "environment": _environment(),
    }


def _ask(role: str, method: str, *args: Any) -> Any:
    return ray.get(getattr(ray.get_actor(role, namespace=NAMESPACE), method).remote(*args), timeout=60)


def _demand(
    arrivals: dict[str, list[list[float]]], decisions: list[dict[str, Any]], started_at: float
) -> dict[str, dict[str, list[float]]]:
    demand: dict[str, dict[str, list[float]]] = {}
    for model_id, points in sorted(arrivals.items()):
        drawn: dict[str, list[float]] = {
            "t_s": [at - started_at + 0.5 for at, _count in points],
            "actual_per_s": [count for _at, count in points],
            **{name: [] for name in ("forecast_t_s", "q10_per_s", "q50_per_s", "q90_per_s")},
        }
        for entry in decisions:
            forecast = entry["forecasts"].get(model_id)
            if forecast is not None:
                drawn["forecast_t_s"].append(entry["at_s"] - started_at + forecast["step_s"] / 2)
                for quantile in ("q10", "q50", "q90"):
                    drawn[f"{quantile}_per_s"].append(forecast[quantile])
        demand[model_id] = drawn
    return demand


def _queue(records: list[dict[str, Any]], started_at: float) -> dict[str, Any]:
    priorities = sorted({name for record in records for name in record["queued_by_priority"]}, key=int)
    return {
        "t_s": [record["at"] - started_at for record in records],
        "by_priority": {name: [record["queued_by_priority"].get(name, 0) for record in records] for name in priorities},
    }


def _latency(values: list[float]) -> dict[str, Any]:
    ordered = sorted(values)
    return {"count": len(ordered), "p50_s": _quantile(ordered, 50), "p99_s": _quantile(ordered, 99)}


def _quantile(ordered: list[float], percent: int) -> float | None:
    """Return the smallest value with at least `percent` of all at or below it; None where there is none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None


def _usage(records: list[dict[str, Any]], started_at: float) -> dict[str, Any]:
    known = [record for record in records if "cluster" in record]
    usage: dict[str, Any] = {"t_s": [record["at"] - started_at for record in known]}
    for name, unit in (("cpu", "cores"), ("memory", "bytes")):
        usage[f"{name}_capacity_{unit}"] = known[-1]["cluster"]["total"][name] if known else None
        usage[f"{name}_reserved_{unit}"] = [record["cluster"]["reserved"][name] for record in known]
        usage[f"{name}_measured_{unit}"] = [record["cluster"]["used"][name] for record in known]
    return usage


def _actions(decisions: list[dict[str, Any]], started_at: float) -> list[dict[str, Any]]:
    return [
        {
            "t_s": entry["at_s"] - started_at,
            "action": action["kind"],
            "subject": action.get("data_id") or action.get("model_id") or "cluster",
            "reason": action["reason"],
        }
        for entry in decisions
        for action in entry["actions"]
    ]


def _data(counts: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    kinds: defaultdict[str, dict[str, int]] = defaultdict(lambda: {"requested": 0, "fetched": 0, "size_bytes": 0})
    for data_id, count in counts.items():
        kind = kinds[data_id.split("/", 1)[0]]
        kind["requested"] += count["requested"]
        kind["fetched"] += count["fetched"]
        kind["size_bytes"] += count["fetched_bytes"]
    return [{"source": name, **kind} for name, kind in sorted(kinds.items())]


def _errors(
    problems: list[dict[str, Any]],
    decisions: list[dict[str, Any]],
    failures: list[dict[str, Any]],
    started_at: float,
) -> list[dict[str, Any]]:
    errors = [
        {
            "t_s": problem["at"] - started_at,
            "where": problem["where"],
            "message": problem["message"],
            "count": problem["count"],
        }
        for problem in problems
    ]
    errors += [
        {
            "t_s": entry["at_s"] - started_at,
            "where": "balancer",
            "message": f"{failed['action']}: {failed['error']}",
            "count": 1,
        }
        for entry in decisions
        for failed in entry["failed"]
    ]
    errors += [
        {"t_s": failure["at"] - started_at, "where": failure["where"], "message": failure["message"], "count": 1}
        for failure in failures
    ]
    return sorted(errors, key=lambda error: float(error["t_s"]))


def _environment() -> dict[str, Any]:
    return {
        "balance": __version__,
        "ray": ray.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }
