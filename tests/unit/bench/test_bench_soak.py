"""The soak's own books: it sees what is lost, what happened twice, and it kills nobody else's process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from soak import killer
from soak.effects import Traces, act, prepare
from soak.killer import Kill, Killer, begun_s
from soak.submitter import Submitter
from soak.verdict import Outcome, Verdict
from soak.workload import due, items

BENCH = Path(__file__).parents[2] / "bench"


def traces(**begun: int) -> Traces:
    """Return traces of tasks that each made their effect once and began so often."""
    counts = Counter(begun)
    made = Counter(dict.fromkeys(begun, 1))
    return Traces(counts, made, counts - made, frozenset(begun), [])


def completed(*ids: str) -> dict[str, Outcome]:
    """Return outcomes of tasks that completed."""
    return {task_id: Outcome("completed", task_id) for task_id in ids}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which tasks can have their effects."""
    prepare(tmp_path)
    return tmp_path


class TestVerdict:
    """Each way in which a task can go missing or happen twice is seen."""

    def test_all_is_well(self):
        """Completed once, or twice where that is allowed, is no trouble."""
        verdict = Verdict.of(completed("a", "b"), frozenset({"b"}), traces(a=3, b=1))
        assert (verdict.lost, verdict.duplicate_effects, verdict.ran_twice, verdict.ran_again) == ([], [], [], 1)

    @pytest.mark.parametrize(
        "outcome",
        [Outcome("none"), Outcome("failed", reason="worker_lost"), Outcome("completed", "another's result")],
    )
    def test_a_task_that_ended_otherwise_is_lost(self, outcome: Outcome):
        """No outcome, a failure that is not its own, and a result that is not its own."""
        assert Verdict.of({"a": outcome}, frozenset(), traces(a=1)).lost == ["a"]

    def test_completed_without_an_effect_is_lost(self):
        """An answer alone proves nothing."""
        assert Verdict.of(completed("a"), frozenset(), traces()).lost == ["a"]

    def test_what_may_run_once_may_fail_but_not_run_twice(self):
        """A task that is not idempotent fails with its worker; it is never begun again."""
        outcomes = {"a": Outcome("failed", reason="worker_lost"), "b": Outcome("completed", "b")}
        verdict = Verdict.of(outcomes, frozenset("ab"), traces(a=1, b=2))
        assert (verdict.lost, verdict.ran_twice, verdict.reasons) == ([], ["b"], {"worker_lost": 1})

    def test_an_effect_made_twice_is_seen(self):
        """The log of effects is counted, not assumed."""
        twice = Traces(Counter(a=2), Counter(a=2), Counter(), frozenset("a"), [])
        assert Verdict.of(completed("a"), frozenset(), twice).duplicate_effects == ["a"]


class TestEffects:
    """What a task did is known whatever became of its process."""

    def test_a_killed_task_has_begun_and_its_successor_has_the_effect(self, folder: Path):
        """``kill -9`` takes back neither the log nor a count."""
        script = "import sys; from soak.effects import act; act(sys.argv[1], 'a', 60.0)"
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], env={**os.environ, "PYTHONPATH": str(BENCH)}
        ) as process:
            log = folder / "runs" / str(process.pid)
            while not (log.exists() and log.read_text(encoding="utf-8").endswith("\n")):
                os.sched_yield()
            process.send_signal(signal.SIGKILL)
        assert act(str(folder), "a", 0.0) == "a"
        found = Traces.of(folder)
        assert (found.begun["a"], found.made["a"], found.effects) == (2, 1, frozenset({"a"}))


class TestKiller:
    """Who is killed is one of ours."""

    def test_a_process_of_somebody_else_is_not_killed(self, monkeypatch: pytest.MonkeyPatch):
        """Whatever a ping says, a pid that does not descend from this process stays alive."""
        monkeypatch.setattr(Killer, "_executors", lambda self: [os.getppid()])
        monkeypatch.setattr(Killer, "_pids", staticmethod(lambda names: [os.getppid()]))
        monkeypatch.setattr(os, "kill", lambda *args: pytest.fail("killed"))
        with pytest.raises(RuntimeError, match="is not ours"):
            Killer(seed=1).strike()

    def test_a_child_is_killed_for_good(self, monkeypatch: pytest.MonkeyPatch):
        """The process is gone, and the kill says which it was."""
        with subprocess.Popen(["sleep", "60"]) as child:
            monkeypatch.setattr(Killer, "_executors", lambda self: [child.pid])
            monkeypatch.setattr(Killer, "_pids", staticmethod(lambda names: [child.pid]))
            kill = Killer(seed=1).strike()
            assert kill is not None and kill.pid == child.pid and kill.role in killer.ROLES
            assert child.wait(10) == -signal.SIGKILL

    def test_nobody_to_kill_is_no_kill(self, monkeypatch: pytest.MonkeyPatch):
        """A role that is just recovering is not struck again."""
        monkeypatch.setattr(Killer, "_executors", lambda self: [])
        monkeypatch.setattr(Killer, "_pids", staticmethod(lambda names: []))
        assert Killer(seed=1).strike() is None

    def test_work_goes_on_elsewhere_or_with_the_next_scheduler(self):
        """What the dead scheduler's executors still do is no recovery, and none at all is none."""
        begun_at = [(4.0, 2), (5.5, 2), (7.0, 3)]
        assert begun_s(Kill("executor", 1, 5.0), begun_at) == 0.5
        assert begun_s(Kill("executor", 2, 5.0), begun_at) == 2.0
        assert begun_s(Kill("scheduler", 1, 5.0), begun_at) == 2.0
        assert begun_s(Kill("scheduler", 1, 8.0), begun_at) is None


class Client:
    """A client that runs everything at once, or drops it."""

    def __init__(self, drop: str = "") -> None:
        self.drop = drop

    def options(self, **options: Any) -> Client:
        return self

    def submit_many(self, calls: list[Any], *, ids: list[str], priorities: list[int]) -> list[Future[Any]]:
        futures = []
        for (function, args, _), task_id in zip(calls, ids, strict=True):
            future: Future[Any] = Future()
            if task_id != self.drop:
                future.set_result(function(*args))
            futures.append(future)
        return futures

    def wait(self, futures: list[Future[Any]], timeout: float) -> None:
        del timeout


@pytest.mark.parametrize("dropped", ["", "soak-00003"])
def test_the_soak_finds_exactly_what_was_dropped(folder: Path, dropped: str):
    """From the first task to the verdict, with a client that loses one task or none."""
    chosen = [replace(item, run_s=0.0) for item in items(60, seed=3) if item.kind != "coordinator"]
    assert dropped in {"", *(item.task_id for item in chosen)}
    submitter = Submitter(Client(dropped), chosen, str(folder))
    submitter.want(len(chosen))
    outcomes = submitter.outcomes(timeout_s=10)
    submitter.end()
    once = frozenset(item.task_id for item in chosen if item.kind == "once")
    verdict = Verdict.of(outcomes, once, Traces.of(folder))
    assert verdict.tasks == len(chosen) and verdict.lost == [dropped] * bool(dropped)


def test_a_submitter_that_is_ended_submits_no_more(folder: Path):
    """The bench ends even when it failed half-way."""
    submitter = Submitter(Client(), items(60, seed=3), str(folder))
    submitter.end()
    assert submitter.submitted == 0


def test_work_lasts_until_the_last_kill():
    """Before every kill there are tasks that were not submitted before the one before it."""
    counts = [due(strikes, 200, 20_000) for strikes in range(201)]
    assert counts[0] > 0 and counts[-1] == 20_000 and all(b > a for a, b in pairwise(counts))
