"""Balance with a model that takes seconds to load: three ways of deciding how many replicas it has, in turn."""

from __future__ import annotations

import math
import tempfile
import time
from typing import Any

from harness.plays import Stage, day
from harness.visits import options, tell

TICK_S, CORES, MOST = 1.0, 8, 7
SERVICE_S, OBJECTIVE_S, LOAD_S = 0.5, 2.0, 4.0
LOAD = {"low": 1.0, "high": 7.5, "rise": 0.375, "fall": 0.7}
"""Requests a second, and between which parts of a period there are many."""

TARGET, DOWN_S = 0.8, 6.0
"""Of the rival: requests under way for each replica, and how long fewer have to be needed."""


class Loads:
    """A model whose weights take seconds to load, in each process anew.

    Executors keep what they have loaded for a minute, so each play has a model that is told from the others.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def needs(self, request: dict[str, Any]) -> list[str]:
        """Ask for nothing."""
        return []

    def load(self) -> None:
        """Load."""
        time.sleep(LOAD_S)

    def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[int]:
        """Answer, after the time that the work takes."""
        time.sleep(SERVICE_S * len(requests))
        return [1] * len(requests)


class Utilisation:
    """So many replicas that each has its target of requests under way; fewer only after a while."""

    def __init__(self) -> None:
        self._wanted: list[tuple[float, int]] = []

    def replicas(self, at: float, under_way: float) -> int:
        """Return how many there shall be."""
        needed = min(MOST, max(1, math.ceil(under_way / TARGET)))
        self._wanted = [(when, count) for when, count in self._wanted if at - when < DOWN_S] + [(at, needed)]
        return max(count for _, count in self._wanted)


def play(stage: Stage, who: str, turn: int, period_s: int) -> None:
    """Let one way of deciding live through a period, and tell what became of it."""
    name, rival = f"model-{who}-{turn}", Utilisation()
    replicas: list[tuple[float, int]] = []

    def look(at: float) -> None:
        if who == "utilisation":
            stats = stage.ask("batches", "stats_only")["models"][name]
            count = rival.replicas(at, stats["queued"] + stats["running"])
            stage.ask("balancer", "set_policy", min_replicas=count, max_replicas=count)
        if at >= 0:
            replicas.append((at, stage.ask("balancer", "stats")["replicas"].get(name, 0)))

    policy = {"lead": "reactive" if who == "utilisation" else who, "min_replicas": 0, "max_replicas": MOST}
    rates = day(period_s, **LOAD)
    made = stage.play(name, Loads(name), rates, objective_s=OBJECTIVE_S, policy=policy, look=look)
    tell(**made, who=who, replicas=replicas)


def main() -> None:
    """Start Balance and let each play, with a model of its own."""
    import ray

    from actors.system import System
    from balance.config import Settings

    given = options()
    with tempfile.TemporaryDirectory() as folder:
        system = System.launch(Settings(state_dir=folder, tick_s=TICK_S), num_cpus=CORES, dashboard=False)
        try:
            for turn in range(given["periods"]):
                for who in ("utilisation", "reactive", "forecast"):
                    play(Stage(ray, given), who, turn, given["period_s"])
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
