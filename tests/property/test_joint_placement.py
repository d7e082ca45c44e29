"""Joint placement against brute force over all subsets and all arrangements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import NodeJoined, TaskSubmitted
from balance.core.scheduler.joint import place_most, place_together
from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import TaskSpec
from balance.types import Resources

GPUS = st.sampled_from([100, 200, 300, 333, 400, 500, 600, 700, 900, 1000, 1000, 2000, 3000])
DEMANDS = st.builds(Resources, st.sampled_from([0, 0, 1000, 2000, 3000]), st.sampled_from([0, 0, 1, 2]), GPUS)
DEVICES = st.integers(1, 2)
CAPACITIES = st.builds(
    Resources, st.integers(1000, 6000), st.integers(1, 5), st.sampled_from([1000, 2000, 3000, 500, 1700])
)


def arrangements(rooms: list[Room], shape: Shape) -> Iterator[tuple[int, tuple[tuple[int, int], ...]]]:
    """Yield every room and every choice of devices for one demand: no shortcut of any kind."""
    for slot, room in enumerate(rooms):
        if room.fits(shape):
            able = [index for index, free in room.gpus.items() if free >= shape.per_device]
            for devices in combinations(able, shape.device_count):
                yield slot, tuple((index, shape.per_device) for index in devices)


def can_all_go(rooms: list[Room], shapes: Sequence[Shape]) -> bool:
    """Say, by trying everything, whether all of `shapes` fit at once."""
    if not shapes:
        return True
    for slot, devices in arrangements(rooms, shapes[0]):
        rooms[slot].add(shapes[0], devices, -1)
        went = can_all_go(rooms, shapes[1:])
        rooms[slot].add(shapes[0], devices, 1)
        if went:
            return True
    return False


def best_counts(rooms: list[Room], shapes: Sequence[Shape], ranks: Sequence[int]) -> tuple[int, ...]:
    """Return the largest vector of numbers placed by rank, over all subsets and all their arrangements."""
    names = sorted(set(ranks))
    vectors: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for number in range(len(shapes) + 1):
        for subset in combinations(range(len(shapes)), number):
            vector = tuple(sum(ranks[index] == name for index in subset) for name in names)
            vectors.setdefault(vector, []).append(subset)
    for vector in sorted(vectors, reverse=True):
        if any(can_all_go(rooms, [shapes[index] for index in subset]) for subset in vectors[vector]):
            return vector
    raise AssertionError("nothing at all can always be placed")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(CAPACITIES, min_size=1, max_size=3),
    st.lists(st.tuples(DEMANDS, st.integers(1, 3)), min_size=1, max_size=6),
    st.booleans(),
)
def test_no_subset_and_no_arrangement_is_better(
    capacities: list[Resources], wanted: list[tuple[Resources, int]], ranked: bool
) -> None:
    """The numbers placed, by rank, are those of brute force; what is placed fits together; nothing else changes."""
    rooms = [Room(f"n{index}", "", capacity) for index, capacity in enumerate(capacities)]
    shapes = [Shape(demand) for demand, _ in wanted]
    ranks = [rank if ranked else 0 for _, rank in wanted]
    joint = place_most(rooms, shapes, ranks)
    for room in rooms:
        assert room.free() == room.capacity
    placed = [(index, spot) for index, spot in enumerate(joint.spots) if spot is not None]
    for index, (room, devices) in placed:
        assert len({device for device, _ in devices}) == shapes[index].device_count
        assert all(amount == shapes[index].per_device for _, amount in devices)
        room.add(shapes[index], devices, -1)
    for room in rooms:
        assert min(room.cpu, room.memory, *room.gpus.values()) >= 0
    for index, (room, devices) in placed:
        room.add(shapes[index], devices, 1)
    assert joint.exact
    counts = tuple(sum(ranks[index] == rank for index, _ in placed) for rank in sorted(set(ranks)))
    assert counts == best_counts(rooms, shapes, ranks)


@settings(max_examples=100, deadline=None)
@given(st.lists(CAPACITIES, min_size=1, max_size=3), st.lists(DEMANDS, min_size=1, max_size=6))
def test_all_or_none_is_found_whenever_it_exists(capacities: list[Resources], demands: list[Resources]) -> None:
    """`place_together` answers exactly when brute force finds an arrangement of all."""
    rooms = [Room(f"n{index}", "", capacity) for index, capacity in enumerate(capacities)]
    shapes = [Shape(demand) for demand in demands]
    spots = place_together(rooms, shapes)
    assert (spots is not None) == can_all_go(rooms, shapes)
    for (room, devices), shape in zip(spots or (), shapes, strict=bool(spots)):
        assert room.fits(shape)
        room.add(shape, devices, -1)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_was_cut_out_of_the_cluster_goes_in_again(data: st.DataObject) -> None:
    """Devices and the cores beside them, cut up without rest and shuffled, are filled to the last thousandth."""
    rooms, shapes = [], []
    for number in range(data.draw(st.integers(1, 3))):
        cuts = [data.draw(st.lists(st.integers(1, 9), max_size=2, unique=True)) for _ in range(data.draw(DEVICES))]
        pieces = [after - before for cut in cuts for before, after in pairwise([0, *sorted(cut), 10])]
        cores = [data.draw(st.integers(0, 3)) for _ in pieces]
        rooms.append(Room(f"n{number}", "", Resources.capacity(cpu=sum(cores), gpu=len(cuts))))
        shapes += [Shape(Resources.demand(cpu=cpu, gpu=gpu / 10)) for cpu, gpu in zip(cores, pieces, strict=True)]
    shuffled = data.draw(st.permutations(shapes))
    spots = place_together(rooms, shuffled)
    assert spots is not None
    for (room, devices), shape in zip(spots, shuffled, strict=True):
        room.add(shape, devices, -1)
    assert all(room.cpu == 0 and not any(room.gpus.values()) for room in rooms)
    for room in rooms:
        room.resize(room.capacity)
    assert all(place_most(rooms, shuffled).spots)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.lists(st.integers(1, 9), max_size=2, unique=True), min_size=1, max_size=2), max_size=2),
    st.randoms(use_true_random=False),
)
def test_tasks_that_fit_together_start_together(nodes: list[list[list[int]]], chance: Random) -> None:
    """Submitted at once in any order, pieces that fill the cluster exactly start all, each on devices that hold it."""
    engine, gpus = Engine(), []
    for number, devices in enumerate(nodes):
        engine.handle(NodeJoined(f"n{number}", Resources.capacity(gpu=len(devices))), now=0.0)
        gpus += [(after - before) / 10 for cut in devices for before, after in pairwise([0, *sorted(cut), 10])]
    chance.shuffle(gpus)
    specs = [TaskSpec(f"t{number}", demand=Resources.demand(gpu=gpu)) for number, gpu in enumerate(gpus)]
    started = engine.handle(*(TaskSubmitted(spec) for spec in specs), now=1.0)
    assert len(started) == len(specs)
    engine.validate()


@pytest.mark.parametrize("steps_max", [0, 1, 3, 10])
def test_a_search_that_is_cut_short_is_no_worse_than_greedy(steps_max: int) -> None:
    """With too few steps the answer says that it is not certain, and places what a greedy one does."""
    rooms = [Room(f"n{index}", "", Resources.capacity(gpu=2)) for index in range(3)]
    gpus = [0.4, 0.3, 0.4, 0.6, 1, 0.7, 0.6, 0.5, 1, 0.5, 0.9, 0.2]
    shapes = [Shape(Resources.demand(gpu=gpu)) for gpu in gpus]
    cut = place_most(rooms, shapes, steps_max=steps_max)
    assert not cut.exact
    assert sum(spot is not None for spot in cut.spots) >= 9
    full = place_most(rooms, shapes)
    assert full.exact
    assert sum(spot is not None for spot in full.spots) >= sum(spot is not None for spot in cut.spots)
