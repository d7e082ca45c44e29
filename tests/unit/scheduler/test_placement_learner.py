"""Placement learns from what is asked for, in the engine and in the allocator."""

from __future__ import annotations

from cluster_play import Play, need, room

from balance.core.scheduler import ResourceAllocator
from balance.core.scheduler.node_facts import NodeFacts
from balance.core.scheduler.placement_learner import ASKED_MIN, GROWTH, PlacementLearner
from balance.core.scheduler.room import Room
from balance.core.scheduler.worth import WorthScore
from balance.types import Resources


def test_it_is_time_to_learn_when_enough_was_asked_for_and_again_when_that_has_grown():
    """Neither a few demands nor a few more are worth a second of work; nor is a cluster without devices."""
    learner, rooms = PlacementLearner(), [Room("n", "", room(gpu=2))]
    for _ in range(ASKED_MIN - 1):
        learner.note(need(gpu=0.5))
    assert learner.lesson(rooms) is None
    learner.note(need(gpu=0.5))
    assert learner.lesson([Room("c", "", room(cpu=2))]) is None
    assert learner.lesson(rooms) is not None
    for _ in range(int(ASKED_MIN * (GROWTH - 1)) - 1):
        learner.note(need(gpu=0.5))
    assert learner.lesson(rooms) is None
    learner.note(need(gpu=0.5))
    assert learner.lesson(rooms) is not None


def test_a_lesson_is_a_copy():
    """What is asked for and taken meanwhile does not disturb who learns in another thread."""
    learner, ours = PlacementLearner(), Room("n", "", room(gpu=2))
    for _ in range(ASKED_MIN):
        learner.note(need(gpu=0.5))
    lesson = learner.lesson([ours])
    assert lesson is not None and lesson.rooms[0] is not ours
    learner.note(need(gpu=0.7))
    assert [count for _, count in lesson.workload.counts()] == [ASKED_MIN]


def test_the_engine_learns_from_what_is_submitted_and_places_devices_by_it():
    """Everybody asks for halves: once that is learned, 0.2 goes where a half remains, not where it is tightest."""
    play = Play(("n1", room(gpu=2)))
    for number in range(ASKED_MIN):
        play.submit(f"past{number}", need(gpu=0.5))
        for task_id in [task for task in play.starts if play.state(task) == "running"]:
            play.finish(task_id)
    lesson = play.engine.placement_lesson()
    assert lesson is not None
    play.engine.place_by(lesson.learn())
    ledger = play.engine.state.ledger
    home = ledger.room("n1")
    assert home is not None
    home.add(play.engine.state.shape(need(gpu=0.4), None), ((0, 400),), -1)
    home.add(play.engine.state.shape(need(gpu=0.3), None), ((1, 300),), -1)
    score = play.engine.state.placement.score
    assert isinstance(score, WorthScore)
    small = play.engine.state.shape(need(gpu=0.2), None)
    assert home.pick_devices(small) == ((0, 200),)
    assert ledger.pick(home, small) == ((1, 200),)


def test_a_task_that_asks_for_no_device_teaches_nothing():
    """Only what asks for devices is counted."""
    play = Play(("n1", room(cpu=2, gpu=2)))
    for number in range(ASKED_MIN):
        play.submit(f"t{number}", need(cpu=1))
    assert play.engine.placement_lesson() is None


def test_the_allocator_learns_from_allocations_but_not_from_leases():
    """Where a lease goes is the scheduler's choice; what others ask for is learned, and used from then on."""

    class Lab:
        def nodes(self) -> list[NodeFacts]:
            return [NodeFacts("n1", Resources.capacity(gpu=2))]

    allocator = ResourceAllocator(probe=Lab())
    demand = Resources.demand(gpu=0.5)
    for number in range(ASKED_MIN):
        made = allocator.decide_allocation(demand, holder="s", allocation_id=f"l{number}", kind="lease")
        allocator.decide_release(made.allocation_id)
    assert allocator.placement_lesson() is None
    for _ in range(ASKED_MIN // 2):
        [made, other] = allocator.allocate_many([demand, demand], holder="m")
        allocator.release_allocation(made.allocation_id)
        allocator.release_allocation(other.allocation_id)
    lesson = allocator.placement_lesson()
    assert lesson is not None
    allocator.place_by(lesson.learn())
    assert allocator.allocate(demand, holder="m").state == "confirmed"
    allocator.validate()
