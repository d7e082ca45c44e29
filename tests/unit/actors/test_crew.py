"""Who is free, who waits, and when executors are started and ended; their actors are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from actors import crew as module
from actors.crew import KEEP_S, PER_CORE, PER_DEVICE, Crew, Executor


class Actor:
    """An executor's actor, as far as the crew sees it: it answers `ping`, and abides until it is killed."""

    def __init__(self, name: str, *, starts: bool = True) -> None:
        self.name = name
        self.alive = True
        self._starts = starts
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ping = self.abide = self
        self.prepare = Preparing(self)
        self.prepared: list[str] = []
        self.broken = ""

    def remote(self) -> asyncio.Future[None]:
        if self._starts and self.alive:
            self._starts = False
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        return self._end

    def die(self) -> None:
        self.alive = False
        if not self._end.done():
            self._end.set_exception(ActorDiedError())


class Preparing:
    """An executor's method that loads a function."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def remote(self, digest: str, blob: bytes) -> asyncio.Future[str]:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._actor.prepared.append(digest)
        done.set_result(self._actor.broken)
        return done


class Bench(Crew):
    """A crew of stand-ins on one node with two cores and two GPUs."""

    def __init__(self) -> None:
        super().__init__(epoch=1, result_limit_bytes=1)
        self.actors: list[Actor] = []
        self.starts = True
        self.broken = ""
        self.join("n1", 2.0, gpus=2.0, warm=2)

    def _start(self, name: str, node_id: str, devices: tuple[int, ...]) -> Any:
        del node_id, devices
        self.actors.append(Actor(name, starts=self.starts))
        self.actors[-1].broken = self.broken
        return self.actors[-1]

    def everyone(self) -> list[module.Executor]:
        return [each for node in self._nodes.values() for place in node.places.values() for each in place.everyone]

    def alive(self) -> int:
        return sum(actor.alive for actor in self.actors)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    """Play a scenario on a crew; in the end nobody waits and the books are right."""
    monkeypatch.setattr(module.ray, "kill", lambda handle, no_restart: handle.die())
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            bench = Bench()
            await bench.settle()
            await scenario(bench)
            await bench.settle()
            for node in bench._nodes.values():
                for place in node.places.values():
                    assert place.next_waiting() is None
                    assert not any(executor.ended for executor in place.everyone)
                    assert all(executor in place.everyone for executor in place.free)
            bench.lose("n1")
            await bench.settle()
            assert not bench.alive(), "no process is left"

        asyncio.run(main())

    return run


async def _take(crew: Crew, devices: tuple[int, ...] = (), function: str = "f") -> Executor:
    return await asyncio.wait_for(crew.take("n1", devices, (function,)), 5)


def test_executors_see_their_own_devices(play: Any) -> None:
    """The same devices, the same executors; others, or none, have executors of their own."""

    async def scenario(crew: Bench) -> None:
        plain, shared, both = await _take(crew), await _take(crew, (0,)), await _take(crew, (0, 1))
        assert [each.devices for each in (plain, shared, both)] == [(), (0,), (0, 1)]
        for each in (plain, shared, both):
            crew.give_back(each)
        assert [await _take(crew), await _take(crew, (0,)), await _take(crew, (0, 1))] == [plain, shared, both]
        for each in (plain, shared, both):
            crew.give_back(each)

    play(scenario)


@pytest.mark.parametrize(("devices", "limit"), [((), 2 * PER_CORE), ((1,), PER_DEVICE)])
def test_there_are_no_more_than_the_place_may_have(play: Any, devices: tuple[int, ...], limit: int) -> None:
    """Who comes beyond the limit waits for one that is given back, first come, first served."""

    async def scenario(crew: Bench) -> None:
        taken = [await _take(crew, devices) for _ in range(limit)]
        order: list[str] = []

        async def wait(name: str) -> None:
            executor = await _take(crew, devices)
            order.append(name)
            crew.give_back(executor)

        waiting = [asyncio.create_task(wait(name)) for name in "abc"]
        await crew.settle()
        assert not order and len({executor.name for executor in taken}) == limit
        assert crew.take_free("n1", devices, ("f",)) is None
        crew.give_back(taken.pop())
        await asyncio.gather(*waiting)
        assert order == list("abc")
        for executor in taken:
            crew.give_back(executor)

    play(scenario)


def test_on_a_full_node_the_longest_idle_gives_way(play: Any) -> None:
    """There are many sets of devices: those of yesterday do not keep today's from having an executor."""

    async def scenario(crew: Bench) -> None:
        sets = [(0,), (1,), (0, 1)]
        taken = [await _take(crew, devices) for devices in sets[:2] for _ in range(PER_DEVICE)]
        taken += [await _take(crew) for _ in range(2 * PER_CORE)]
        assert crew.alive() == 2 * PER_CORE + 2 * PER_DEVICE
        first = taken.pop(0)
        crew.give_back(first)
        await asyncio.sleep(0.001)
        crew.give_back(taken.pop(0))
        newcomer = await _take(crew, sets[2])
        assert first.ended and crew.alive() == 2 * PER_CORE + 2 * PER_DEVICE
        for executor in [newcomer, *taken]:
            crew.give_back(executor)

    play(scenario)


def test_idle_executors_end_and_the_warm_ones_stay(play: Any) -> None:
    """What nobody has needed for long is ended, down to those that were started with the node."""

    async def scenario(crew: Bench) -> None:
        for executor in [*[await _take(crew) for _ in range(5)], await _take(crew, (0,))]:
            crew.give_back(executor)
        now = asyncio.get_running_loop().time()
        assert crew.end_idle(now) == 0
        assert crew.end_idle(now + KEEP_S + 1) == 4
        assert crew.stats()["executors"] == {"n1": 2} and crew.alive() == 2

    play(scenario)


def test_one_that_dies_while_it_is_free_is_replaced(play: Any) -> None:
    """Nobody gets a dead executor, and whoever comes next need not wait for a start."""

    async def scenario(crew: Bench) -> None:
        crew.actors[1].die()
        await crew.settle()
        assert len(crew.actors) == 3 and crew.stats()["free"] == 2
        names = {(await _take(crew)).name for _ in range(2)}
        assert names == {crew.actors[0].name, crew.actors[2].name}
        for executor in crew._nodes["n1"].place(()).everyone:
            crew.give_back(executor)

    play(scenario)


def test_one_that_never_began_to_live_is_not_replaced_for_ever(play: Any) -> None:
    """Where executors can't start, they are not started in a circle, only when somebody needs one."""

    async def scenario(crew: Bench) -> None:
        crew.starts = False
        crew.actors[0].die()
        await crew.settle()
        assert len(crew.actors) == 3
        crew.actors[2].die()
        await crew.settle()
        assert len(crew.actors) == 3 and crew.stats()["executors"] == {"n1": 1}

    play(scenario)


def test_a_discarded_one_is_replaced_for_who_waits(play: Any) -> None:
    """A run that was stopped takes its executor along; the next in line does not wait for it."""

    async def scenario(crew: Bench) -> None:
        crew._nodes["n1"].place(()).limit = 2
        taken = [await _take(crew) for _ in range(2)]
        waiting = asyncio.create_task(_take(crew))
        await crew.settle()
        crew.discard(taken[0])
        crew.give_back(taken[0])
        newcomer = await waiting
        assert newcomer not in taken and taken[0].ended
        crew.give_back(newcomer)
        crew.give_back(taken[1])

    play(scenario)


def test_who_stops_waiting_in_the_moment_of_getting_one_gives_it_back(play: Any) -> None:
    """A cancelled wait leaks no executor."""

    async def scenario(crew: Bench) -> None:
        crew._nodes["n1"].place(()).limit = 2
        taken = [await _take(crew) for _ in range(2)]
        waiting = asyncio.create_task(crew.take("n1", (), ("f",)))
        await crew.settle()
        crew.give_back(taken[0])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert crew.stats()["free"] == 1
        crew.give_back(taken[1])

    play(scenario)


def test_a_lost_node_ends_all_waiting(play: Any) -> None:
    """Who waits there is told at once; nobody waits for a node that is gone."""

    async def scenario(crew: Bench) -> None:
        crew.join("n2", 0.0)
        taken = [await asyncio.wait_for(crew.take("n2", (), ("f",)), 5) for _ in range(2)]
        waiting = asyncio.create_task(crew.take("n2", (), ("f",)))
        await crew.settle()
        crew.lose("n2")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        crew.give_back(taken[0])
        assert "n2" not in crew and crew.take_free("n2", (), ("f",)) is None

    play(scenario)


def test_executors_are_made_ready_ahead(play: Any) -> None:
    """Idle executors load the function, new ones are started for the rest; the next caller meets one that has it."""

    async def scenario(crew: Bench) -> None:
        crew.keep_ready("n1", (), "f", b"code", 3)
        assert crew.take_free("n1", (), ("g",)) is None, "those that load are nobody's"
        await crew.settle()
        assert (crew.alive(), crew.ready("f"), len(crew.ready_s("f"))) == (3, 3, 3)
        assert [sum(actor.prepared == ["f"] for actor in crew.actors)] == [3]
        executor = await _take(crew)
        assert "f" in executor.knows and crew.ready("f") == 3
        crew.give_back(executor)
        crew.keep_ready("n1", (), "f", b"code", 3)
        await crew.settle()
        assert len(crew.ready_s("f")) == 3, "what is ready is not made ready again"

    play(scenario)


def test_executors_are_made_ready_on_their_devices(play: Any) -> None:
    """Those that see other devices, or none, are left alone; who needs these devices meets one that has loaded."""

    async def scenario(crew: Bench) -> None:
        crew.keep_ready("n1", (0,), "f", b"code", 1)
        crew.keep_ready("n1", (), "f", b"code", 1)
        await crew.settle()
        ready = [executor.devices for executor in crew.everyone() if "f" in executor.keeps]
        assert sorted(ready) == [(), (0,)]
        executor = crew.take_free("n1", (0,), ("f",))
        assert executor is not None and executor.devices == (0,) and "f" in executor.knows
        crew.give_back(executor)
        crew.keep_ready("n1", (0,), "f", b"", 0)
        assert [executor.devices for executor in crew.everyone() if "f" in executor.keeps] == [()]

    play(scenario)


def test_what_is_ready_is_kept_until_it_is_not_wanted(play: Any) -> None:
    """An idle executor that has a model loaded stays until fewer are wanted; other work takes others first."""

    async def scenario(crew: Bench) -> None:
        crew.keep_ready("n1", (), "f", b"code", 3)
        await crew.settle()
        late = asyncio.get_running_loop().time() + 2 * KEEP_S
        assert crew.end_idle(late) == 0
        crew.keep_ready("n1", (), "f", b"code", 1)
        assert crew.ready("f") == 1
        for executor in crew._nodes["n1"].place(()).everyone:
            executor.knows |= set() if executor.keeps else {"g", "h", "i"}
        stranger = await _take(crew, function="j")
        assert not stranger.keeps, "the one that is kept ready is taken last"
        crew.give_back(stranger)
        assert crew.end_idle(late) == 1

    play(scenario)


def test_one_that_dies_is_made_ready_anew(play: Any) -> None:
    """Whoever looks again after a death gets the missing one; a function that can't be loaded is not tried for ever."""

    async def scenario(crew: Bench) -> None:
        crew.keep_ready("n1", (), "f", b"code", 2)
        await crew.settle()
        crew.actors[0].die()
        await crew.settle()
        assert crew.ready("f") == 1
        crew.keep_ready("n1", (), "f", b"code", 2)
        await crew.settle()
        assert crew.ready("f") == 2
        crew.broken = "ImportError: no"
        crew.keep_ready("n1", (), "g", b"code", 1)
        await crew.settle()
        crew.keep_ready("n1", (), "g", b"code", 1)
        await crew.settle()
        assert crew.ready("g") == 0 and sum(actor.prepared.count("g") for actor in crew.actors) == 1

    play(scenario)


def test_no_more_are_made_ready_than_the_place_may_have(play: Any) -> None:
    """A count beyond the node's limit fills it, and no more."""

    async def scenario(crew: Bench) -> None:
        crew.keep_ready("n1", (), "f", b"code", 100)
        await crew.settle()
        assert crew.ready("f") == 2 * PER_CORE
        crew.keep_ready("nowhere", (), "f", b"code", 1)

    play(scenario)
