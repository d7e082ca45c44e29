"""The soak itself: a Balance of its own, its tasks, and so many ``kill -9`` while they run."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.visits import options, tell
from soak.effects import Traces, prepare
from soak.killer import EXECUTOR, Kill, Killer, answer_s, begun_s
from soak.leaks import held, leaked
from soak.submitter import Submitter
from soak.verdict import Verdict
from soak.workload import due, items

GAP_S_MAX = 0.3
OVERLAP = 0.2
"""The share of kills after which the next one does not wait for an answer."""

OUTCOMES_S = 240.0


def churn(stop: threading.Event) -> dict[str, int]:
    """Reserve and release, over and over, until told to stop; return how often each was answered how."""
    import ray

    answers: dict[str, int] = {}
    number = 0
    while not stop.wait(0.05):
        number += 1
        allocator = ray.get_actor("resource_allocator", namespace="balance")
        for demand in ({"memory": 2**20} if number % 2 else {"cpu": 0.25}, {}):
            answer = ray.get(allocator.reserve.remote(f"soak-{number}", demand), timeout=120)
            answers[answer["status"]] = answers.get(answer["status"], 0) + 1
    return answers


def strike_all(given: dict[str, Any], submitter: Submitter) -> tuple[list[Kill], list[Future[float]]]:
    """Make the kills, each on a system that has work to do; return them and how long each role took to answer."""
    killer = Killer(given["seed"])
    kills: list[Kill] = []
    answers: list[Future[float]] = []
    with ThreadPoolExecutor(8) as watchers:
        while len(kills) < given["kills"]:
            submitter.want(due(len(kills), given["kills"], given["tasks"]))
            time.sleep(killer.rng.uniform(0.0, GAP_S_MAX))
            kill = killer.strike()
            if kill is None:
                continue
            kills.append(kill)
            if kill.role != EXECUTOR:
                answers.append(watchers.submit(answer_s, kill))
                if killer.rng.random() >= OVERLAP:
                    answers[-1].exception()
    submitter.want(given["tasks"])
    return kills, answers


def recoveries(kills: list[Kill], answers: list[Future[float]], traces: Traces) -> dict[str, dict[str, list[float]]]:
    """Return, by role, after how many seconds each kill was answered for, and after how many the next task began."""
    found: dict[str, dict[str, list[float]]] = {}
    waiting = iter(answers)
    for kill in kills:
        mine = found.setdefault(kill.role, {"answer_s": [], "begun_s": []})
        if kill.role != EXECUTOR:
            mine["answer_s"].append(next(waiting).result())
        if (seconds := begun_s(kill, traces.begun_at)) is not None:
            mine["begun_s"].append(seconds)
    return found


@contextlib.contextmanager
def kept(folder: str) -> Iterator[str]:
    """Use a folder that stays, to look into afterwards."""
    Path(folder).mkdir(parents=True)
    yield folder


def main() -> None:
    """Run it and say what came of it."""
    from actors.system import System
    from balance import Client
    from balance.config import Settings

    given = options()
    chosen = items(given["tasks"], given["seed"])
    once = frozenset(item.task_id for item in chosen if item.kind == "once")
    with kept(given["keep"]) if given["keep"] else tempfile.TemporaryDirectory(prefix="bal-") as name:
        folder = Path(name)
        prepare(folder)
        system = System.launch(Settings(state_dir=str(folder / "state")), dashboard=False)
        try:
            before = held()
            began = time.monotonic()
            with Client() as client, ThreadPoolExecutor(1) as beside:
                stop = threading.Event()
                churning = beside.submit(churn, stop)
                submitter = Submitter(client, chosen, name)
                try:
                    kills, answers = strike_all(given, submitter)
                    stop.set()
                    outcomes = submitter.outcomes(OUTCOMES_S)
                finally:
                    stop.set()
                    submitter.end()
                took = time.monotonic() - began
                traces = Traces.of(folder)
                verdict = Verdict.of(outcomes, once, traces)
                tell(
                    verdict=verdict.to_dict(),
                    kills={role: sum(kill.role == role for kill in kills) for role in sorted({k.role for k in kills})},
                    recovery_s=recoveries(kills, answers, traces),
                    churn=churning.result(),
                    leaked=leaked(before),
                    total_s=took,
                )
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
