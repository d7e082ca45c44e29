"""The scheduler's leases: exact books, whatever becomes of the calls to the allocator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import leases as module
from actors.leases import Leases, rounded, shortfall
from balance.errors import UnknownId
from balance.types import NOTHING, Resources

HALF = Resources.demand(cpu=0.5)
ONE = Resources.demand(cpu=1)


class Allocator:
    """The allocator's side of a lease, with so many cores; calls can be held back."""

    def __init__(self, cores: float) -> None:
        self.free = cores
        self.held: dict[str, float] = {}
        self.devices: list[tuple[int, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: BaseException | None = None

    async def ask(self, role: str, method: str, *args: Any) -> dict[str, Any]:
        assert role == "resource_allocator"
        # As with Ray, a call that nobody awaits any more is carried out all the same.
        return await asyncio.shield(asyncio.create_task(self._serve(method, *args)))

    async def _serve(self, method: str, *args: Any) -> dict[str, Any]:
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        if method == "lease":
            _node, demand, name, devices = args
            self.devices += devices or []
            if demand["cpu"] > self.free:
                return {"status": "denied", "reason": f"only {self.free:g} cores are free"}
            self.free -= demand["cpu"]
            self.held[name] = demand["cpu"]
            return {"status": "allocated", "allocation_id": name, **demand}
        assert method == "release_allocation"
        self.free += self.held.pop(args[0], 0.0)
        return {"status": "released"}


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a scenario with leases on an allocator, and see in the end that both have the same books."""

    def run(play: Callable[[Leases, Allocator], Awaitable[None]], cores: float = 2) -> None:
        async def main() -> None:
            allocator = Allocator(cores)
            monkeypatch.setattr(module, "ask", allocator.ask)
            monkeypatch.setattr(module, "IDLE_S", 0.0)
            leases = Leases(lambda: None)
            await play(leases, allocator)
            await leases.give_back_idle()
            assert set(allocator.held) == {name for node in leases._nodes.values() for name in node.leases}

        asyncio.run(main())

    return run


def test_the_shortfall_counts_each_resource_for_itself() -> None:
    """What lacks is what goes beyond what is held, of each resource, custom ones too; never negative."""
    needed = Resources.demand(cpu=2, memory=10, gpu=1, custom={"licence": 2})
    held = Resources.demand(cpu=3, memory=4, gpu=0.5, custom={"licence": 0.5, "disk": 9})
    assert shortfall(needed, held) == Resources.demand(memory=6, gpu=0.5, custom={"licence": 1.5})
    assert not shortfall(held, held)


def test_a_lease_is_taken_in_whole_cores_and_steps_of_memory() -> None:
    """CPU and memory are rounded up, so that small tasks share; GPUs and custom resources are not."""
    lease = rounded(Resources.demand(cpu=1.2, memory=300 * 2**20, gpu=0.25, custom={"licence": 0.5}))
    assert lease == Resources.demand(cpu=2, memory=512 * 2**20, gpu=0.25, custom={"licence": 0.5})
    assert rounded(NOTHING) == NOTHING


def test_small_demands_share_one_lease(scenario: Any) -> None:
    """The second half of a core needs no call; the third takes another core; all goes back when nobody needs it."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        assert [await leases.cover("n1", HALF) for _ in range(2)] == ["", ""]
        assert allocator.held == {f"{leases.prefix}1": 1.0}
        assert await leases.cover("n1", HALF) == ""
        assert allocator.free == 0
        for _ in range(3):
            leases.uncover("n1", HALF)
        await leases.give_back_idle()
        assert allocator.held == {} and leases.to_dict()["n1"]["held"]["cpu"] == 0

    scenario(play)


def test_what_rounding_makes_too_large_is_leased_exactly(scenario: Any) -> None:
    """Where a whole core can't be had, exactly what lacks is asked for; where that can't be had, the reason comes."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        assert await leases.cover("n1", HALF) == ""
        assert list(allocator.held.values()) == [0.5]
        assert await leases.cover("n1", ONE) == "only 0.3 cores are free"
        assert leases.to_dict()["n1"]["used"]["cpu"] == 0.5

    scenario(play, cores=0.8)


def test_a_lease_that_comes_for_nobody_is_in_the_books(scenario: Any) -> None:
    """A run that is stopped while its lease is asked for leaves no lease behind that nobody knows of."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        allocator.gate.clear()
        run = asyncio.create_task(leases.cover("n1", ONE))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        allocator.gate.set()
        assert await leases.cover("n1", ONE) == "", "the books are not locked for ever"
        assert leases.to_dict()["n1"]["used"]["cpu"] == 1.0
        leases.uncover("n1", ONE)
        await leases.give_back_idle()
        await leases.give_back_idle()
        assert allocator.held == {}

    scenario(play)


@pytest.mark.parametrize("error", [TimeoutError(), UnknownId("node", "n1")])
def test_an_allocator_that_fails_is_a_refusal(scenario: Any, error: Exception) -> None:
    """No task is lost for it: nothing started.  Whatever was granted all the same is given back by its id."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        allocator.fails = error
        assert "did not answer" in await leases.cover("n1", ONE)
        assert leases.to_dict()["n1"]["used"]["cpu"] == 0
        allocator.fails = None
        allocator.held[f"{leases.prefix}1"] = 1.0  # the call had been carried out, its answer was lost
        await leases.give_back_idle()
        assert allocator.held == {}

    scenario(play)


def test_recalled_leases_are_those_that_nothing_runs_on(scenario: Any) -> None:
    """Who asks for room gets idle leases only, and they go back even if the asker never hears of it."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        await leases.cover("n1", ONE)
        await leases.cover("n1", ONE)
        leases.uncover("n1", ONE)
        [recalled] = leases.recall()
        assert leases.recall() == []
        assert leases.to_dict()["n1"]["held"]["cpu"] == 1.0
        await leases.give_back_idle()
        assert recalled not in allocator.held and len(allocator.held) == 1

    scenario(play)


def test_a_lost_node_leaves_no_debt(scenario: Any) -> None:
    """Runs that end after their node is gone give nothing back there, and its leases are released."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        await leases.cover("n1", ONE)
        leases.lose("n1")
        leases.uncover("n1", ONE)
        assert leases.to_dict() == {}
        await leases.give_back_idle()
        assert allocator.held == {}

    scenario(play)


def test_devices_are_leased_one_by_one_and_exactly(scenario: Any) -> None:
    """Each task's own devices are covered, as much of them as it uses; what is leased of one serves that one only."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        quarter, both = Resources.demand(gpu=0.25), Resources.demand(gpu=2)
        assert await leases.cover("n1", quarter, (1,)) == ""
        assert allocator.devices == [(1, 250)]
        assert not leases.cover_now("n1", quarter, (0,)), "of device 0 nothing is leased"
        assert await leases.cover("n1", quarter, (1,)) == ""
        leases.uncover("n1", quarter, (1,))
        assert leases.cover_now("n1", quarter, (1,))
        for _ in range(2):
            leases.uncover("n1", quarter, (1,))
        assert await leases.cover("n1", both, (0, 1)) == ""
        assert sorted(allocator.devices[2:]) == [(0, 1000), (1, 500)]
        assert leases.to_dict()["n1"]["held"]["gpu"] == leases.to_dict()["n1"]["used"]["gpu"] == 2.0
        leases.uncover("n1", both, (0, 1))

    scenario(play)


def test_what_is_held_already_needs_no_waiting(scenario: Any) -> None:
    """`cover_now` covers what the leases hold, nothing beyond, and nothing while they are about to change."""

    async def play(leases: Leases, allocator: Allocator) -> None:
        assert not leases.cover_now("n1", HALF)
        assert await leases.cover("n1", HALF) == ""
        assert leases.cover_now("n1", HALF) and not leases.cover_now("n1", HALF)
        allocator.gate.clear()
        waiting = asyncio.create_task(leases.cover("n1", HALF))
        await asyncio.sleep(0)
        leases.uncover("n1", HALF)
        assert not leases.cover_now("n1", HALF), "it would overtake the one that waits"
        allocator.gate.set()
        assert await waiting == ""
        assert leases.to_dict()["n1"]["used"]["cpu"] == 1.0
        for _ in range(2):
            leases.uncover("n1", HALF)

    scenario(play)
