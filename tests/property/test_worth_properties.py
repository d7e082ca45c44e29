"""Safety and liveness of learned placement, on clusters and demands that nobody chose."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.core.scheduler.bid_price import bid_prices
from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.placement import Placement
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.workload import Workload
from balance.core.scheduler.worth import WorthScore
from balance.types import Resources

GPUS = st.sampled_from([0, 100, 250, 333, 500, 999, 1000, 2000])
LABELS = st.sampled_from([(), (), (("model:a", 1),), (("model:b", 1),)])
DEMANDS = st.builds(Resources, st.integers(0, 4000), st.integers(0, 8), GPUS, LABELS)
CAPACITIES = st.builds(
    Resources,
    st.integers(2000, 64000),
    st.integers(8, 256),
    st.sampled_from([0, 500, 1000, 2000, 4000]),
    st.sampled_from([(), (("model:a", 3),), (("model:a", 9), ("model:b", 9))]),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(CAPACITIES, min_size=1, max_size=4),
    st.lists(DEMANDS, min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40),
    st.integers(0, 4),
)
def test_whatever_fits_is_placed_and_nothing_is_given_twice(
    capacities: list[Resources], demands: list[Resources], asked: list[tuple[int, int]], known: int
) -> None:
    """A demand is refused only if no room fits it; the best room is chosen; what is granted fits its devices."""
    ledger = Ledger()
    for index, capacity in enumerate(capacities):
        ledger.add_room(f"n{index}", "", capacity)
    score = WorthScore(Workload(demands[:known]), list(ledger.rooms())[:known])
    placement = Placement(ledger, score=score)
    shapes = [Shape(demand) for demand in demands]
    for number, (which, leaves) in enumerate(asked):
        shape = shapes[which % len(shapes)]
        fitting = [room for room in ledger.rooms() if room.fits(shape)]
        room = placement.best(shape)
        if not fitting:
            assert room is None
            continue
        assert room is min(fitting, key=lambda other: (score(other, shape), other.node_id))
        assert isinstance(score(room, shape), int)
        devices = score.devices(room, shape)
        assert len({index for index, _ in devices}) == shape.device_count
        assert all(amount == shape.per_device <= room.gpus[index] for index, amount in devices)
        ledger.take(str(number), room, shape, devices)
        assert min(room.cpu, room.memory, *room.gpus.values(), *room.custom.values()) >= 0
        if not leaves:
            ledger.give_back(next(iter(ledger.holds())).holder)
    ledger.validate()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0.1, 1000)), min_size=1, max_size=6),
    st.lists(st.integers(1, 100), min_size=1, max_size=3),
    st.data(),
)
def test_a_price_never_falls_with_size_and_never_exceeds_the_size(
    pieces: list[tuple[int, float]], devices: list[int], data: st.DataObject
) -> None:
    """More free GPU is worth no less, and no piece earns more than itself: 0 <= price(g) <= g."""
    accepts = [[data.draw(st.booleans()) for _ in pieces] for _ in devices]
    for prices in bid_prices(pieces, accepts, devices):
        assert prices.shape == (1001,)
        assert all(prices[1:] >= prices[:-1])
        assert all(prices <= [amount + 1e-6 for amount in range(1001)])
