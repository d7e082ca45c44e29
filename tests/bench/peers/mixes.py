"""Peer: one Ray of several logical nodes, on which mixes of GPU demands are asked for by Balance and by plain Ray.

What "placed" means is the same for all: a task that stands for the demand has started, and runs until the play
is over.  Plain Ray starts ``num_gpus=x`` tasks.  Balance asks its resource allocator's actor for all demands at
once; what that grants are placement groups of Ray, and a task starts on the node of each, as its executors do.
Whatever was accepted (Ray accepts everything) and has not started `limit_s` after the last start is hung.

Every start is that of a warm worker, and who plays next finds all devices free.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray
from harness.gate import Gate
from harness.mixes import Mix, make_mixes, optimum
from harness.visits import options, tell
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

WARM_TASKS = 12
LOOK_EVERY_S = 0.005
REPORT_S = 0.15  # a node tells the others every 0.1 s what is free there: what they know is no older than this
END_S = 60.0


def stand_in(gate: Any, play: int) -> None:
    """Be there for one demand until the play is over."""
    ray.get(gate.hold.remote(play))


@contextmanager
def cluster(gpus: Sequence[int], subsets: dict[tuple[int, ...], str]) -> Iterator[list[str]]:
    """Run a Ray of as many nodes; a node has the label resources of the subsets that it is in."""
    made = Cluster()
    kept = {"num_workers_soft_limit": 4 * WARM_TASKS, "idle_worker_killing_time_threshold_ms": 600_000}
    try:
        made.add_node(num_cpus=2, num_gpus=0, include_dashboard=False, _system_config=kept)
        for number, count in enumerate(gpus):
            labels = {label: 10_000 for subset, label in subsets.items() if number in subset}
            made.add_node(num_cpus=WARM_TASKS, num_gpus=count, resources={**labels, f"only{number}": 10_000})
        made.wait_for_nodes()
        ray.init(address=made.address, logging_level="ERROR", log_to_driver=False, namespace="bench")
        ids = {}
        for node in ray.nodes():
            for number in range(len(gpus)):
                if f"only{number}" in node["Resources"]:
                    ids[number] = node["NodeID"]
        yield [ids[number] for number in range(len(gpus))]
    finally:
        ray.shutdown()
        made.shutdown()


class Contest:
    """Runs mixes, one contestant after another, on one Ray."""

    def __init__(self, ids: list[str], gpus: Sequence[int], labels: dict[tuple[int, ...], str], limit_s: float) -> None:
        self._ids = ids
        self._gpus = gpus
        self._labels = labels
        self._limit_s = limit_s
        self._gate = ray.remote(Gate).options(num_cpus=0, max_concurrency=1000).remote()
        self._task = ray.remote(num_cpus=0, max_calls=0, max_retries=0)(stand_in)
        self._allocator: Any = None
        self._play = 0

    def warm(self) -> None:
        """Start as many workers on each node as a mix can need, since a cold one takes half a second.

        Ray gives a task with a GPU no worker that has served one without, so there are some of both kinds.
        """
        for gpus in (0, 0.05) * 2:
            calls = [self._start(node_id, gpus) for node_id in self._ids for _ in range(WARM_TASKS)]
            started = self._await_starts(len(calls), END_S)
            assert started == len(calls), f"{started} of {len(calls)} workers have started"
            self._end(calls)

    def start_allocator(self) -> None:
        """Start Balance's resource allocator, the actor that it is in a running Balance."""
        from actors.resource_allocator import ResourceAllocatorActor
        from balance.config import Settings

        settings = asdict(Settings(state_dir=tempfile.mkdtemp(prefix="balance-mixes-")))
        named = ray.remote(ResourceAllocatorActor).options(name="resource_allocator", namespace="balance", num_cpus=0)
        self._allocator = named.remote(settings)
        ray.get(self._allocator.get_system_resources.remote())

    def balance(self, mix: Mix) -> tuple[int, int]:
        """Ask for all at once; return how many were placed and how many were granted without being placed."""
        label = {self._labels[mix.nodes]: 0.001}
        wanted = [{"gpu": demand / 1000, "custom": label} for demand in mix.demands]
        answers = ray.get(self._allocator.allocate_many.remote(wanted, "bench"))
        granted = [answer for answer in answers if answer["status"] == "allocated"]
        self._check(granted)
        calls = [self._start(each["node_id"], 0) for each in granted]
        placed = self._await_starts(len(calls), self._limit_s)
        self._end(calls)
        ray.get([self._allocator.release_allocation.remote(each["allocation_id"]) for each in granted])
        return placed, len(granted) - placed

    def _check(self, granted: list[dict[str, Any]]) -> None:
        """Fail unless what was granted fits its devices, and Ray has the whole of each device that is used."""
        held: Counter[tuple[str, int]] = Counter()
        for each in granted:
            for index, amount in zip(each["devices"], each["device_milli"], strict=True):
                held[each["node_id"], index] += amount
        assert all(amount <= 1000 for amount in held.values()), held
        groups = ray.util.placement_group_table().values()
        taken = sum(
            bundle.get("GPU", 0)
            for group in groups
            if group["state"] == "CREATED" and group["name"].startswith("balance:")
            for bundle in group["bundles"].values()
        )
        assert taken == len(held), (taken, held)

    def plain(self, mix: Mix, rounded: Callable[[int], float], strategy: str) -> tuple[int, int]:
        """Start a Ray task for each demand; return how many were placed and how many hang."""
        label = {self._labels[mix.nodes]: 0.001}
        calls = [
            self._task.options(num_gpus=rounded(demand), resources=label, scheduling_strategy=strategy).remote(
                self._gate, self._play
            )
            for demand in mix.demands
        ]
        placed = self._await_starts(len(calls), self._limit_s)
        self._end(calls)
        return placed, len(calls) - placed

    def _start(self, node_id: str, gpus: float) -> Any:
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        return self._task.options(num_gpus=gpus, scheduling_strategy=there).remote(self._gate, self._play)

    def _await_starts(self, count: int, limit_s: float) -> int:
        """Wait until `count` have started, or none has for `limit_s` seconds; return how many have."""
        known, since = 0, time.perf_counter()
        while known < count and time.perf_counter() - since < limit_s:
            started = ray.get(self._gate.started.remote())
            if started > known:
                known, since = started, time.perf_counter()
            time.sleep(LOOK_EVERY_S)
        return known

    def _end(self, calls: list[Any]) -> None:
        """End the play: who has started ends, and who has not starts now and ends.  Cancelling has races."""
        self._play = ray.get(self._gate.open.remote())
        ray.get(calls, timeout=END_S)

    def settle(self) -> float:
        """Wait until every device is back, since the next one must find the same cluster; return the seconds."""
        since = time.perf_counter()
        time.sleep(REPORT_S)
        while ray.available_resources().get("GPU", 0) < sum(self._gpus):
            assert time.perf_counter() - since < END_S, f"a device is not back after {END_S:g} s"
            time.sleep(LOOK_EVERY_S)
        return time.perf_counter() - since


def exactly(demand: int) -> float:
    """Ask for what is needed."""
    return demand / 1000


def one_in_k(demand: int) -> float:
    """Round a fraction up to 1/k, as is often advised: so many equal parts share a device."""
    return demand / 1000 if demand >= 1000 else 1 / (1000 // demand)


def main() -> None:
    """Run each mix for every contestant in turn; the rivals only the first of them, as hanging takes time."""
    given = options()
    gpus, mixes = given["gpus"], make_mixes(given["gpus"], given["mixes"], given["seed"])
    labels = {nodes: f"mix{number}" for number, nodes in enumerate(sorted({mix.nodes for mix in mixes}))}
    with cluster(gpus, labels) as ids:
        contest = Contest(ids, gpus, labels, given["limit_s"])
        contest.warm()
        contest.settle()
        contest.start_allocator()
        contestants: dict[str, Callable[[Mix], tuple[int, int]]] = {
            "Balance": contest.balance,
            "Ray, DEFAULT": lambda mix: contest.plain(mix, exactly, "DEFAULT"),
            "Ray, SPREAD": lambda mix: contest.plain(mix, exactly, "SPREAD"),
            "Ray, DEFAULT, rounded up to 1/k": lambda mix: contest.plain(mix, one_in_k, "DEFAULT"),
        }
        for number, mix in enumerate(mixes):
            best = optimum([gpus[node] for node in mix.nodes], mix.demands)
            for name, play in contestants.items():
                if name == "Balance" or number < given["rivals"]:
                    began = time.perf_counter()
                    placed, hung = play(mix)
                    seconds = time.perf_counter() - began
                    back = contest.settle()
                    tell(
                        row=name,
                        mix=number,
                        asked=len(mix.demands),
                        best=best,
                        placed=placed,
                        hung=hung,
                        s=seconds,
                        back_s=back,
                    )


if __name__ == "__main__":
    main()
