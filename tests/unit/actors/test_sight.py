"""What the balancer makes of the other actors' answers."""

from __future__ import annotations

from typing import Any

from actors.sight import Known, snapshot_of
from actors.starts import Starts
from balance.types import Resources

CLUSTER = {
    kind: {"cpu": cores, "memory": 8e9, "gpu": 0.0}
    for kind, cores in (("total", 2.0), ("available", 0.0), ("used", 1.0))
}


def observed(**pool: Any) -> dict[str, Any]:
    """Return what `monitoring` would have observed of one model on two busy cores."""
    figures = {
        "priority": 2, "demand": Resources.demand(cpu=1).to_dict(), "objective_s": 2.0, "queued": 3, "running": 1,
        "oldest_wait_s": 0.5, "service_s": 0.5, "service_p90_s": 0.6, "batch_size": 1.0, "parallelism": 2,
        "boosted_to": None, "window_s": 0.0, "admission_per_s": None,
    }  # fmt: skip
    return {
        "resource_allocator": {"cluster": CLUSTER},
        "batches": {"models": {"m": figures}, "data": {"uses": {}}},
        "scheduler": {"pool": pool},
        "arrivals": {"m": [None, 1.0, 2.0]},
    }


def known(**more: Any) -> Known:
    """Return that the model has three replicas, and no forecast."""
    return Known({"m": 3}, {}, Starts(), **more)


def test_replicas_that_have_not_loaded_are_starting() -> None:
    """Reserved is not ready: executors that load are told apart, where any are made ready ahead."""
    seen = observed(models={"model:m": {"ready": 1, "starts_s": [2.0, 5.0]}}, executor_start_s=0.5)
    model = snapshot_of(1, 100.0, seen, known(), 1.0).models[0]
    assert (model.replicas, model.starting, model.cold_start_s) == (3, 2, 5.0)
    assert model.arrivals == (1.0, 2.0)
    unready = snapshot_of(1, 100.0, observed(executor_start_s=0.5), known(), 1.0).models[0]
    assert (unready.starting, unready.cold_start_s) == (0, 0.5)


def test_where_there_is_no_room_a_node_has_to_start_first() -> None:
    """The start of a node is on top where an autoscaler listens and nothing is free; not where there is none."""
    starts = Starts()
    starts.asked(0.0, cores=4.0)
    starts.look(7.0, cores=4.0)
    with_node = Known({"m": 3}, {}, starts, autoscaling=True)
    without = Known({"m": 3}, {}, starts)
    assert snapshot_of(1, 100.0, observed(executor_start_s=0.5), with_node, 1.0).models[0].cold_start_s == 7.5
    assert snapshot_of(1, 100.0, observed(executor_start_s=0.5), without, 1.0).models[0].cold_start_s == 0.5


def test_room_for_the_next_replica_is_not_room_for_the_known_peak() -> None:
    """Nor is room that is there because it was asked for: the horizon stays as long as the start of a node."""
    starts = Starts()
    starts.asked(0.0, cores=4.0)
    starts.look(7.0, cores=4.0)
    seen = observed(executor_start_s=0.5)
    seen["arrivals"] = {"m": [10.0] * 5 + [0.0] * 20}  # five replicas' worth of work, a while ago
    asked = ((Resources.demand(cpu=1), 5),)
    for available, nodes_asked, cold_start_s in ((1.0, (), 7.5), (2.0, (), 0.5), (2.0, asked, 7.5)):
        free = {"cpu": available, "memory": 8e9, "gpu": 0.0}
        seen["resource_allocator"] = {"cluster": CLUSTER | {"available": free}}
        made = snapshot_of(1, 100.0, seen, Known({"m": 3}, {}, starts, nodes_asked, autoscaling=True), 1.0)
        assert made.models[0].cold_start_s == cold_start_s
    seen["batches"]["models"]["m"]["service_s"] = None
    made = snapshot_of(1, 100.0, seen, Known({"m": 3}, {}, starts, autoscaling=True), 1.0)
    assert made.models[0].cold_start_s == 7.5, "how many it will need is not known"


def test_an_old_forecast_is_told_as_such() -> None:
    """A forecast keeps the moments that it is about, and its status: `stale` is not acted upon."""
    made = {
        "point": [1.0], "quantiles": {"0.1": [0.0], "0.5": [1.0], "0.9": [2.0]}, "step_s": 10.0, "starts_at": 60.0,
        "method": "naive", "status": "stale", "age_s": 40.0,
    }  # fmt: skip
    model = snapshot_of(1, 100.0, observed(), Known({}, {"m": made}, Starts()), 1.0).models[0]
    assert model.forecast is not None and (model.forecast.made_at, model.forecast.status) == (60.0, "stale")


def test_what_a_model_uses_is_seen_with_its_share_and_age() -> None:
    """What the planner needs to have data there in time; what is aged is not within reach."""
    seen = observed(executor_start_s=0.5)
    use = {"model_id": "m", "next_use_at": None, "share": 0.4, "fetch_s": 3.0, "max_age_s": 60.0, "aged": True}
    seen["batches"]["data"]["uses"] = {"d": use, "other's": use | {"model_id": "n"}, "gone": use}
    entry = {"state": "cached", "size_bytes": 10}
    seen["data_coordinator"] = {"data": {"d": entry, "other's": entry}, "usage": {"free_bytes": 100}}
    [need] = snapshot_of(1, 100.0, seen, known(), 1.0).models[0].data
    assert (need.data_id, need.share, need.fetch_s, need.max_age_s, need.resident) == ("d", 0.4, 3.0, 60.0, False)
