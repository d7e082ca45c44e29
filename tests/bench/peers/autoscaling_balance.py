"""Balance on a cluster that grows: a model whose load needs more nodes than there are, every period anew."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from harness.drive import arrivals, drive, until_zero
from harness.fake_cluster import environment, fake_cluster, nodes_alive
from harness.visits import options, tell

TICK_S = 1.0
CORES, MOST_NODES, IDLE_S = 2, 3, 5.0
SERVICE_S, OBJECTIVE_S = 1.0, 3.0
LOW, HIGH, RISE = 0.3, 4.0, 0.6
"""Requests a second, and at which part of a period the load rises; it falls at its end."""

LEADS = ("reactive", "forecast")
PAST = 12
"""How many periods have been recorded when it begins."""


class Work:
    """A model that takes a second for each request."""

    def needs(self, request: dict[str, Any]) -> list[str]:
        """Ask for nothing."""
        return []

    def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[int]:
        """Answer, after the time that the work takes."""
        time.sleep(SERVICE_S * len(requests))
        return [1] * len(requests)


def rates(periods: int, period: int) -> list[float]:
    """Return the requests a second in each second."""
    return [HIGH if second % period >= RISE * period else LOW for second in range(periods * period)]


def play(ray: Any, ask: Any, lead: str, given: dict[str, Any], left: float) -> float:
    """Let one way of deciding live through the periods, and tell what became of it; return how many cores are left."""
    model, period = f"model-{lead}", given["period_s"]
    ask("balancer", "set_policy", lead=lead, lend=False, season_s=float(period), coverage=given["coverage"])
    ask("model_coordinator", "register_model", model, 1.0, 0, 2)
    ask("batches", "deploy_model", model, Work(), objective_s=OBJECTIVE_S, batch_max=1)
    past, now = rates(PAST, period), int(time.time())
    ask(
        "monitoring",
        "record",
        [(f"arrivals/{model}", float(now - len(past) + at), rate) for at, rate in enumerate(past)],
    )
    cores: list[tuple[float, float]] = []
    made = drive(
        ray,
        model,
        arrivals(rates(given["periods"], period), given["seed"]),
        lambda at: cores.append((at, sum(nodes_alive(ray).values()))),
    )
    stats = ask("balancer", "stats")
    tell(
        lead=lead,
        sent=made.sent,
        missed=made.missed(OBJECTIVE_S),
        failed=made.failed,
        latency_s=made.latency_s,
        cores=cores,
        rises=[(turn + RISE) * period for turn in range(given["periods"])],
        node_start_s=stats["node_start_s"],
        cold_start_s=stats["cold_start_s"].get(model),
        failures=stats["failures"],
        cores_left_before=left,
    )
    ask("batches", "undeploy_model", model)
    if lead == LEADS[-1]:
        return 0.0
    return until_zero(lambda: sum(nodes_alive(ray).values()) - CORES, timeout_s=45.0)


def main() -> None:
    """Start the cluster and Balance on it; the reactive rule first: the start of nodes is measured meanwhile."""
    given = options()
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as folder, fake_cluster(cores=CORES, most=MOST_NODES, idle_s=IDLE_S) as address:
        from actors.system import System
        from balance.config import Settings

        system = System.attach(Settings(state_dir=folder, tick_s=TICK_S, autoscaling=True), address, start_actors=True)
        import ray

        def ask(role: str, method: str, *args: Any, **kwargs: Any) -> Any:
            actor = ray.get_actor(role, namespace="balance")
            return ray.get(getattr(actor, method).remote(*args, **kwargs), timeout=60)

        try:
            left = 0.0
            for lead in LEADS:
                left = play(ray, ask, lead, given, left)
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
