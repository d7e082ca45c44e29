"""Who gets how much in the long run: endless work of several tenants on a clock of events."""

from __future__ import annotations

import heapq
from itertools import count

import pytest

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import NodeJoined, TaskFinished, TaskSubmitted
from balance.core.scheduler.fair_share import CLAIM_S
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.core.scheduler.policy import SchedulingPolicy, Tenant
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.types import Resources

WEIGHTS = {"a": 1, "b": 2, "c": 4}


class Endless:
    """Tenants whose work does not run out; `used` is what each has used, in seconds of rooms."""

    def __init__(
        self, capacity: Resources, run_s: dict[str, float], demands=None, weights=WEIGHTS, chunk_s=0.0
    ) -> None:
        tenants = tuple(Tenant(name, weight=weight) for name, weight in weights.items())
        self.engine = Engine(policy=SchedulingPolicy(chunk_s=chunk_s, tenants=tenants))
        self.engine.handle(NodeJoined("n", capacity), now=0.0)
        self.run_s = run_s
        self.demands = demands or {}
        self.at_once = 600 if chunk_s else 20
        self.now = 0.0
        self.used = dict.fromkeys(run_s, 0.0)
        self.running = dict.fromkeys(run_s, 0)
        self.queued = dict.fromkeys(run_s, 0)
        self._agenda: list = []
        self._number = count()

    def feed(self, tenant: str) -> None:
        demand = self.demands.get(tenant, ONE_CPU)
        specs = [TaskSpec(f"{tenant}-{next(self._number)}", tenant, demand, tenant=tenant) for _ in range(self.at_once)]
        self.queued[tenant] += len(specs)
        self.carry_out(self.engine.handle(*map(TaskSubmitted, specs), now=self.now))

    def carry_out(self, out) -> None:
        for start in out:
            if isinstance(start, StartTask):
                members = [(start.task_id, start.attempt)]
            elif isinstance(start, StartChunk):
                members = list(zip(start.task_ids, start.attempts, strict=True))
            else:
                continue
            tenant = members[0][0].split("-")[0]
            self.queued[tenant] -= len(members)
            self.running[tenant] += 1
            heapq.heappush(self._agenda, (self.now + self.run_s[tenant] * len(members), next(self._number), members))

    def run(self, until: float, tenants="abc") -> dict[str, float]:
        """Go on until then with the work of these tenants; return the share of each in what was used."""
        before = dict(self.used)
        while self.now < until:
            for tenant in tenants:
                if self.queued[tenant] < self.at_once / 2:
                    self.feed(tenant)
            self.now, _, members = heapq.heappop(self._agenda)
            tenant = members[0][0].split("-")[0]
            self.running[tenant] -= 1
            self.used[tenant] += self.run_s[tenant] * len(members)
            self.carry_out(
                self.engine.handle(*(TaskFinished(*each, run_s=self.run_s[tenant]) for each in members), now=self.now)
            )
        self.engine.validate()
        total = sum(self.used.values()) - sum(before.values())
        return {tenant: (self.used[tenant] - before[tenant]) / total for tenant in self.used}


@pytest.mark.parametrize("cores", [1, 2, 5, 14])
@pytest.mark.parametrize(
    "run_s", [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.3, "b": 1.0, "c": 2.5}], ids=["alike", "mixed"]
)
def test_shares_follow_the_weights_however_few_the_rooms(cores, run_s):
    """Weights 1:2:4, endless work: within 3 %, on one core as on fourteen, whoever's tasks are longer."""
    shares = Endless(Resources.capacity(cpu=cores), run_s).run(max(70.0, 500.0 / cores))
    assert shares == pytest.approx({name: weight / 7 for name, weight in WEIGHTS.items()}, rel=0.03)


@pytest.mark.parametrize("cores", [1, 2])
def test_shares_follow_the_weights_in_chunks(cores):
    """What is shared is the time of the rooms, not the number of tasks."""
    world = Endless(Resources.capacity(cpu=cores), {"a": 0.0003, "b": 0.001, "c": 0.0025}, chunk_s=0.005)
    shares = world.run(6.0 / cores)
    assert shares == pytest.approx({name: weight / 7 for name, weight in WEIGHTS.items()}, rel=0.03)


def test_it_is_the_dominant_resource_that_is_shared():
    """One tenant's tasks need cores, the other's memory: each has the same share of what it needs most."""
    demands = {"a": Resources.demand(cpu=3, memory=1), "b": Resources.demand(cpu=1, memory=4)}
    world = Endless(Resources.capacity(cpu=9, memory=18), {"a": 1.0, "b": 1.0}, demands, {"a": 1, "b": 1})
    world.run(200.0, "ab")
    assert world.used["a"] * 3 / 9 == pytest.approx(world.used["b"] * 4 / 18, rel=0.03)


@pytest.mark.parametrize("cores", [2, 4])
def test_what_was_lent_comes_back_within_one_task_length(cores):
    """Alone, a tenant has everything; the next rooms that free are the newcomer's, who is owed nothing more."""
    world = Endless(Resources.capacity(cpu=cores), {"a": 1.0, "b": 1.0}, weights={"a": 1, "b": 1})
    world.run(50.0, "a")
    assert world.running == {"a": cores, "b": 0}
    came = world.now
    world.feed("b")
    world.run(came + 1.0, "ab")
    assert world.running["b"] >= cores / 2
    shares = world.run(came + 21.0, "ab")
    assert shares["b"] == pytest.approx(0.5, abs=0.05), "nothing is owed for the time in which it wanted nothing"


def test_a_claim_on_what_nobody_gives_back_does_not_grow_for_ever():
    """Hours of waiting for a device do not buy hours of all cores."""
    world = Endless(Resources.capacity(cpu=2, gpu=1), {"a": 1.0, "b": 1.0}, weights={"a": 1, "b": 1})
    world.engine.handle(TaskSubmitted(TaskSpec("holder", demand=Resources.demand(gpu=1), tenant="z")), now=0.0)
    world.engine.handle(TaskSubmitted(TaskSpec("waiter", demand=Resources.demand(gpu=1), tenant="b")), now=0.0)
    world.run(4000.0, "a")
    began = world.now
    world.run(began + CLAIM_S * 1.5, "ab")
    assert world.run(world.now + 100.0, "ab")["a"] == pytest.approx(0.5, abs=0.05)
