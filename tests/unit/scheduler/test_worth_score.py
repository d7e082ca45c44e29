"""What learned placement prefers, on cases small enough to compute by hand."""

from __future__ import annotations

import pytest

from balance.core.scheduler.bid_price import bid_prices
from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.placement import Placement
from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.workload import Workload
from balance.core.scheduler.worth import WorthScore
from balance.errors import InvalidValue
from balance.types import Resources


def shape_of(**demand: float) -> Shape:
    """Return the shape of a demand in the contract's units."""
    return Shape(Resources.demand(**demand))


def test_fragment_and_bid_add_up_to_the_worth_that_is_lost() -> None:
    """With halves only, a half costs 0.2 * 500 of fragment and 3 * 500 of bid price, in millionths of a device."""
    room, half = Room("n", "", Resources.capacity(gpu=1)), shape_of(gpu=0.5)
    score = WorthScore(Workload([half.demand]), [room])
    assert score(room, half) == 1000 * (0.2 * 500 + 3 * 500)


def test_a_fraction_that_leaves_what_nobody_can_use_loses_the_whole_device() -> None:
    """Everybody wants whole devices; a tenth of one destroys all of it, but costs nothing on a broken one."""
    room = Room("n", "", Resources.capacity(gpu=2))
    whole, tenth = shape_of(gpu=1), shape_of(gpu=0.1)
    score = WorthScore(Workload([whole.demand]), [room])
    assert score(room, tenth) == 1000 * (0.2 * 1000 + 3 * 1000)
    room.add(tenth, ((1, 100),), -1)
    assert score(room, tenth) == 0
    assert score.devices(room, tenth) == ((1, 100),)


def test_the_device_is_chosen_by_what_is_asked_for_not_by_tightness() -> None:
    """Everybody wants halves: 0.2 goes where a half remains, although it is tighter elsewhere."""
    room = Room("n", "", Resources.capacity(gpu=2))
    room.add(shape_of(gpu=0.4), ((0, 400),), -1)
    room.add(shape_of(gpu=0.3), ((1, 300),), -1)
    small = shape_of(gpu=0.2)
    score = WorthScore(Workload([Resources.demand(gpu=0.5)]), [room])
    assert room.pick_devices(small) == ((0, 200),)
    assert score.devices(room, small) == ((1, 200),)


def test_several_whole_devices_are_kept_together_for_those_who_ask_for_several() -> None:
    """One device comes from the node that has no pair left, if pairs are asked for."""
    ledger = Ledger()
    for name in ("a", "b"):
        ledger.add_room(name, "", Resources.capacity(gpu=2))
    single, pair = shape_of(gpu=1), shape_of(gpu=2)
    score = WorthScore(Workload([pair.demand, single.demand]), ledger.rooms())
    placement = Placement(ledger, score=score)
    room = ledger.room("b")
    assert room is not None
    ledger.take("first", room, single)
    assert placement.best(single) is room


def test_gpu_is_not_left_without_cores() -> None:
    """A CPU task goes where its cores are spare, not where each core belongs to a device."""
    ledger = Ledger()
    tight = ledger.add_room("a", "", Resources.capacity(cpu=8, gpu=8))
    spare = ledger.add_room("b", "", Resources.capacity(cpu=64, gpu=8))
    ledger.take("devices", spare, shape_of(gpu=4))
    task = shape_of(cpu=2)
    score = WorthScore(Workload(), ledger.rooms())
    assert (score(tight, task), score(spare, task)) == (1000 * 2000, 0)


def test_what_needs_many_cores_goes_where_there_are_many() -> None:
    """Beside a device six cores are usual: two that want ten share the rich node, not all of the poor one's cores."""
    ledger = Ledger()
    poor = ledger.add_room("a", "", Resources.capacity(cpu=12, gpu=2))
    rich = ledger.add_room("b", "", Resources.capacity(cpu=40, gpu=2))
    many, few = shape_of(cpu=10, gpu=1), shape_of(cpu=2, gpu=1)
    placement = Placement(ledger, score=WorthScore(Workload([many.demand, few.demand]), ledger.rooms()))
    assert placement.best(many) is rich
    assert placement.best(few) is poor
    assert placement.best(shape_of(cpu=8)) is rich


def test_a_labelled_model_is_left_for_those_who_ask_for_it() -> None:
    """Who takes any device gets one that fewer ask for by name; who asks for the name gets it."""
    ledger = Ledger()
    rare = ledger.add_room("a", "", Resources.capacity(gpu=1, custom={"accelerator_type:T4": 1}))
    plain = ledger.add_room("b", "", Resources.capacity(gpu=1))
    anyone = shape_of(gpu=1)
    named = Shape(Resources.demand(gpu=1, custom={"accelerator_type:T4": 0.001}))
    score = WorthScore(Workload([anyone.demand, anyone.demand, named.demand]), ledger.rooms())
    placement = Placement(ledger, score=score)
    assert placement.best(anyone) is plain
    assert placement.best(named) is rare
    # Twice as much is asked of it: a price of half of 1000 over 1500; and 0.2 of the third who could use it.
    assert score(rare, anyone) - score(plain, anyone) == 333 * 1000 + 66_667


def test_equal_scores_go_to_the_smaller_node_id() -> None:
    """Nothing but the node id breaks a tie."""
    ledger = Ledger()
    for name in ("c", "a", "b"):
        ledger.add_room(name, "", Resources.capacity(cpu=1, gpu=1))
    whole = shape_of(gpu=1)
    best = Placement(ledger, score=WorthScore(Workload([whole.demand]), ledger.rooms())).best(whole)
    assert best is not None and best.node_id == "a"


@pytest.mark.parametrize("cores", [range(1, 4), range(1, 2000, 7)])
def test_a_room_that_came_after_learning_is_scored_too(cores: range) -> None:
    """Unseen capacities, and more different amounts of CPU than the tables have rows, are no error."""
    work = Workload(Resources.demand(cpu=core, gpu=0.5) for core in cores)
    room = Room("new", "", Resources.capacity(cpu=3000, gpu=4))
    score = WorthScore(work)
    assert score(room, shape_of(cpu=1, gpu=0.5)) < score(room, shape_of(cpu=3000, gpu=0.5))


def test_bid_prices_know_which_kind_is_short() -> None:
    """Where only one kind accepts what is asked for most, its devices earn and the others' pieces do not."""
    scarce, idle = bid_prices([(1000, 10.0), (500, 1.0)], [[True, True], [False, True]], [2, 5])
    assert (scarce[1000], scarce[999]) == (1000.0, 0.0)
    assert idle[1000] == 0.0


def test_bid_prices_without_demand_are_nothing() -> None:
    """There is no programme without demands; the answer has the same form."""
    (none,) = bid_prices([], [[]], [3])
    assert none.shape == (1001,) and not none.any()


def test_workload_forgets_the_rare_when_it_is_full() -> None:
    """The table is bounded: counts are halved until there is room."""
    work = Workload(kinds_max=2)
    for gpus, times in ((1, 5), (2, 1), (3, 1)):
        work.add(Resources.demand(gpu=gpus), times)
    assert [(demand.gpu, count) for demand, count in work.counts()] == [(1.0, 2), (3.0, 1)]


@pytest.mark.parametrize(("demand", "count"), [("half a device", 1), (Resources(), 0), (Resources(), 1.5)])
def test_workload_refuses_what_is_no_demand(demand: Resources, count: int) -> None:
    """A caller's mistake raises and leaves the histogram as it was."""
    work = Workload()
    with pytest.raises(InvalidValue):
        work.add(demand, count)
    assert not len(work)
