"""`ResourceAllocator`: exact, visible, recoverable."""

from __future__ import annotations

import json

import pytest

from balance.adapters.places import LocalPlaces
from balance.clock import FakeClock
from balance.core.scheduler import ResourceAllocator
from balance.core.scheduler.allocation import Allocation, Denied, PlaceFact
from balance.core.scheduler.node_facts import NodeFacts, NodeUse
from balance.errors import ClusterError, Conflict, InvalidValue, UnknownId
from balance.types import Resources

GIB = 2**30


class Lab:
    """Two nodes that a test may change."""

    def __init__(self):
        self.there = [
            NodeFacts("n1", Resources.capacity(cpu=4, memory=8 * GIB, gpu=2), object_store_bytes=GIB),
            NodeFacts("n2", Resources.capacity(cpu=8, memory=8 * GIB), used=NodeUse(cpu=1.5, memory_bytes=GIB)),
        ]

    def nodes(self):
        return list(self.there)


class Book:
    """An allocation journal in a dict."""

    def __init__(self):
        self.kept = {}

    def record(self, changes):
        for name, data in changes:
            if data is None:
                del self.kept[name]
            else:
                self.kept[name] = json.loads(json.dumps(data))

    def load(self):
        return list(self.kept.values())


class Refusing(LocalPlaces):
    """Ray saying no at commit."""

    def create(self, allocation):
        raise ClusterError("the placement group was not created in time")


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def places():
    return LocalPlaces()


@pytest.fixture
def allocator(lab, places):
    made = ResourceAllocator(probe=lab, places=places, clock=FakeClock())
    yield made
    made.validate()


def test_an_allocation_is_seen_by_everyone_until_it_is_released(allocator, places):
    """In the ledger, in the cluster, in the accounts; released, it is gone from all three."""
    got = allocator.allocate_resources(1.5, GIB, 0.5)
    json.dumps(got)
    assert (got["status"], got["node_id"], got["devices"], got["cpu"]) == ("allocated", "n1", [0], 1.5)
    assert [fact.node_id for fact in places.facts()] == ["n1", "n1"]  # its device, whole, and the rest of it
    seen = allocator.get_system_resources()
    json.dumps(seen)
    assert seen["cluster"]["reserved"] == {"cpu": 1.5, "memory": GIB, "gpu": 0.5, "object_store": 0}
    assert seen["nodes"]["n1"]["devices"] == {"0": 0.5, "1": 1.0}
    assert seen["nodes"]["n2"]["used"]["cpu"] == 1.5
    assert seen["cluster"]["total"]["cpu"] == 12.0
    assert allocator.release_allocation(got["allocation_id"]) == {
        "status": "released",
        "allocation_id": got["allocation_id"],
    }
    assert allocator.release_allocation(got["allocation_id"])["status"] == "not_held"
    assert places.facts() == []
    assert allocator.get_system_resources()["cluster"]["available"]["cpu"] == 12.0


def test_a_refusal_says_what_lacks_where_and_for_how_long(allocator):
    """Busy now and impossible ever are told apart; the fraction that no device holds is refused."""
    for _ in range(2):
        allocator.allocate_resources(0, 0, 0.7)
    busy = allocator.allocate_resources(1, 0, 0.4)
    assert (busy["status"], busy["resource"], busy["permanent"]) == ("denied", "gpu", False)
    assert busy["lacking"] == pytest.approx(0.1)
    assert busy["largest_possible"]["gpu"] == pytest.approx(0.6)
    never = allocator.allocate_resources(9, 0)
    assert (never["permanent"], never["resource"], never["lacking"], never["node_id"]) == (True, "cpu", 1.0, "n2")
    assert allocator.can_allocate_resources(1, 0, 0.3) is True
    assert allocator.can_allocate_resources(1, 0, 0.4) is False


@pytest.mark.parametrize("wrong", [(-1, 0, 0), (float("nan"), 0, 0), (1, -5, 0), (1, 0, 1.5), ("many", 0, 0)])
def test_a_demand_that_makes_no_sense_raises(allocator, wrong):
    """And allocates nothing."""
    with pytest.raises(InvalidValue):
        allocator.allocate_resources(*wrong)
    with pytest.raises(InvalidValue):
        allocator.can_allocate_resources(*wrong)
    assert allocator.list_allocations() == []


def test_the_same_id_for_the_same_is_the_same(allocator):
    """A client that repeats a call after a lost answer changes nothing; another demand is a conflict."""
    demand = Resources.demand(cpu=1)
    first = allocator.allocate(demand, holder="whisper", allocation_id="w", kind="reservation")
    assert allocator.allocate(demand, holder="whisper", allocation_id="w", kind="reservation") == first
    with pytest.raises(Conflict):
        allocator.allocate(Resources.demand(cpu=2), holder="whisper", allocation_id="w", kind="reservation")
    with pytest.raises(UnknownId):
        allocator.allocate(demand, holder="whisper", node_id="n9")
    assert len(allocator.list_allocations("whisper")) == 1


def test_what_the_cluster_refuses_is_given_back(lab):
    """Ray has the last word at commit: the ledger follows."""
    allocator = ResourceAllocator(probe=lab, places=Refusing(), clock=FakeClock())
    refused = allocator.allocate(Resources.demand(cpu=4), holder="m")
    assert isinstance(refused, Denied) and "placement group" in refused.reason
    assert allocator.get_system_resources()["cluster"]["reserved"]["cpu"] == 0
    allocator.validate()


def test_between_decision_and_confirmation_nobody_else_gets_it(allocator):
    """Decide and reserve are one step; abandoning undoes both."""
    first = allocator.decide_allocation(Resources.demand(cpu=8), holder="a")
    assert isinstance(first, Allocation) and first.state == "pending"
    assert isinstance(allocator.decide_allocation(Resources.demand(cpu=5), holder="b"), Denied)
    allocator.abandon(first.allocation_id, "took too long")
    assert isinstance(allocator.decide_allocation(Resources.demand(cpu=5), holder="b"), Allocation)


def test_many_at_once_are_as_many_as_fit(allocator, places):
    """Two devices: 0.4 and 0.6 share one, twice; who is left out hears what lacks beside all who were placed."""
    wanted = [Resources.demand(gpu=gpu) for gpu in (1, 0.4, 0.4, 0.6, 0.6)]
    whole, *parts = allocator.allocate_many(wanted, holder="llama", ids=["w", "a", "b", "c", "d"])
    assert isinstance(whole, Denied) and (whole.resource, whole.lacking) == ("gpu", 1.0)
    assert [part.state for part in parts] == ["confirmed"] * 4
    assert {fact.place for fact in places.facts()} == {f"{name}.1" for name in "abcd"} | {
        "device-0-of-n1.1",
        "device-1-of-n1.1",
    }
    allocator.validate()
    with pytest.raises(Conflict):
        allocator.allocate_many(wanted[:1], holder="llama", ids=["a"])
    with pytest.raises(Conflict):
        allocator.allocate_many(wanted[:2], holder="llama", ids=["x", "x"])


def test_many_at_once_keep_to_the_quota(allocator):
    """What goes beyond the holder's quota is denied, whatever else there is room for."""
    allocator.set_quota("llama", Resources.capacity(gpu=1))
    made = allocator.allocate_many([Resources.demand(gpu=0.5)] * 3, holder="llama")
    assert [isinstance(each, Allocation) for each in made] == [True, True, False]
    assert "quota" in made[2].reason


def test_a_divided_device_is_held_whole_until_the_last_part_is_gone(allocator, places, lab):
    """Its place comes with the first part and goes with the last; the janitor mends it like any other."""
    first = allocator.allocate(Resources.demand(gpu=0.5), holder="a")
    second = allocator.allocate(Resources.demand(gpu=0.3), holder="b")
    assert first.devices[0][0] == second.devices[0][0]
    device = "device-0-of-n1"
    allocator.release_allocation(first.allocation_id)
    assert f"{device}.1" in {fact.place for fact in places.facts()}
    places.remove(f"{device}.1")
    [repair] = allocator.reconcile(places.facts())
    assert (repair.action, repair.place) == ("create", f"{device}.1")
    [held] = allocator.device_allocations()
    places.create(held)
    assert allocator.reconcile(places.facts()) == []
    allocator.release_allocation(second.allocation_id)
    assert places.facts() == []
    places.create(held)
    assert [repair.action for repair in allocator.reconcile(places.facts())] == ["remove"]


def test_an_allocation_may_name_its_devices(allocator):
    """A lease lies on the devices that the scheduler chose, or is denied; others make no sense."""
    demand = Resources.demand(gpu=0.5)
    made = allocator.decide_allocation(demand, holder="s", node_id="n1", devices=((1, 500),), kind="lease")
    assert made.devices == ((1, 500),)
    full = allocator.decide_allocation(Resources.demand(gpu=0.6), holder="s", node_id="n1", devices=((1, 600),))
    assert isinstance(full, Denied)
    with pytest.raises(InvalidValue):
        allocator.decide_allocation(demand, holder="s", node_id="n1", devices=((0, 500), (1, 500)))


def test_a_quota_limits_what_one_holder_has(allocator):
    """In all; other holders are not concerned."""
    allocator.set_quota("greedy", Resources.capacity(cpu=3, memory=GIB))
    assert isinstance(allocator.allocate(Resources.demand(cpu=2), holder="greedy"), Allocation)
    denied = allocator.allocate(Resources.demand(cpu=2), holder="greedy")
    assert (denied.resource, denied.lacking) == ("cpu", 1.0)
    assert isinstance(allocator.allocate(Resources.demand(cpu=2), holder="modest"), Allocation)


def test_a_lost_node_takes_its_allocations_and_the_ledger_follows_when_ray_moves_them(allocator, lab):
    """Lost, then found again on the node where Ray has put the place."""
    held = allocator.allocate(Resources.demand(cpu=2), holder="m", node_id="n1")
    lab.there = [lab.there[1]]
    assert [each.state for each in allocator.sync_nodes(lab.nodes())] == ["lost"]
    assert allocator.get_allocation(held.allocation_id).node_id is None
    repairs = allocator.reconcile([PlaceFact(held.place, "n2", created=True)])
    assert [(repair.action, repair.node_id) for repair in repairs] == [("moved", "n2")]
    assert allocator.get_allocation(held.allocation_id).node_id == "n2"
    assert allocator.get_system_resources()["nodes"]["n2"]["reserved"]["cpu"] == 2.0
    allocator.release_allocation(held.allocation_id)


def test_the_janitor_finds_what_does_not_agree(lab, places):
    """Orphans are removed, the missing created, the forgotten confirmed or abandoned; the rest is left alone."""
    clock = FakeClock()
    allocator = ResourceAllocator(probe=lab, places=places, clock=clock)
    gone = allocator.allocate(Resources.demand(cpu=1), holder="gone", allocation_id="gone")
    never = allocator.decide_allocation(Resources.demand(cpu=1), holder="never", allocation_id="never")
    silent = allocator.decide_allocation(Resources.demand(cpu=1), holder="silent", allocation_id="silent")
    facts = [
        PlaceFact(silent.place, silent.node_id, created=True),
        PlaceFact("orphan.1", "n1", created=True),
        PlaceFact("unborn.1", None, created=False),
    ]
    first = {(repair.place, repair.action) for repair in allocator.reconcile(facts)}
    assert first == {(gone.place, "create"), ("orphan.1", "remove")}
    clock.advance(61.0)
    later = {(repair.place, repair.action) for repair in allocator.reconcile(facts)}
    assert later == first | {(never.place, "abandon"), (silent.place, "confirm")}


def test_after_a_restart_everything_is_held_as_before(lab, places):
    """From the journal; what lay on a node that is gone is lost until the janitor finds it."""
    clock, book = FakeClock(), Book()
    first = ResourceAllocator(probe=lab, places=places, clock=clock, journal=book)
    kept = first.allocate(Resources.demand(cpu=2, gpu=0.5), holder="m", node_id="n1")
    moved = first.allocate(Resources.demand(cpu=2), holder="m", node_id="n2")
    first.release_allocation(first.allocate(Resources.demand(cpu=1), holder="m").allocation_id)
    lab.there = [lab.there[0]]
    second = ResourceAllocator(probe=lab, places=places, clock=clock, journal=book)
    assert second.recover() == 2
    assert second.get_allocation(kept.allocation_id) == kept
    assert second.get_allocation(moved.allocation_id).state == "lost"
    assert second.get_system_resources()["nodes"]["n1"]["devices"] == {"0": 0.5, "1": 1.0}
    second.validate()


def test_it_works_on_this_host_without_any_argument():
    """The host is the node; its use is measured."""
    allocator = ResourceAllocator()
    seen = allocator.get_system_resources()
    assert seen["status"] == "ok"
    assert seen["cluster"]["total"]["cpu"] > 0
    assert 0 < seen["cluster"]["used"]["memory"] <= seen["cluster"]["total"]["memory"] * 64
    got = allocator.allocate_resources(0.1, 1024)
    assert got["status"] == "allocated"
