"""Executors on a real Ray: chunks, what may happen to one in the middle of it, devices, memory, results."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from balance.client.wire import Function

pytestmark = pytest.mark.cluster

QUICK = {"lost": 1, "base_s": 0.01}
"""A retry policy with little patience."""

MIB = 2**20


class Work:
    """Submits tasks that stand in one line, and lets none of them start before all are there."""

    def __init__(self, cluster: Any, unique: Callable[[str], str], folder: Path) -> None:
        self.cluster = cluster
        self.unique = unique
        self.gate = folder / unique("gate")
        self.name = unique("work")
        self.whole = cluster.ray.cluster_resources()["CPU"]

    def submit(self, calls: dict[str, Callable[..., Any]], **options: Any) -> None:
        """Queue one task for each entry; those that are short and alike run as chunks."""
        demand, name = options.pop("demand", {"cpu": 0.5}), options.pop("name", self.name)
        requests = []
        for task_id, function in calls.items():
            sent = Function.of(function, name)
            requests.append(
                self.cluster.start(
                    "scheduler",
                    "submit_call",
                    task_id,
                    sent.call(),
                    sent.blob,
                    demand=demand,
                    name=name,
                    **options,
                )
            )
        self.cluster.get(requests)

    def learn(self) -> None:
        """Let the scheduler learn that work of this name is short."""
        ids = {self.unique("first"): _nothing for _ in range(3)}
        self.submit(ids)
        for task_id in ids:
            assert self.outcome(task_id)["status"] == "completed"

    def outcome(self, task_id: str) -> dict[str, Any]:
        """Wait for a task and return how it ended."""
        outcome: dict[str, Any] = self.cluster.ask("scheduler", "wait", task_id)
        return outcome

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Inside, nothing starts; afterwards everything may."""
        text = str(self.gate)

        def hold() -> None:
            while not Path(text).exists():
                time.sleep(0.005)

        holder = self.unique("holder")
        # Of another name: it is not short, and what is thought of the others must not learn from it.
        self.submit({holder: hold}, name=holder, demand={"cpu": self.whole}, priority=1)
        self.cluster.eventually(lambda: self.cluster.ask("scheduler", "outcome", holder)["status"] == "running")
        yield
        self.gate.touch()

    def run_together(self, calls: dict[str, Callable[..., Any]], **options: Any) -> dict[str, dict[str, Any]]:
        """Run tasks that are all there before the first of them starts, and return how they ended."""
        self.learn()
        with self.held_back():
            self.submit(calls, **options)
        return {task_id: self.outcome(task_id) for task_id in calls}


def _nothing() -> None:
    """Do nothing."""


@pytest.fixture
def work(balance_cluster: Any, unique: Any, signals: Path) -> Work:
    """Tasks of one name, which nobody else uses."""
    return Work(balance_cluster, unique, signals)


def _value(outcome: dict[str, Any]) -> Any:
    from ray import cloudpickle

    return cloudpickle.loads(outcome["answer"].value)


def test_a_chunk_gives_each_task_its_own_result_and_output(work: Work) -> None:
    """60 tasks in a few chunks: each has the result and the print-out of its own, and knows its own id."""

    def task(number: int) -> Callable[[], Any]:
        def run() -> Any:
            from balance.client.grant import grant

            if number % 3 == 0:
                print("I am", number)
            granted = grant()
            assert granted is not None
            return granted.task_id, granted.share.cpu, number

        return run

    calls = {work.unique(f"t{number}"): task(number) for number in range(60)}
    outcomes = work.run_together(calls)
    for number, (task_id, outcome) in enumerate(outcomes.items()):
        assert _value(outcome) == (task_id, 0.5, number)
        assert outcome["answer"].output == (f"I am {number}\n" if number % 3 == 0 else "")


def test_whatever_one_member_does_its_neighbours_are_unharmed(work: Work) -> None:
    """An exit, an interrupt, an error, a result that can't travel or is too large: each has its own defined end."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    def huge() -> bytes:
        return bytes(65 * MIB)

    def exhaust() -> None:
        raise MemoryError("no more")

    bad: dict[str, Callable[..., Any]] = {
        "exit": lambda: sys.exit(3),
        "interrupt": interrupt,
        "error": lambda: 1 / 0,
        "stuck": lambda: (number for number in ()),
        "huge": huge,
        "exhaust": exhaust,
    }
    names = {work.unique(kind): kind for kind in bad}
    calls: dict[str, Callable[..., Any]] = {}
    for task_id, kind in names.items():
        calls[task_id] = bad[kind]
        calls[work.unique("calm")] = os.getpid
    outcomes = work.run_together(calls)
    types = {kind: outcomes[task_id]["error"]["type"] for task_id, kind in names.items()}
    assert types == {
        "exit": "SystemExit",
        "interrupt": "KeyboardInterrupt",
        "error": "ZeroDivisionError",
        "stuck": "TypeError",
        "huge": "ResultTooLarge",
        "exhaust": "MemoryError",
    }
    assert all(outcomes[task_id]["status"] == "failed" for task_id in names)
    calm = {task_id: outcome for task_id, outcome in outcomes.items() if task_id not in names}
    assert {outcome["status"] for outcome in calm.values()} == {"completed"}
    huge_id = next(task_id for task_id, kind in names.items() if kind == "huge")
    assert "result_limit_bytes" in outcomes[huge_id]["error"]["message"]


def test_a_poison_task_is_found_and_its_chunk_mates_are_unharmed(work: Work) -> None:
    """One of 200 kills its process: it fails after its own retries, the others complete and none counts a loss."""
    poison = work.unique("poison")
    calls: dict[str, Callable[..., Any]] = {work.unique("calm"): _nothing for _ in range(2)}
    calls[poison] = lambda: os._exit(1)
    calls.update({work.unique("calm"): _nothing for _ in range(197)})
    outcomes = work.run_together(calls, retry=QUICK)
    bad = outcomes.pop(poison)
    assert bad["status"] == "failed" and "lost 2 times" in bad["reason"]
    assert {outcome["status"] for outcome in outcomes.values()} == {"completed"}
    assert any(outcome["attempt"] > 1 for outcome in outcomes.values()), "it was in a chunk with others"
    assert not any(outcome["error"] for outcome in outcomes.values())


def test_an_executor_killed_from_outside_loses_nothing(work: Work, signals: Path) -> None:
    """``kill -9`` in the middle of a chunk: every member completes."""
    once = str(signals / work.unique("once"))

    def die_once() -> None:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), 9)

    calls = {work.unique("t"): die_once for _ in range(50)}
    outcomes = work.run_together(calls, retry=QUICK)
    assert {outcome["status"] for outcome in outcomes.values()} == {"completed"}


def test_behind_a_task_that_is_stuck_nobody_waits(work: Work, signals: Path) -> None:
    """One member that takes for ever is left behind: those before and after it complete; cancelled, it ends."""
    never = str(signals / "never")

    def wait() -> None:
        while not Path(never).exists():
            time.sleep(0.01)

    stuck = work.unique("stuck")
    calls: dict[str, Callable[..., Any]] = {work.unique("calm"): _nothing for _ in range(10)}
    calls[stuck] = wait
    calls.update({work.unique("calm"): _nothing for _ in range(10)})
    work.learn()
    with work.held_back():
        work.submit(calls)
    for task_id in calls:
        if task_id != stuck:
            assert work.outcome(task_id)["status"] == "completed"
    assert work.cluster.ask("scheduler", "outcome", stuck)["status"] == "running"
    assert work.cluster.ask("scheduler", "cancel", stuck)
    assert work.outcome(stuck)["status"] == "cancelled"


def test_a_task_that_never_yields_can_be_cancelled_in_a_chunk(work: Work) -> None:
    """An endless loop in pure Python keeps its executor busy, and nobody else."""

    def spin() -> None:
        while True:
            pass

    endless = work.unique("endless")
    calls: dict[str, Callable[..., Any]] = {endless: spin}
    calls.update({work.unique("calm"): _nothing for _ in range(10)})
    work.learn()
    with work.held_back():
        work.submit(calls)
    for task_id in list(calls)[1:]:
        assert work.outcome(task_id)["status"] == "completed"
    assert work.cluster.ask("scheduler", "cancel", endless)
    assert work.outcome(endless)["status"] == "cancelled"


def test_slow_tasks_that_were_thought_short_spread_again(work: Work) -> None:
    """Where the estimate was wrong, a chunk hands back what it has no time for, and all complete soon."""
    calls = {work.unique("slow"): lambda: time.sleep(0.1) for _ in range(12)}
    began = time.monotonic()
    outcomes = work.run_together(calls)
    assert {outcome["status"] for outcome in outcomes.values()} == {"completed"}
    assert time.monotonic() - began < 15


def _hold(mebibytes: int) -> Callable[[], int]:
    def task() -> int:
        data = bytearray(mebibytes * MIB)
        data[::4096] = b"x" * len(data[::4096])
        time.sleep(0.5)
        return psutil.Process().memory_info().rss

    return task


def test_a_task_that_outgrows_its_memory_request_runs_again_with_more(work: Work) -> None:
    """A real 200 MiB on a request of 50: ended by its guard, asked for anew with more than it had taken, completed."""
    task_id = work.unique("greedy")
    work.submit({task_id: _hold(200)}, demand={"cpu": 0.5, "memory": 50 * MIB})
    outcome = work.outcome(task_id)
    assert outcome["status"] == "completed" and outcome["attempt"] >= 2
    assert _value(outcome) > 200 * MIB


def test_a_task_that_may_not_have_more_memory_fails_for_that_reason(work: Work) -> None:
    """At its limit a task that takes more is failed, with what it took; its executor's end harms no neighbour."""
    task_id, calm = work.unique("greedy"), work.unique("calm")
    work.submit({task_id: _hold(300)}, demand={"cpu": 0.5, "memory": 50 * MIB}, memory_limit_bytes=60 * MIB)
    work.submit({calm: _nothing})
    outcome = work.outcome(task_id)
    assert outcome["status"] == "failed" and outcome["error"]["kind"] == "out_of_memory"
    assert "had asked for" in outcome["error"]["message"] and "killed for memory" in outcome["reason"]
    assert work.outcome(calm)["attempt"] == 1


def test_a_task_sees_the_devices_that_it_was_given_and_no_others(work: Work) -> None:
    """``CUDA_VISIBLE_DEVICES`` and `grant` agree; without a GPU none is seen; the same devices, the same process."""

    def look() -> tuple[int, str | None, tuple[int, ...]]:
        from balance.client.grant import grant

        granted = grant()
        assert granted is not None
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), granted.share.devices

    found = {}
    for kind, gpu in (("none", 0), ("half", 0.5), ("again", 0.5), ("both", 2)):
        task_id = work.unique(kind)
        work.submit({task_id: look}, demand={"cpu": 0.5, "gpu": gpu})
        found[kind] = _value(work.outcome(task_id))
    assert found["none"][1:] == ("", ())
    assert found["half"][1:] in {("0", (0,)), ("1", (1,))}
    assert found["again"] == found["half"]
    assert found["both"][1:] == ("0,1", (0, 1))


def test_a_large_result_arrives_whole(work: Work) -> None:
    """5 MiB go by Ray's object store and arrive as they were."""
    task_id = work.unique("large")
    work.submit({task_id: lambda: bytes(range(256)) * (5 * MIB // 256)})
    assert _value(work.outcome(task_id)) == bytes(range(256)) * (5 * MIB // 256)


def test_a_large_result_outlives_the_scheduler(work: Work) -> None:
    """A client gets a reference and takes the result from Ray; where its owner has died meanwhile, from the disk."""
    from balance import Client

    def make(mebibytes: int) -> bytes:
        return b"ab" * (mebibytes * MIB // 2)

    with Client() as client:
        first, second = client.map(make, [3, 4])
        assert first.result(60) == make(3)
        client.wait([second], 60)
        before = work.cluster.kill("scheduler")
        assert second.result(60) == make(4)
        work.cluster.is_back("scheduler", before)
        assert _value(work.cluster.ask("scheduler", "outcome", first.id)) == make(3)


def test_an_idle_executor_that_dies_costs_no_task_an_attempt(work: Work) -> None:
    """A death between two tasks is noticed, and another executor takes the place before the next task."""
    first = work.unique("first")
    work.submit({first: os.getpid})
    pid = _value(work.outcome(first))
    os.kill(pid, 9)
    executors = lambda: [each["pid"] for each in _pings(work.cluster)]  # noqa: E731
    work.cluster.eventually(lambda: pid not in executors() and len(executors()) >= work.whole)
    ids = {work.unique("next"): os.getpid for _ in range(4)}
    work.submit(ids)
    assert {work.outcome(task_id)["attempt"] for task_id in ids} == {1}


def _pings(cluster: Any) -> list[dict[str, Any]]:
    from actors.executors import PREFIX

    found = []
    for entry in cluster.ray.util.list_named_actors(all_namespaces=True):
        if entry["name"].startswith(PREFIX):
            with contextlib.suppress(Exception):
                handle = cluster.ray.get_actor(entry["name"], namespace="balance")
                found.append(cluster.ray.get(handle.ping.remote(), timeout=5))
    return found
