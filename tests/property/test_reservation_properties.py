"""Reservations under whatever happens: what is held is what was asked for or all that there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balance.adapters.places import LocalPlaces
from balance.clock import FakeClock
from balance.core.scheduler import ResourceAllocator
from balance.core.scheduler.node_facts import NodeFacts
from balance.types import Resources

ONE = Resources.demand(cpu=1)


class Cluster:
    """Nodes of two cores, as many as a test says."""

    count = 3

    def nodes(self):
        return [NodeFacts(f"n{number}", Resources.capacity(cpu=2), head=number == 0) for number in range(self.count)]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.sampled_from("mn"), st.integers(0, 9)),
        st.tuples(st.just("nodes"), st.integers(1, 4)),
        st.just(("killed",)),
    ),
    max_size=12,
)


@given(steps=steps)
def test_a_reservation_is_as_large_as_it_can_be(steps):
    """Nothing is held twice, nothing without a place, no place for nothing, and room is not left while it is wanted."""
    cluster, places, clock, book = Cluster(), LocalPlaces(), FakeClock(), {}

    class Book:
        def record(self, changes):
            book.update(changes)

        def load(self):
            return [data for data in book.values() if data is not None]

    def incarnation():
        clock.advance(1.0)
        made = ResourceAllocator(probe=cluster, places=places, clock=clock, journal=Book())
        made.recover()
        return made

    allocator, wanted = incarnation(), {"m": 0, "n": 0}
    for step in steps:
        match step:
            case ("reserve", name, replicas):
                wanted[name] = replicas
            case ("nodes", count):
                cluster.count = count
                allocator.get_system_resources()
            case ("killed",):
                allocator.decide_reservation("m", ONE, wanted["m"] + 1)
                allocator = incarnation()
                for repair in allocator.reconcile(places.facts()):
                    if repair.action == "remove":
                        places.remove(repair.place)
        for name, replicas in sorted(wanted.items()):
            before = {each.allocation_id for each in allocator.reservation(name) if each.state == "confirmed"}
            answer = allocator.reserve(name, ONE, replicas)
            now = {each.allocation_id for each in allocator.reservation(name)}
            room = sum(facts.capacity.cpu for facts in allocator.free_rooms())
            assert answer["replicas"] == len(now) <= replicas
            assert len(now) == replicas or room == 0
            assert before <= now or now <= before, "it grows or it shrinks, it does not move"
        allocator.validate()
        assert sorted(fact.place for fact in places.facts()) == sorted(
            each.place for each in allocator.list_allocations()
        )
