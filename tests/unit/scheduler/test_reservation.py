"""Reservations: one allocation a replica, wherever there is room."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from balance.adapters.places import LocalPlaces
from balance.clock import FakeClock
from balance.core.scheduler import ResourceAllocator
from balance.core.scheduler.node_facts import NodeFacts
from balance.errors import ClusterError, InvalidValue
from balance.types import Resources

ONE = Resources.demand(cpu=1)


class Cluster:
    """Nodes of two cores that come and go."""

    def __init__(self, *names):
        self.there = [NodeFacts(name, Resources.capacity(cpu=2, gpu=2)) for name in names]

    def nodes(self):
        return list(self.there)

    def lose(self, name):
        self.there = [facts for facts in self.there if facts.node_id != name]

    def add(self, name):
        self.there.append(NodeFacts(name, Resources.capacity(cpu=2, gpu=2)))


class Book:
    """A journal in a dict."""

    def __init__(self):
        self.kept = {}

    def record(self, changes):
        for name, data in changes:
            self.kept[name] = json.loads(json.dumps(data))

    def load(self):
        return [data for data in self.kept.values() if data is not None]


@pytest.fixture
def cluster():
    return Cluster("a", "b", "c")


@pytest.fixture
def places():
    return LocalPlaces()


@pytest.fixture
def allocator(cluster, places):
    made = ResourceAllocator(probe=cluster, places=places, clock=FakeClock())
    yield made
    made.validate()
    assert sorted(fact.place for fact in places.facts()) == sorted(each.place for each in made.list_allocations())


def ids(allocator, name="m"):
    return {each.allocation_id for each in allocator.reservation(name)}


def test_growth_goes_to_another_node_and_leaves_the_rest_alone(allocator):
    """A full node is no limit; what is held already is not touched."""
    assert allocator.reserve("m", ONE, 2)["nodes"] == {"a": 2}
    before = ids(allocator)
    grown = allocator.reserve("m", ONE, 5)
    assert (grown["status"], grown["replicas"], grown["cpu"]) == ("allocated", 5, 5.0)
    assert grown["nodes"] == {"a": 2, "b": 2, "c": 1}
    assert before < ids(allocator)


def test_the_same_again_changes_nothing(allocator):
    """A call that is repeated after a lost answer gets the same answer."""
    first = allocator.reserve("m", ONE, 3)
    held = ids(allocator)
    assert allocator.reserve("m", ONE, 3) == first
    assert ids(allocator) == held


def test_what_fits_in_part_is_held_in_part(allocator):
    """As many as there is room for, and why there are no more; later there may be."""
    taken = allocator.allocate(ONE, holder="other", node_id="c")
    answer = allocator.reserve("m", ONE, 9)
    assert (answer["status"], answer["replicas"], answer["resource"]) == ("denied", 5, "cpu")
    assert answer["held"]["nodes"] == {"a": 2, "b": 2, "c": 1}
    allocator.release_allocation(taken.allocation_id)
    assert allocator.reserve("m", ONE, 6)["status"] == "allocated"


def test_without_any_room_nothing_is_held(allocator):
    """A replica that is larger than any node is refused for good."""
    answer = allocator.reserve("m", Resources.demand(cpu=3), 1)
    assert (answer["status"], answer["permanent"], answer["replicas"], answer["held"]) == ("denied", True, 0, None)


def test_shrinking_gives_back_the_emptiest_node_first(allocator):
    """So that nodes become free: the fuller ones keep what they have, whoever has filled them."""
    allocator.allocate(Resources.demand(cpu=1), holder="other", node_id="b")
    assert allocator.reserve("m", ONE, 4)["nodes"] == {"a": 2, "b": 1, "c": 1}
    assert allocator.reserve("m", ONE, 3)["nodes"] == {"a": 2, "b": 1}
    assert allocator.reserve("m", ONE, 2)["nodes"] == {"a": 1, "b": 1}
    assert allocator.reserve("m", ONE, 0)["status"] == "released"
    assert ids(allocator) == set()


def test_the_head_of_the_cluster_is_given_back_last(allocator, cluster):
    """It is there anyway; a node that only this reservation holds on to could go."""
    cluster.there = [replace(facts, head=facts.node_id == "a") for facts in cluster.there]
    allocator.get_system_resources()
    allocator.reserve("m", ONE, 4)
    allocator.release_allocation(next(iter(sorted(ids(allocator)))))
    assert allocator.reserve("m", ONE, 3)["nodes"] == {"a": 1, "b": 2}
    assert allocator.reserve("m", ONE, 2)["nodes"] == {"a": 1, "b": 1}
    assert allocator.reserve("m", ONE, 1)["nodes"] == {"a": 1}


def test_a_lost_node_takes_its_part_only(allocator, cluster):
    """The others stay as they are; asked again, what was lost is held elsewhere if there is room."""
    allocator.reserve("m", ONE, 3)
    kept = {each.allocation_id for each in allocator.reservation("m") if each.node_id == "a"}
    cluster.lose("b")
    allocator.get_system_resources()
    assert [each.state for each in allocator.reservation("m")] == ["confirmed", "confirmed", "lost"]
    assert allocator.reserve("m", ONE, 3)["nodes"] == {"a": 2, "c": 1}
    assert kept < ids(allocator)
    cluster.lose("c")
    allocator.get_system_resources()
    answer = allocator.reserve("m", ONE, 3)
    assert (answer["status"], answer["replicas"], answer["held"]["nodes"]) == ("denied", 2, {"a": 2})


def test_replicas_that_need_something_else_now_take_the_place_of_the_old_ones(allocator):
    """Those of the former demand make way first: where they fill the cluster there is no room for both."""
    allocator.reserve("m", ONE, 6)
    assert allocator.reserve("m", Resources.demand(cpu=2), 3)["nodes"] == {"a": 1, "b": 1, "c": 1}


def test_replicas_share_devices(allocator):
    """Fractions of a device that no single allocation could have together: 1.6 devices are four of 0.4."""
    found = allocator.reserve("m", Resources.demand(gpu=0.4), 4)
    assert (found["replicas"], found["gpu"]) == (4, 1.6)
    assert all(len(each.devices) == 1 for each in allocator.reservation("m"))
    for each in range(4):
        allocator.reserve("m", Resources.demand(gpu=0.4), 3 - each)


def test_a_holders_allocations_are_not_its_reservation(allocator):
    """What the same holder has otherwise is neither counted nor given back."""
    other = allocator.allocate(ONE, holder="m")
    assert allocator.reserve("m", ONE, 2)["replicas"] == 2
    allocator.reserve("m", ONE, 0)
    assert [each.allocation_id for each in allocator.list_allocations("m")] == [other.allocation_id]


def test_nothing_is_reserved_of_what_needs_nothing(allocator):
    """However many are asked for; a number below zero is a mistake."""
    assert allocator.reserve("m", Resources(), 10**9)["replicas"] == 0
    with pytest.raises(InvalidValue):
        allocator.reserve("m", ONE, -1)


def test_a_refusal_of_ray_leaves_what_there_was(cluster):
    """Another program was faster: the replicas that Ray has no room for are not held in the ledger either."""

    class Full(LocalPlaces):
        def create(self, allocation):
            if len(self.facts()) == 2:
                raise ClusterError("Ray has no room")
            super().create(allocation)

    places = Full()
    allocator = ResourceAllocator(probe=cluster, places=places, clock=FakeClock())
    answer = allocator.reserve("m", ONE, 4)
    assert (answer["status"], answer["reason"], answer["replicas"]) == ("denied", "Ray has no room", 2)
    assert len(places.facts()) == 2
    allocator.validate()


def test_asked_again_after_a_kill_it_is_whole(cluster, places):
    """Killed between the decision and its places: the next incarnation creates them, and no replica is held twice."""
    book, clock = Book(), FakeClock()
    first = ResourceAllocator(probe=cluster, places=places, clock=clock, journal=book)
    first.reserve("m", ONE, 1)
    first.decide_reservation("m", ONE, 3)
    second = ResourceAllocator(probe=cluster, places=places, clock=clock, journal=book)
    assert second.recover() == 3
    assert second.reserve("m", ONE, 3)["replicas"] == 3
    assert {each.state for each in second.reservation("m")} == {"confirmed"}
    assert sorted(fact.place for fact in places.facts()) == sorted(each.place for each in second.reservation("m"))
    second.decide_reservation("m", ONE, 0)
    third = ResourceAllocator(probe=cluster, places=places, clock=clock, journal=book)
    assert third.recover() == 0
    assert {repair.action for repair in third.reconcile(places.facts())} == {"remove"}
