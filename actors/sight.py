"""What the balancer sees: the answers of the other actors, put together as the snapshot that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from actors.model_coordinator import reservation_of
from actors.starts import Starts
from balance.planning import DataNeed, DemandForecast, HostState, ModelState, SchedulerState, Snapshot
from balance.planning.sharing import fits
from balance.types import NOTHING, Resources

FORECAST_STEPS_S = (1.0, 2.0, 10.0, 20.0, 60.0, 120.0, 600.0, 1200.0, 3600.0)
"""Steps that forecasts may have: those that the tiers of the history divide well."""

PEAK_STEPS = 5
"""Over so many steps, which are a tick, the highest rate of arrivals is taken: a single step is mostly chance."""

Observed = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What the balancer knows beside what was observed: replicas and forecasts by model, starts, nodes asked for."""

    replicas: Mapping[str, int]
    forecasts: Mapping[str, Mapping[str, Any]]
    starts: Starts
    nodes_asked: tuple[tuple[Resources, int], ...] = ()
    autoscaling: bool = False


def snapshot_of(tick: int, at: float, observed: Observed, known: Known, step_s: float) -> Snapshot:
    """Return the snapshot that a tick plans from.

    Parameters
    ----------
    tick : int
        Which it is.
    at : float
        When, POSIX seconds.
    observed : mapping
        What `monitoring` has observed, in steps of `step_s` seconds.
    known : Known
        The rest.
    """
    cluster = observed["resource_allocator"]["cluster"]
    queue = observed.get("scheduler", {}).get("queue", {})
    total, free = _resources(cluster, "total"), _resources(cluster, "available")
    free += _idle_leases(observed.get("scheduler", {}).get("leases", {}))
    data = observed.get("data_coordinator", {})
    models = tuple(
        _model(model_id, figures, observed, known, free, step_s)
        for model_id, figures in sorted(observed["batches"]["models"].items())
    )
    return Snapshot(
        tick,
        at,
        total=total,
        free=free,
        models=models,
        scheduler=SchedulerState(queue.get("queued", 0), queue.get("running", 0), queue.get("oldest_queued_s", 0.0)),
        hosts=(
            HostState(
                "cluster",
                _share(cluster["used"]["cpu"], cluster["total"]["cpu"]),
                _share(cluster["used"]["memory"], cluster["total"]["memory"]),
            ),
        ),
        data_free_bytes=int(data.get("usage", {}).get("free_bytes", 0)),
        autoscaling=known.autoscaling,
        nodes_asked=known.nodes_asked,
    )


def _model(  # noqa: PLR0917 (what a model is, and what is known of it)
    model_id: str, figures: Observed, observed: Observed, known: Known, free: Resources, step_s: float
) -> ModelState:
    counts = observed["arrivals"].get(model_id) or []
    demand, replicas = Resources.from_dict(figures["demand"]), known.replicas.get(model_id, 0)
    ready = _loaded(model_id, observed).get("ready")
    return ModelState(
        model_id,
        priority=figures["priority"],
        demand=demand,
        objective_s=figures["objective_s"],
        queued=figures["queued"],
        running=figures["running"],
        oldest_wait_s=max(0.0, figures["oldest_wait_s"]),
        arrivals=tuple(value for value in counts if value is not None),
        step_s=step_s,
        forecast=_forecast(known.forecasts.get(model_id)),
        service_s=figures["service_s"],
        service_p90_s=figures["service_p90_s"],
        batch_size=max(1.0, figures["batch_size"]),
        cold_start_s=_cold_start_s(model_id, observed, known, free, step_s),
        replicas=replicas,
        starting=0 if ready is None else max(0, replicas - ready),
        parallelism=figures["parallelism"],
        boosted_to=figures["boosted_to"],
        batch_window_s=figures["window_s"],
        admission_per_s=figures["admission_per_s"],
        data=_data(model_id, observed),
    )


def _loaded(model_id: str, observed: Observed) -> Mapping[str, Any]:
    """Return what is known of the executors that have a model loaded; nothing where they are not made ready ahead."""
    models = observed.get("scheduler", {}).get("pool", {}).get("models", {})
    found: Mapping[str, Any] = models.get(reservation_of(model_id), {})
    return found


def _cold_start_s(model_id: str, observed: Observed, known: Known, free: Resources, step_s: float) -> float:
    """Return how long one more replica would take: an executor with its code, and a node where there is no room.

    Nodes take longer than executors, so they have to be asked for while there is still room for the next replica: what
    counts is whether there is room for as many as the arrivals that are known of have needed at most.  Room that is
    there because nodes were asked for does not count, or the horizon would become short whenever they have come.
    """
    usual_s = observed.get("scheduler", {}).get("pool", {}).get("executor_start_s")
    start_s = known.starts.replica_s(model_id, _loaded(model_id, observed).get("starts_s", ()), usual_s)
    if not known.autoscaling:
        return start_s
    figures = observed["batches"]["models"][model_id]
    if known.nodes_asked or figures["service_s"] is None:
        return start_s + known.starts.node_s
    peak_per_s = peak_rate(observed["arrivals"].get(model_id) or (), step_s)
    more = max(1, ceil(peak_per_s * figures["service_s"]) - known.replicas.get(model_id, 0))
    has_room = fits(Resources.from_dict(figures["demand"]), free, more) == more
    return start_s if has_room else start_s + known.starts.node_s


def peak_rate(counts: Sequence[float | None], step_s: float) -> float:
    """Return the highest rate, in requests a second, of any `PEAK_STEPS` steps in a row; None is not known.

    Examples
    --------
    >>> peak_rate([None, 0, 0, 10, 0, 0, 0, 0, 2], step_s=2.0), peak_rate([], 1.0)
    (1.0, 0.0)
    """
    known = [count or 0.0 for count in counts]
    sums = (sum(known[at : at + PEAK_STEPS]) for at in range(max(1, len(known) - PEAK_STEPS + 1)))
    return max(sums) / (PEAK_STEPS * step_s)


def _data(model_id: str, observed: Observed) -> tuple[DataNeed, ...]:
    """Return the data that this model uses, with when it will be wanted again."""
    resident = observed.get("data_coordinator", {}).get("data", {})
    needs = []
    for data_id, use in sorted(observed["batches"]["data"]["uses"].items()):
        if use["model_id"] == model_id and data_id in resident:
            entry = resident[data_id]
            needs.append(
                DataNeed(
                    data_id,
                    int(entry["size_bytes"]),
                    resident=entry["state"] in {"cached", "held"} and not use["aged"],
                    fetching=entry["state"] == "fetching",
                    next_use_at=use["next_use_at"],
                    fetch_s=use["fetch_s"],
                    share=use["share"],
                    max_age_s=use["max_age_s"],
                )
            )
    return tuple(needs)


def forecast_step_s(reach_s: float, steps: int) -> float:
    """Return the step of forecasts that are to reach so far: half of their steps, since they get half as old.

    Examples
    --------
    >>> forecast_step_s(11.0, 24), forecast_step_s(100.0, 24), forecast_step_s(1e9, 24)
    (1.0, 10.0, 3600.0)
    """
    return next((step for step in FORECAST_STEPS_S if step * steps / 2 >= reach_s), FORECAST_STEPS_S[-1])


def _forecast(made: Mapping[str, Any] | None) -> DemandForecast | None:
    if made is None or not made["point"]:
        return None
    low, middle, high = (tuple(made["quantiles"][name]) for name in ("0.1", "0.5", "0.9"))
    return DemandForecast(made["starts_at"], made["step_s"], low, middle, high, made["method"], made["status"])


def _resources(cluster: Observed, kind: str) -> Resources:
    amounts = cluster[kind]
    cpu, memory, gpu = (max(0.0, amounts[name] or 0.0) for name in ("cpu", "memory", "gpu"))
    return Resources.capacity(cpu, memory, gpu)


def _idle_leases(leases: Observed) -> Resources:
    """Return what the scheduler holds and does not use: it gives it back when somebody asks."""
    idle = NOTHING
    for node in leases.values():
        idle += Resources.from_dict(node["held"]) - Resources.from_dict(node["used"])
    return idle


def _share(part: float | None, whole: float | None) -> float:
    return min(1.0, max(0.0, part / whole)) if part and whole else 0.0
