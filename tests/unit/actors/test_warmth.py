"""Which executors are made ready for what is reserved; the crew is a stand-in that writes down what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from actors.warmth import SERVICES, Warmth
from balance.client.wire import Function
from balance.storage import Store
from balance.types import Resources

CODE = Function("digest", b"code", "m.run")
CORE = {"cpu": 1.0}


class Told:
    """Remembers the last count for each node and function, and by devices where there are any."""

    def __init__(self) -> None:
        self.counts: dict[tuple[Any, ...], int] = {}

    def keep_ready(self, node_id: str, devices: tuple[int, ...], digest: str, blob: bytes, count: int) -> None:
        """Write it down."""
        self.counts[(node_id, devices, digest) if devices else (node_id, digest)] = count


def node(node_id: str, **cores: float) -> dict[str, Any]:
    """Return a node of the allocator's view, with so many cores reserved by name."""
    reservations = [
        {"name": f"model:{name}", "capacity": Resources.capacity(cpu=amount).to_dict(), "devices": []}
        for name, amount in cores.items()
    ]
    return {"node_id": node_id, "reservations": reservations}


@pytest.fixture
def told() -> Told:
    """Where what was told is written."""
    return Told()


@pytest.fixture
def warmth(told: Told) -> Warmth:
    """What is under test."""
    return Warmth(told)  # type: ignore[arg-type]  # a stand-in


def test_a_reservation_is_backed_by_ready_executors(warmth: Warmth, told: Told) -> None:
    """As many as its room holds, on each node where it lies, whoever comes first: the function or the room."""
    warmth.look([node("a", m=2.0), node("b", m=1.0, other=1.0)])
    assert told.counts == {}
    warmth.serve("model:m", CODE, CORE)
    assert told.counts == {("a", "digest"): 2, ("b", "digest"): 1}
    warmth.look([node("a", m=3.0), node("b")])
    assert told.counts == {("a", "digest"): 3, ("b", "digest"): 0}


def test_a_model_that_leaves_lets_go(warmth: Warmth, told: Told) -> None:
    """Out of service, nothing is kept ready for it; a new version of the code takes the place of the old one."""
    warmth.look([node("a", m=2.0)])
    warmth.serve("model:m", CODE, CORE)
    warmth.serve("model:m", Function("newer", b"code", "m.run"), CORE)
    assert told.counts == {("a", "digest"): 0, ("a", "newer"): 2}
    warmth.serve("model:m", None, CORE)
    assert told.counts == {("a", "digest"): 0, ("a", "newer"): 0}


@pytest.mark.parametrize(
    ("gpu", "reserved", "ready"),
    [
        (0.5, [(0, 1000), (2, 500)], {(0,): 2, (2,): 1}),
        (1.0, [(0, 1000), (2, 1000)], {(0,): 1, (2,): 1}),
        (1.0, [(0, 500), (2, 1000)], {(2,): 1}),
        (2.0, [(0, 1000), (1, 1000), (3, 1000)], {(0, 1): 1}),
        (0.5, [], {}),
    ],
)
def test_a_model_is_made_ready_on_its_devices(warmth: Warmth, told: Told, gpu, reserved, ready) -> None:
    """Executors that see the reserved devices load it, as many as have their share there; and let go of it."""
    capacity = Resources.capacity(cpu=8, gpu=sum(share for _, share in reserved) / 1000).to_dict()
    entry = {"name": "model:m", "capacity": capacity, "devices": reserved}
    warmth.serve("model:m", CODE, {"cpu": 1.0, "gpu": gpu})
    warmth.look([{"node_id": "a", "reservations": [entry]}])
    assert told.counts == {("a", devices, "digest"): count for devices, count in ready.items()}
    warmth.look([])
    assert told.counts == {("a", devices, "digest"): 0 for devices in ready}


def test_a_restart_goes_on(warmth: Warmth, told: Told) -> None:
    """What was told is written down, and deleted with the service."""
    store = Store()
    fence = store.acquire("scheduler")
    with store.transaction(fence) as tx:
        warmth.serve("model:m", CODE, CORE)(tx)
        warmth.serve("model:gone", CODE, CORE)(tx)
    with store.transaction(fence) as tx:
        warmth.serve("model:gone", None, CORE)(tx)
    again = Told()
    made = Warmth(again)  # type: ignore[arg-type]  # a stand-in
    made.restore(store.scan(SERVICES), {"digest": b"code"}.__getitem__)
    made.look([node("a", m=2.0, gone=1.0)])
    assert again.counts == {("a", "digest"): 2}
    store.close()
