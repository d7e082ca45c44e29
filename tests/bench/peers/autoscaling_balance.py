"""Balance on a cluster that grows: a model whose load needs more nodes than there are, every period anew."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from harness.fake_cluster import environment, fake_cluster, nodes_alive
from harness.plays import Stage, day
from harness.visits import options, tell

TICK_S = 1.0
CORES, MOST_NODES, IDLE_S = 2, 2, 5.0
SERVICE_S, OBJECTIVE_S = 0.5, 3.0
LOAD = {"low": 0.6, "high": 6.0, "rise": 0.44, "fall": 0.84}
"""Requests a second, and between which parts of a period there are many."""

LEADS = ("reactive", "forecast")


class Work:
    """A model that takes half a second for each request; each play has one that no process has loaded before."""

    def __init__(self, name: str) -> None:
        self.name = name

    def needs(self, request: dict[str, Any]) -> list[str]:
        """Ask for nothing."""
        return []

    def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[int]:
        """Answer, after the time that the work takes."""
        time.sleep(SERVICE_S * len(requests))
        return [1] * len(requests)


def cores(ray: Any) -> float:
    """Return how many the cluster has."""
    return sum(nodes_alive(ray).values())


def all_nodes(stage: Stage, ray: Any) -> None:
    """Have the balancer ask for every node there can be, once: so it measures how long one takes."""
    most = CORES * (1 + MOST_NODES)
    stage.ask("model_coordinator", "register_model", "first", 1.0, 0, 2)
    stage.ask("balancer", "set_policy", min_replicas=most)
    stage.ask("batches", "deploy_model", "first", Work("first"), objective_s=OBJECTIVE_S, batch_max=1)
    stage.until(lambda: cores(ray) == most and stage.ask("balancer", "stats")["node_start_s"] > 0)
    stage.ask("balancer", "set_policy", min_replicas=0)
    stage.leave("first")


def play(stage: Stage, ray: Any, lead: str, given: dict[str, Any]) -> None:
    """Let one way of deciding live through the periods, and tell what became of it."""
    there: list[tuple[float, float]] = []

    def look(at: float) -> None:
        if at >= 0:
            there.append((at, cores(ray)))

    rates = day(given["period_s"], **LOAD) * given["periods"]
    made = stage.play(f"model-{lead}", Work(lead), rates, objective_s=OBJECTIVE_S, policy={"lead": lead}, look=look)
    turns = [turn * given["period_s"] for turn in range(given["periods"])]
    edges = {name: [turn + LOAD[name] * given["period_s"] for turn in turns] for name in ("rise", "fall")}
    tell(**made, who=lead, cores=there, rises=edges["rise"], falls=edges["fall"])


def main() -> None:
    """Start the cluster and Balance on it, and let each play, with a model of its own."""
    given = options()
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as folder, fake_cluster(cores=CORES, most=MOST_NODES, idle_s=IDLE_S) as address:
        from actors.system import System
        from balance.config import Settings

        system = System.attach(Settings(state_dir=folder, tick_s=TICK_S, autoscaling=True), address, start_actors=True)
        import ray

        try:
            stage = Stage(ray, given)
            all_nodes(stage, ray)
            for lead in LEADS:
                play(stage, ray, lead, given)
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
