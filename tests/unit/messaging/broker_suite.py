"""What every broker has to do: one suite, run against each broker behind the port.

A test module subclasses `BrokerSuite` and says how to open and reopen its broker: ``test_embedded_log.py`` for the
embedded log, ``tests/integration/test_kafka_broker.py`` for Kafka.

Nothing here takes for granted that an answer is complete: a broker may hand out records and partitions bit by bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from balance.errors import InvalidValue, UnknownId
from balance.messaging.broker import Broker, Outgoing, Polled, Record, Send


def outgoing(*values: str, key: str | None = None) -> list[Outgoing]:
    return [Outgoing(None if key is None else key.encode(), value.encode(), {}) for value in values]


async def join(broker: Broker, topic: str, group: str = "g", member: str = "m") -> Polled:
    """Poll as one that is new until there are partitions: a group may be between two assignments."""
    joined = await broker.poll(topic, group, member, generation=0, positions={})
    while not joined.assigned:
        joined = await broker.poll(topic, group, member, generation=0, positions={}, wait_s=0.1)
    return joined


async def read(
    broker: Broker, topic: str, count: int, group: str = "g", member: str = "m"
) -> tuple[dict[int, int], list[Record]]:
    """Join, and read from the committed offsets until there are `count` records."""
    joined = await join(broker, topic, group, member)
    return joined.assigned, await read_on(broker, (topic, group, member), joined, count)


async def read_on(broker: Broker, who: tuple[str, str, str], joined: Polled, count: int) -> list[Record]:
    """Read until there are `count` records; `who` is topic, group and member."""
    positions, seen = dict(joined.assigned), []
    while len(seen) < count:
        polled = await broker.poll(*who, generation=joined.generation, positions=positions, wait_s=5)
        assert polled.records, f"{len(seen)} of {count} came"
        seen += polled.records
        positions.update({r.partition: r.offset + 1 for r in polled.records})
    return seen


async def settled(broker: Broker, topic: str, members: dict[str, int], group: str = "g") -> dict[str, list[int]]:
    """Poll for all members in turn until each has as many partitions as it should; return them."""
    generations, owned = dict.fromkeys(members, 0), {}
    while {member: len(owned.get(member, ())) for member in members} != members:
        for member, generation in generations.items():
            polled = await broker.poll(topic, group, member, generation=generation, positions={}, wait_s=0.01)
            generations[member], owned[member] = polled.generation, sorted(polled.assigned)
    return owned


class BrokerSuite:
    """Promises of the `Broker` port."""

    @pytest.fixture
    def run(self) -> Callable[[Callable[[Broker], Awaitable[Any]]], Any]:
        """Give a function that runs a scenario on a fresh broker; called again, on the same broker reopened."""
        raise NotImplementedError("say how this broker is opened")

    def test_topic_is_created_once(self, run):
        """Creating a topic again changes nothing and says so."""

        async def scenario(broker):
            assert await broker.create_topic("t", 3)
            assert not await broker.create_topic("t", 5)
            assert (await broker.topics())["t"] == 3

        run(scenario)

    def test_records_come_back_whole_and_in_order(self, run):
        """Key, value, headers and offsets are what was sent, in the order of sending."""

        async def scenario(broker):
            await broker.create_topic("t")
            placed = await broker.append(
                "t", [Outgoing(b"\x00k", b"\xff\x00", {"h": "زبان"}), Outgoing(None, b"", {}), Outgoing(b"", b"x", {})]
            )
            assert placed == [(0, 0), (0, 1), (0, 2)]
            _, records = await read(broker, "t", 3)
            assert [(r.offset, r.key, r.value, r.headers) for r in records] == [
                (0, b"\x00k", b"\xff\x00", {"h": "زبان"}),
                (1, None, b"", {}),
                (2, b"", b"x", {}),
            ]

        run(scenario)

    def test_equal_keys_share_a_partition_in_order(self, run):
        """What carries one key is read in the order of sending, whatever lies between."""

        async def scenario(broker):
            await broker.create_topic("t", 4)
            for number in range(20):
                await broker.append("t", outgoing(f"a{number}", key="a") + outgoing(f"b{number}", key="b"))
            _, seen = await read(broker, "t", 40)
            for key in (b"a", b"b"):
                chosen = [r for r in seen if r.key == key]
                assert [r.value.decode() for r in chosen] == [f"{key.decode()}{n}" for n in range(20)]
                assert len({r.partition for r in chosen}) == 1

        run(scenario)

    def test_what_is_not_committed_comes_again(self, run):
        """A poll moves nothing; a commit does, and survives reopening."""

        async def first(broker):
            await broker.create_topic("t")
            await broker.append("t", outgoing("0", "1", "2"))
            for _ in range(2):
                _, records = await read(broker, "t", 3)
                assert [r.offset for r in records] == [0, 1, 2]
            assert await broker.commit("t", "g", "m", {0: 2}) == []

        async def second(broker):
            assigned, records = await read(broker, "t", 1)
            assert assigned == {0: 2}
            assert [r.value for r in records] == [b"2"]
            assert await broker.lag("t", "g") == {0: 1}
            assert await broker.lag("t", "another") == {0: 3}

        run(first)
        run(second)

    def test_each_group_gets_everything(self, run):
        """Groups do not take from each other."""

        async def scenario(broker):
            await broker.create_topic("t")
            await broker.append("t", outgoing("x"))
            for group in ("g1", "g2"):
                _, records = await read(broker, "t", 1, group)
                assert [r.value for r in records] == [b"x"]

        run(scenario)

    def test_members_share_the_partitions(self, run):
        """Each partition has one owner; who leaves gives its partitions to the others."""

        async def scenario(broker):
            await broker.create_topic("t", 4)
            assert await settled(broker, "t", {"a": 4}) == {"a": [0, 1, 2, 3]}
            shared = await settled(broker, "t", {"a": 2, "b": 2})
            assert sorted(shared["a"] + shared["b"]) == [0, 1, 2, 3]
            await broker.leave("t", "g", "b")
            assert await settled(broker, "t", {"a": 4}) == {"a": [0, 1, 2, 3]}

        run(scenario)

    def test_commit_of_a_stranger_is_refused(self, run):
        """Who does not own a partition can't move the group."""

        async def scenario(broker):
            await broker.create_topic("t")
            await broker.append("t", outgoing("x"))
            await broker.poll("t", "g", "a", generation=0, positions={})
            assert await broker.commit("t", "g", "stranger", {0: 1}) == [0]
            assert await broker.lag("t", "g") == {0: 1}

        run(scenario)

    def test_a_waiting_poll_is_woken(self, run):
        """A record that comes during a poll ends it, long before its time is over."""

        async def scenario(broker):
            await broker.create_topic("t")
            joined = await join(broker, "t")
            waiting = asyncio.create_task(
                broker.poll("t", "g", "m", generation=joined.generation, positions=joined.assigned, wait_s=30)
            )
            await asyncio.sleep(0)  # let it begin to wait
            await broker.append("t", outgoing("x"))
            polled = await asyncio.wait_for(waiting, 2)  # before any heartbeat would look again
            assert [r.value for r in polled.records] == [b"x"]

        run(scenario)

    def test_a_partition_that_is_left_out_is_not_read(self, run):
        """That is how a consumer pauses one."""

        async def scenario(broker):
            await broker.create_topic("t", 2)
            for number in range(8):
                await broker.append("t", outgoing("x", key=str(number)))
            joined = await join(broker, "t")
            for _ in range(2):
                polled = await broker.poll("t", "g", "m", generation=joined.generation, positions={1: 0}, wait_s=5)
                assert {r.partition for r in polled.records} == {1}

        run(scenario)

    def test_mistakes_are_refused(self, run):
        """An unknown topic, a bad name, a huge record and an impossible offset are errors, and change nothing."""

        async def scenario(broker):
            await broker.create_topic("t")
            with pytest.raises(UnknownId):
                await broker.append("nowhere", outgoing("x"))
            with pytest.raises(InvalidValue):
                await broker.create_topic("../../etc")
            with pytest.raises(InvalidValue):
                await broker.append("t", [Outgoing(None, b"x" * (5 * 2**20), {})])
            await broker.poll("t", "g", "m", generation=0, positions={})
            with pytest.raises(InvalidValue):
                await broker.commit("t", "g", "m", {0: 1})
            assert await broker.topics() == {"t": 1}
            assert await broker.lag("t", "g") == {0: 0}

        run(scenario)

    def test_concurrent_appends_get_distinct_places(self, run):
        """Many writers at once: every record has its own offset, none is missing."""

        async def scenario(broker):
            await broker.create_topic("t", 2)
            placed = await asyncio.gather(*(broker.append("t", outgoing(f"{n}a", f"{n}b")) for n in range(50)))
            assert len({place for places in placed for place in places}) == 100
            _, records = await read(broker, "t", 100)
            assert {(r.partition, r.offset) for r in records} == {place for places in placed for place in places}

        run(scenario)

    def test_what_was_committed_may_be_read_again(self, run):
        """Any position may be asked for, whatever was read or committed before."""

        async def scenario(broker):
            await broker.create_topic("t")
            await broker.append("t", outgoing(*map(str, range(10))))
            joined = await join(broker, "t")
            await read_on(broker, ("t", "g", "m"), joined, 10)
            await broker.commit("t", "g", "m", {0: 10})
            for start in (7, 0, 9, 3):
                again = await read_on(broker, ("t", "g", "m"), Polled(joined.generation, {0: start}), 10 - start)
                assert [int(r.value) for r in again] == list(range(start, 10))

        run(scenario)

    def test_a_lost_answer_costs_nothing(self, run):
        """A poll that is given up, or whose answer is lost, is made again and gets the same."""

        async def scenario(broker):
            await broker.create_topic("t")
            joined = await join(broker, "t")
            lost = asyncio.create_task(
                broker.poll("t", "g", "m", generation=joined.generation, positions=joined.assigned, wait_s=30)
            )
            await asyncio.sleep(0)
            lost.cancel()
            await broker.append("t", outgoing("0", "1"))
            for _ in range(3):
                seen = await read_on(broker, ("t", "g", "m"), joined, 2)
                assert [r.value for r in seen] == [b"0", b"1"]

        run(scenario)

    def test_no_partition_starves(self, run):
        """Whoever reads little at a time still gets something of every partition."""

        async def scenario(broker):
            await broker.create_topic("t", 4)
            await broker.append("t", [Outgoing(str(n).encode(), b"x", {}) for n in range(100)])
            joined = await join(broker, "t")
            how = {"generation": joined.generation, "positions": joined.assigned}
            while len((await broker.poll("t", "g", "m", **how, wait_s=5)).records) < 100:
                await asyncio.sleep(0.01)  # until everything was fetched
            for most in (1, 2, 3, 7):
                polled = await broker.poll("t", "g", "m", **how, max_records=most)
                assert {r.partition for r in polled.records} == {0, 1, 2, 3}
                assert len(polled.records) <= max(most, 4)

        run(scenario)

    def test_what_is_sent_with_a_commit_happens_with_it(self, run):
        """Offsets and messages of one commit are there together, in order, and survive reopening."""

        async def first(broker):
            await broker.create_topic("t")
            await broker.create_topic("answers", 2)
            await broker.append("t", outgoing("0", "1", "2"))
            joined = await join(broker, "t")
            sends = [Send("answers", Outgoing(b"k", f"to {n}".encode(), {"h": "زبان"})) for n in range(2)]
            how = {"generation": joined.generation}
            assert await broker.commit("t", "g", "m", {0: 2}, sends=sends, **how) == []
            assert await broker.commit("t", "g", "m", {0: 3}, sends=[Send("t", outgoing("3")[0])], **how) == []
            _, answers = await read(broker, "answers", 2, "reader")
            assert [(r.value, r.headers) for r in answers] == [(b"to 0", {"h": "زبان"}), (b"to 1", {"h": "زبان"})]

        async def second(broker):
            assigned, records = await read(broker, "t", 1)
            assert assigned[0] >= 3  # behind it, a broker may have put marks of its own
            assert [r.value for r in records] == [b"3"]
            _, answers = await read(broker, "answers", 2, "another reader")
            assert [r.value for r in answers] == [b"to 0", b"to 1"]

        run(first)
        run(second)

    def test_a_reader_that_has_read_all_has_no_lag(self, run):
        """Whatever a broker writes beside the messages of a commit: who has committed the last is at the end."""

        async def scenario(broker):
            await broker.create_topic("t")
            await broker.create_topic("answers")
            await broker.append("t", outgoing("0", "1"))
            joined = await join(broker, "t")
            for n in (1, 2):
                sends = [Send("answers", outgoing(f"to {n}")[0])]
                assert await broker.commit("t", "g", "m", {0: n}, sends=sends, generation=joined.generation) == []
            _, records = await read(broker, "answers", 2, "reader")
            await broker.commit("answers", "reader", "m", {0: records[-1].offset + 1})
            while await broker.lag("answers", "reader") != {0: 0}:  # a mark may come after what it marks
                await asyncio.sleep(0.01)
            assert await broker.lag("t", "g") == {0: 0}

        run(scenario)

    def test_a_commit_that_is_refused_sends_nothing(self, run):
        """Not the owner, an old generation, no such topic, too large: neither offsets nor messages are taken."""

        async def scenario(broker):
            await broker.create_topic("t")
            await broker.create_topic("answers")
            await broker.append("t", outgoing("x"))
            joined = await join(broker, "t")
            good = [Send("answers", outgoing("never")[0])]
            assert await broker.commit("t", "g", "stranger", {0: 1}, sends=good) == [0]
            assert await broker.commit("t", "g", "m", {0: 1}, sends=good, generation=joined.generation - 1) == [0]
            with pytest.raises(UnknownId):
                await broker.commit("t", "g", "m", {0: 1}, sends=[*good, Send("nowhere", outgoing("x")[0])])
            with pytest.raises(InvalidValue):
                large = Outgoing(None, b"x" * (5 * 2**20), {})
                await broker.commit("t", "g", "m", {0: 1}, sends=[*good, Send("answers", large)])
            assert await broker.lag("t", "g") == {0: 1}
            await broker.append("answers", outgoing("the first"))
            _, records = await read(broker, "answers", 1, "reader")
            assert [r.value for r in records] == [b"the first"]

        run(scenario)

    def test_a_commit_is_refused_as_a_whole(self, run):
        """With messages to send, a member that owns some of the partitions, but not all, commits none of them."""

        async def scenario(broker):
            await broker.create_topic("t", 2)
            await broker.create_topic("answers")
            await broker.append("t", [Outgoing(str(n).encode(), b"x", {}) for n in range(8)])
            owned = await settled(broker, "t", {"a": 1, "b": 1})
            sends = [Send("answers", outgoing("never")[0])]
            before = await broker.lag("t", "g")
            refused = await broker.commit("t", "g", "a", {0: 1, 1: 1}, sends=sends)
            assert refused == [0, 1] != owned["a"]
            assert await broker.lag("t", "g") == before
            await broker.append("answers", outgoing("the first"))
            _, records = await read(broker, "answers", 1, "reader")
            assert [r.value for r in records] == [b"the first"]

        run(scenario)

    def test_what_is_handled_beyond_the_offset_is_remembered(self, run):
        """A group may have handled messages behind one that it has not; whoever takes over is told."""

        async def first(broker):
            await broker.create_topic("t")
            await broker.append("t", outgoing(*map(str, range(9))))
            await join(broker, "t")
            assert await broker.commit("t", "g", "m", {0: 2}, beyond={0: ((3, 5), (7, 8))}) == []

        async def second(broker):
            joined = await join(broker, "t")
            assert (joined.assigned, joined.beyond) == ({0: 2}, {0: ((3, 5), (7, 8))})
            assert await broker.commit("t", "g", "m", {0: 9}, generation=joined.generation) == []
            joined = await join(broker, "t")
            assert (joined.assigned, joined.beyond) == ({0: 9}, {})

        run(first)
        run(second)
