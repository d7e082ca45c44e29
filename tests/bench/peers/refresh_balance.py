"""Balance with a thousand recorded series: how long learning them all anew takes, and what the control tick feels."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
from harness.visits import options, tell

TICK_S = 0.5
STEP_S, HORIZON = 600.0, 24
DAY = round(86_400 / STEP_S)
LONG, SHORTEST = 14 * DAY, 50
MODELS = 3
NEW = 6
"""Steps of each series that are recorded between its first forecast and the refresh: an hour."""
COLD_S = 100.0
"""By when each series has to have its first forecast."""


def rates(rng: np.random.Generator, short: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the counts of one model: a day's and a week's shape, a level that wanders, Poisson noise."""
    steps = np.arange(int(rng.integers(SHORTEST, 300)) if short else LONG)
    phase, depth = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.1, 1.2)
    week = 1 - rng.uniform(0, 0.6) * (steps // DAY % 7 >= 5)
    level = np.exp(rng.uniform(0, 6) + np.cumsum(rng.normal(0, 0.01, len(steps))))
    shape = np.exp(
        depth * np.sin(2 * np.pi * steps / DAY + phase[0]) + 0.3 * np.sin(4 * np.pi * steps / DAY + phase[1])
    )
    return rng.poisson(level * week * shape).astype(float)


def write_history(url: str, series: int, seed: int) -> list[tuple[str, float, float]]:
    """Write recorded series into the state of a Balance that does not run yet: a tenth of them are short.

    Returns
    -------
    list of (str, float, float)
        What comes later of them: series, POSIX second, count.
    """
    from actors.chronicle import SERIES
    from actors.monitoring import ARRIVALS
    from balance.storage import Store
    from balance.timeseries.history import DEFAULT_TIERS
    from balance.timeseries.tier import Tier

    rng, store = np.random.default_rng(seed), Store(url)
    last = int(time.time() // STEP_S) - 1
    bodies, later = {}, []
    for number in range(series):
        counts = rates(rng, short=number % 10 == 0)
        tiers = [Tier(step_s, bins) for step_s, bins in DEFAULT_TIERS]
        coarse = next(tier for tier in tiers if tier.step_s == STEP_S)
        for back, count in enumerate(counts[: -NEW - 1 : -1]):
            later.append((f"{ARRIVALS}series-{number:04}", (last - back) * STEP_S, float(count)))
        for back, count in enumerate(counts[:-NEW][::-1], NEW):
            coarse.merge(last - back, 1.0, count, count, count)
        for tier in tiers[: tiers.index(coarse)]:
            tier.add((last - NEW) * STEP_S, float(counts[-NEW - 1]))
        bodies[f"{ARRIVALS}series-{number:04}"] = {"round": 0, "tiers": [tier.snapshot() for tier in tiers]}
    with store.transaction(store.acquire("bench")) as tx:
        tx.put_many(SERIES, bodies)
    store.close()
    return later[::-1]


class Quick:
    """A model that answers at once."""

    def needs(self, request: dict[str, Any]) -> list[str]:
        """Ask for nothing."""
        return []

    def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[int]:
        """Answer."""
        return [len(request["text"]) for request in requests]


def main() -> None:
    """Launch, measure ticks without a refresh, during one (cold, then warm), and without again."""
    import ray

    from actors.system import System
    from balance.config import Settings

    given = options()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state_dir=folder, tick_s=TICK_S, forecast_cpu_share=given["cpu_share"])
        settings.writable_state_dir()
        later = write_history(settings.database_url(), given["series"], given["seed"])
        system = System.launch(settings, num_cpus=2, dashboard=False)
        try:
            ask = lambda role, method, *args: ray.get(  # noqa: E731
                getattr(ray.get_actor(role, namespace="balance"), method).remote(*args), timeout=600
            )
            for number in range(MODELS):
                ask("model_coordinator", "register_model", f"model-{number}", 0.25, 0, 2)
                ask("batches", "deploy_model", f"model-{number}", Quick())
            measure(given, ask, later)
        finally:
            system.end()


def measure(given: dict[str, Any], ask: Any, later: list[tuple[str, float, float]]) -> None:
    """Tell the ticks of each phase, and what the refreshes took."""

    def traffic(until: float) -> None:
        while time.monotonic() < until:
            ask("batches", "submit_requests", [{"model_id": f"model-{n}", "text": "hello"} for n in range(MODELS)])
            time.sleep(0.2)

    def ticks(since: int) -> dict[str, Any]:
        stats = ask("balancer", "stats")
        count = stats["tick"] - since
        return {"late_s": stats["late_s"][-count:], "took_s": stats["took_s"][-count:], "tick": stats["tick"]}

    traffic(time.monotonic() + 5.0)
    first = ask("balancer", "stats")["tick"]
    traffic(time.monotonic() + given["quiet_s"])
    quiet = ticks(first)
    handle = ray_handle("prediction")
    began = time.monotonic()
    ask("prediction", "rates", STEP_S, HORIZON)
    while len(ask("prediction", "rates", STEP_S, HORIZON)) < given["series"]:
        traffic(time.monotonic() + 0.5)
        if time.monotonic() - began > COLD_S:
            raise TimeoutError(f"not all series were forecast within {COLD_S:g} s: {ask('prediction', 'stats')}")
    cold_s = time.monotonic() - began
    ask("monitoring", "record", later)
    between = ask("balancer", "stats")["tick"]
    pending = handle.refresh.remote(STEP_S, HORIZON)
    refreshed = None
    while refreshed is None:
        traffic(time.monotonic() + 0.5)
        refreshed = done(pending)
    during = ticks(between)
    traffic(time.monotonic() + 3.0)
    last = ask("balancer", "stats")["tick"]
    traffic(time.monotonic() + given["quiet_s"])
    after = ticks(last)
    stats = ask("prediction", "stats")
    tell(
        cold_s=cold_s,
        refreshed=refreshed,
        ticks={"quiet before": quiet, "refresh": during, "quiet after": after},
        failed=stats["failed"],
        cores=stats["cores"],
        fitters=len(stats["fitters"]),
    )


def ray_handle(role: str) -> Any:
    """Return an actor's handle."""
    import ray

    return ray.get_actor(role, namespace="balance")


def done(reference: Any) -> Any:
    """Return what a reference stands for if that is there by now."""
    import ray

    ready, _ = ray.wait([reference], timeout=0)
    return ray.get(ready[0]) if ready else None


if __name__ == "__main__":
    main()
