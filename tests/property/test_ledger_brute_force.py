"""Ledger and placement against the plainest possible account: lists of what everyone holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balance.core.scheduler.heaps import in_order
from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.placement import Placement, strand_score
from balance.core.scheduler.shape import Shape
from balance.types import Resources

GPUS = [0, 0.2, 0.25, 0.4, 0.5, 0.7, 1, 2, 3]
demands = st.builds(
    Resources.demand,
    cpu=st.sampled_from([0, 0.5, 1, 2]),
    memory=st.sampled_from([0, 10, 50]),
    gpu=st.sampled_from(GPUS),
)


def could_place(devices: list[int], gpu_milli: int) -> bool:
    """Say, by looking at each device, whether a demand fits: one device up to 1000, whole ones above."""
    if gpu_milli <= 1000:
        return any(free >= gpu_milli for free in devices) or gpu_milli == 0
    return sum(free >= 1000 for free in devices) >= gpu_milli // 1000


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([0, 1, 2, 3])), min_size=1, max_size=4),
    st.lists(st.tuples(demands, st.booleans()), max_size=40),
)
def test_what_is_placed_fits_and_what_fits_is_placed(nodes, steps):
    """No device, core or byte is ever below zero; `best` finds a room exactly when there is one, and the best."""
    ledger = Ledger()
    for number, (cpu, gpu) in enumerate(nodes):
        ledger.add_room(f"n{number}", "", Resources.capacity(cpu=cpu, memory=100, gpu=gpu))
    placement = Placement(ledger, shapes_max=4)
    shapes: dict[Resources, Shape] = {}
    held: list[tuple[str, Resources, str, tuple[tuple[int, int], ...]]] = []
    for step, (demand, release) in enumerate(steps):
        if release and held:
            ledger.give_back(held.pop(step % len(held))[0])
        shape = shapes.setdefault(demand, Shape(demand))
        free = {}
        for number, (cpu, gpu) in enumerate(nodes):
            mine = [each for each in held if each[2] == f"n{number}"]
            devices = [
                1000 - sum(amount for *_, took in mine for index, amount in took if index == d) for d in range(gpu)
            ]
            left = (cpu * 1000 - sum(d.cpu_milli for _, d, *_ in mine), 100 - sum(d.memory_bytes for _, d, *_ in mine))
            assert min([*left, *devices]) >= 0
            free[f"n{number}"] = (
                demand.cpu_milli <= left[0]
                and demand.memory_bytes <= left[1]
                and could_place(devices, demand.gpu_milli)
            )
        room = placement.best(shape)
        able = [each for each in ledger.rooms() if free[each.node_id]]
        if room is None:
            assert not able
        else:
            assert free[room.node_id]
            assert strand_score(room, shape) == min(strand_score(each, shape) for each in able)
            hold = ledger.take(f"t{step}", room, shape)
            assert sum(amount for _, amount in hold.devices) == demand.gpu_milli
            held.append((f"t{step}", demand, room.node_id, hold.devices))
        ledger.validate()


@given(st.lists(st.integers(), max_size=60))
def test_a_heap_is_read_in_order_without_being_taken_apart(numbers):
    """`in_order` yields what sorting would, for any heap."""
    import heapq

    heap = [(number,) for number in numbers]
    heapq.heapify(heap)
    before = list(heap)
    assert list(in_order(heap)) == sorted(before)
    assert heap == before
