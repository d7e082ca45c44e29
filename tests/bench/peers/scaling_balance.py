"""Balance with a model that takes seconds to load: three ways of deciding how many replicas it has, in turn."""

from __future__ import annotations

import math
import tempfile
import time
from typing import Any

from harness.drive import arrivals, drive
from harness.visits import options, tell

TICK_S, CORES, MOST = 1.0, 8, 6
SERVICE_S, OBJECTIVE_S, LOAD_S = 0.5, 2.0, 5.0
PAST = 12
TARGET, DOWN_S = 0.8, 6.0
"""Of the rival: requests under way for each replica, and how long fewer have to be needed."""


class Loads:
    """A model whose weights take seconds to load, in each process anew."""

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


def rates(periods: int, period: int) -> list[float]:
    """Return the requests a second in each second: a smooth day with a steep morning."""
    day = [(second % period) / period for second in range(periods * period)]
    return [1.0 + (6.5 if 0.5 <= phase < 0.9 else 0.0) for phase in day]


class Utilisation:
    """So many replicas that each has its target of requests under way; fewer only after a while."""

    def __init__(self) -> None:
        self._wanted: list[tuple[float, int]] = []

    def replicas(self, at: float, under_way: float) -> int:
        """Return how many there shall be."""
        needed = min(MOST, max(1, math.ceil(under_way / TARGET)))
        self._wanted = [(when, count) for when, count in self._wanted if at - when < DOWN_S] + [(at, needed)]
        return max(count for _, count in self._wanted)


def play(ask: Any, ray: Any, who: str, given: dict[str, Any]) -> None:
    """Let one way of deciding live through the periods, and tell what became of it."""
    model, period, rival = f"model-{who}", given["period_s"], Utilisation()
    led = who if who in {"forecast", "reactive"} else "reactive"
    bounds = {"min_replicas": 0, "max_replicas": MOST}
    ask("balancer", "set_policy", lead=led, lend=False, season_s=float(period), coverage=given["coverage"], **bounds)
    ask("model_coordinator", "register_model", model, 1.0, 0, 2)
    past, now = rates(PAST, period), int(time.time())
    ask("monitoring", "record", [(f"arrivals/{model}", float(now - len(past) + at), v) for at, v in enumerate(past)])
    ask("batches", "deploy_model", model, Loads(), objective_s=OBJECTIVE_S, batch_max=1)
    replicas: list[tuple[float, int]] = []

    def look(at: float) -> None:
        if who == "utilisation":
            stats = ask("batches", "stats_only")["models"][model]
            count = rival.replicas(at, stats["queued"] + stats["running"])
            ask("balancer", "set_policy", min_replicas=count, max_replicas=count)
        replicas.append((at, ask("balancer", "stats")["replicas"].get(model, 0)))

    made = drive(ray, model, arrivals(rates(given["periods"], period), given["seed"]), look)
    stats = ask("balancer", "stats")
    tell(
        who=who,
        sent=made.sent,
        missed=made.missed(OBJECTIVE_S),
        failed=made.failed,
        latency_s=made.latency_s,
        replicas=replicas,
        cold_start_s=stats["cold_start_s"].get(model),
    )
    ask("balancer", "set_policy", **bounds)
    ask("batches", "undeploy_model", model)
    until = time.monotonic() + 20.0
    while ask("balancer", "stats")["replicas"].get(model, 0) and time.monotonic() < until:
        time.sleep(0.5)


def main() -> None:
    """Start Balance and let each play, with a model of its own."""
    import ray

    from actors.system import System
    from balance.config import Settings

    given = options()
    with tempfile.TemporaryDirectory() as folder:
        system = System.launch(Settings(state_dir=folder, tick_s=TICK_S), num_cpus=CORES, dashboard=False)

        def ask(role: str, method: str, *args: Any, **kwargs: Any) -> Any:
            actor = ray.get_actor(role, namespace="balance")
            return ray.get(getattr(actor, method).remote(*args, **kwargs), timeout=60)

        try:
            for who in ("utilisation", "reactive", "forecast"):
                play(ask, ray, who, given)
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
