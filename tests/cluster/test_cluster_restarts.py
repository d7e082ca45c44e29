"""Whatever is killed comes back with its state: nothing acknowledged is lost, nothing is held twice.

``kill -9`` hits each actor in turn while tasks run and wait, requests are in flight and a model holds its
reservation.  The clients' own calls, made before the kill, are answered after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from actors.roles import ROLES
from actors.system import find_actors, start_actors, stop_actors

pytestmark = pytest.mark.cluster

TASKS = 6
REQUESTS = 6


def slow_model(data_id: str) -> Any:
    """Return a model whose batches take a little while."""

    class Slow:
        def needs(self, request: dict[str, Any]) -> list[str]:
            return [data_id]

        def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[Any]:
            import time

            time.sleep(0.2)
            return [request["number"] * data[data_id]["factor"] for request in requests]

    return Slow()


def gated(gate: Path, log: Path, number: int) -> Callable[[], int]:
    """Return a task that notes that it began, and ends when the gate is open."""
    where, what = str(gate), str(log)

    def task() -> int:
        import time
        from pathlib import Path

        with Path(what).open("a") as handle:
            handle.write(f"{number}\n")
        while not Path(where).exists():
            time.sleep(0.01)
        return number * number

    return task


@dataclass
class Work:
    """What goes on while something is killed."""

    cluster: Any
    model: str
    reserved: str
    data: str
    folder: Path
    tasks: list[str] = field(default_factory=list)
    waiting: list[Any] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def begin(self, unique: Callable[[str], str]) -> None:
        """Submit tasks, of which one runs and the others wait, and requests, of which some are in flight."""
        for number in range(TASKS):
            task_id = unique("task")
            task = gated(self.folder / "gate", self.folder / "log", number)
            self.tasks.append(task_id)
            self.waiting.append(
                self.cluster.start("operation_coordinator", "execute_task", task_id, task, 1.0, 0, number + 1)
            )
        self.cluster.eventually((self.folder / "log").exists)
        requests = [{"model_id": self.model, "number": number} for number in range(REQUESTS)]
        accepted = self.cluster.ask("batches", "submit_requests", requests)
        assert accepted["accepted"] == REQUESTS
        self.answers = [self.cluster.start("batches", "answer", each, 55.0) for each in accepted["request_ids"]]

    def finish(self) -> None:
        """Open the gate, and see every call answered, with the right result."""
        (self.folder / "gate").touch()
        reports = self.cluster.get(self.waiting)
        assert [report["status"] for report in reports] == ["completed"] * TASKS
        assert [report["result"] for report in reports] == [number * number for number in range(TASKS)]
        answers = self.cluster.get(self.answers)
        assert [answer.get("result") for answer in answers] == [number * 10 for number in range(REQUESTS)], answers

    def check(self) -> None:
        """See that the account of requests holds, and that Ray holds what Balance says and nothing else."""
        store = self.cluster.store()
        account = store.conservation()
        store.close()
        assert account["holds"] and account["in_flight"] == 0, account
        ask, eventually = self.cluster.ask, self.cluster.eventually
        status = ask("model_coordinator", "get_model_status", self.reserved)
        assert status["state"] == "allocated"
        ours = [name for name in self.cluster.places() if self.reserved in name]
        assert len(ours) == 1, "the model's reservation is there exactly once"
        references = ask("data_coordinator", "status", self.data)["references"]
        assert references == 0, "the batches that are over hold no data"

        def agreed() -> bool:
            listed = ask("resource_allocator", "list_allocations")
            places = {f"balance:{each['allocation_id']}.{each['generation']}" for each in listed}
            return bool(places == set(self.cluster.places()))

        eventually(agreed)


@pytest.fixture
def work(balance_cluster: Any, unique: Any, tmp_path: Path, eventually: Any) -> Iterator[Work]:
    """Work under way on a model in service, beside one that only holds its reservation."""
    ask, model, data, reader = balance_cluster.ask, unique("model"), unique("data"), unique("reader")
    reserved = unique("reserved")
    ask("data_coordinator", "register_reader", reader, lambda: {"factor": 10})
    ask("data_coordinator", "register_data_source", data, 100, f"reader:{reader}")
    ask("model_coordinator", "register_model", reserved, 0.25, 0)
    assert ask("model_coordinator", "allocate_resources_for_model", reserved)["status"] == "allocated"
    ask("model_coordinator", "register_model", model, 0.25, 0, 2)
    ask("batches", "deploy_model", model, slow_model(data), batch_max=2, max_age_s={data: 0.01})
    work = Work(balance_cluster, model, reserved, data, tmp_path)
    work.begin(unique)
    yield work
    (tmp_path / "gate").touch()
    eventually(lambda: ask("batches", "stats_only")["models"][model]["running"] == 0)
    ask("batches", "undeploy_model", model)
    ask("model_coordinator", "release_resources", reserved)
    eventually(lambda: not any(model in name or reserved in name for name in balance_cluster.places()))


@pytest.mark.parametrize("role", [role.name for role in ROLES])
def test_a_killed_actor_comes_back_with_its_state(balance_cluster: Any, work: Work, role: str) -> None:
    """After ``kill -9`` the actor answers with a higher epoch, and all that was under way ends as it should."""
    before = balance_cluster.kill(role)
    now = balance_cluster.is_back(role, before)
    assert (now["epoch"], now["state"]) == (before["epoch"] + 1, "ready")
    work.finish()
    work.check()


def test_the_scheduler_and_the_allocator_die_together(balance_cluster: Any, work: Work) -> None:
    """The scheduler waits for the allocator's view, takes up its tasks, and both agree on who holds what."""
    before = {role: balance_cluster.kill(role) for role in ("resource_allocator", "scheduler")}
    for role, was in before.items():
        balance_cluster.is_back(role, was)
    work.finish()
    work.check()


def test_everyone_dies_at_once(balance_cluster: Any, work: Work) -> None:
    """All actors killed in one moment come back together and finish what they had accepted."""
    before = {role.name: balance_cluster.ask(role.name, "ping") for role in ROLES}
    import os
    import signal

    for was in before.values():
        os.kill(was["pid"], signal.SIGKILL)
    for role, was in before.items():
        assert balance_cluster.is_back(role, was)["epoch"] == was["epoch"] + 1
    work.finish()
    work.check()


def test_requests_submitted_while_batches_is_down_are_accepted_once(balance_cluster: Any, work: Work) -> None:
    """A call that Ray has to make again, without ids of its own, is the same requests and not twice as many."""
    account = balance_cluster.store()
    accepted = account.conservation()["accepted"]
    requests = [{"model_id": work.model, "number": 7}, {"model_id": work.model, "number": 8}]
    calls = [balance_cluster.start("batches", "submit_requests", requests) for _ in range(5)]
    balance_cluster.kill("batches")
    answers = balance_cluster.get(calls)
    assert {len(answer["request_ids"]) for answer in answers} == {2}
    assert len({each for answer in answers for each in answer["request_ids"]}) == 10
    work.finish()
    for answer in answers:
        found = balance_cluster.get([balance_cluster.start("batches", "answer", e) for e in answer["request_ids"]])
        assert [each["result"] for each in found] == [70, 80]
    assert account.conservation()["accepted"] == accepted + 10
    account.close()
    work.check()


def test_a_finished_task_is_known_after_a_restart(balance_cluster: Any, unique: Any) -> None:
    """Outcome and result of a task that is over come from the store; the same id is still the same task."""
    task_id = unique("task")

    def task() -> dict[str, int]:
        return {"answer": 42}

    first = balance_cluster.execute(task_id, task)
    balance_cluster.is_back("scheduler", balance_cluster.kill("scheduler"))
    status = balance_cluster.ask("operation_coordinator", "get_task_status", task_id)
    assert (status["status"], status["result"], status["attempt"]) == ("completed", {"answer": 42}, 1)
    again = balance_cluster.execute(task_id, task)
    assert (again["result"], again["submitted_at"]) == (first["result"], first["submitted_at"])


def test_histories_survive(balance_cluster: Any, work: Work, eventually: Any) -> None:
    """What was measured until it was last written down is there after a restart, to forecast from."""
    work.finish()

    def seen() -> float:
        points = balance_cluster.ask("monitoring", "recorded", 0.0)["arrivals"].get(work.model, [])
        return float(sum(count for _at, count in points))

    eventually(lambda: seen() == REQUESTS)
    balance_cluster.ask("monitoring", "keep")
    balance_cluster.is_back("monitoring", balance_cluster.kill("monitoring"))
    assert seen() == REQUESTS


def test_no_executor_of_a_former_scheduler_lives_on(balance_cluster: Any, work: Work) -> None:
    """An attempt never runs beside its successor: the executors of the dead scheduler are ended first."""
    from ray.util import list_named_actors

    before = balance_cluster.kill("scheduler")
    now = balance_cluster.is_back("scheduler", before)
    work.finish()
    executors = [entry["name"] for entry in list_named_actors(all_namespaces=True) if "executor-" in entry["name"]]
    assert executors and {name.split("-")[2] for name in executors} == {str(now["epoch"])}


def test_stopped_and_started_again_balance_goes_on(
    balance_cluster: Any, unique: Any, tmp_path: Path, eventually: Any
) -> None:
    """A task that was queued runs, a model's reservation is made anew, a reader is there, after a stop and a start."""
    ask, model, data, reader = balance_cluster.ask, unique("model"), unique("data"), unique("reader")
    ask("data_coordinator", "register_reader", reader, lambda: "from a reader")
    ask("data_coordinator", "register_data_source", data, 100, f"reader:{reader}")
    ask("model_coordinator", "register_model", model, 0.5, 0)
    ask("model_coordinator", "allocate_resources_for_model", model)
    task_id, log = unique("task"), tmp_path / "log"
    ask("operation_coordinator", "submit_task", task_id, gated(tmp_path / "gate", log, 4), 1.0, 0)
    eventually(log.exists)
    stop_actors(drain_s=0)
    eventually(lambda: not find_actors() and not balance_cluster.places())
    start_actors(balance_cluster.settings)
    (tmp_path / "gate").touch()
    outcome = ask("scheduler", "wait", task_id)
    assert (outcome["status"], log.read_text()) == ("completed", "4\n4\n"), "it ran again from its beginning"
    eventually(lambda: any(model in name for name in balance_cluster.places()))
    assert ask("model_coordinator", "get_model_status", model)["state"] == "allocated"
    assert ask("data_coordinator", "allocate_data", data)["status"] == "allocated"
    ask("data_coordinator", "release_data", data)
    ask("model_coordinator", "release_resources", model)


def test_a_drain_finishes_what_runs(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """Drained, the scheduler takes nothing new and says when it is idle, or that it was not in time."""
    from balance.errors import NotReady

    task_id = unique("task")
    balance_cluster.ask(
        "operation_coordinator", "submit_task", task_id, gated(tmp_path / "gate", tmp_path / "log", 3), 0.5, 0
    )
    began = time.monotonic()
    assert balance_cluster.ask("scheduler", "drain", 0.3)["status"] == "timed_out"
    assert time.monotonic() - began < 10
    with pytest.raises(NotReady):
        balance_cluster.execute(unique("task"), int)
    (tmp_path / "gate").touch()
    assert balance_cluster.ask("scheduler", "drain", 30.0)["status"] == "drained"
    # A drained scheduler is about to be stopped; only a restart takes work again.
    balance_cluster.is_back("scheduler", balance_cluster.kill("scheduler"))
    assert balance_cluster.execute(unique("task"), int)["status"] == "completed"
