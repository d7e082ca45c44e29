"""Kafka, a real one: the promises of every broker, and those of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path

import pytest

from balance.clock import FakeClock
from balance.config import Settings
from balance.errors import ConfigurationError, NotReady, StorageError
from balance.messaging import KafkaService, Outgoing, Send
from balance.messaging.brokers import open_broker
from balance.messaging.kafka import KafkaBroker
from balance.messaging.kafka.options import KafkaOptions

_path = Path(__file__).parents[1] / "unit" / "messaging" / "broker_suite.py"
_spec = importlib.util.spec_from_file_location("broker_suite", _path)
broker_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(broker_suite)
read, settled = broker_suite.read, broker_suite.settled


class Heard:
    """Collects messages; `until(n)` waits for the n-th."""

    def __init__(self):
        self.messages = []

    async def __call__(self, message):
        self.messages.append(message)

    async def until(self, count):
        while len(self.messages) < count:
            await asyncio.sleep(0.005)


class TestKafka(broker_suite.BrokerSuite):
    """The suite on a real Kafka."""

    @pytest.fixture
    def run(self, run_on_kafka):
        return run_on_kafka


def run_with(server, scenario, options="", **how):
    """Run a scenario on a connection to one server."""

    async def main():
        broker = KafkaBroker(f"kafka://{server.address}{options}", **how)
        try:
            return await asyncio.wait_for(scenario(broker), 120)
        finally:
            await broker.close()

    return asyncio.run(main())


async def everything(broker, topic, count):
    """Read a topic from its start until there are `count` records."""
    _, records = await read(broker, topic, count, group="reader")
    return records


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_acknowledged_is_lost_with_the_broker(own_kafka, end):
    """The broker goes away in full swing and comes back: what was acknowledged is there, in order, without doubles."""
    acknowledged = []

    async def scenario(broker):
        await broker.create_topic("t", 2)
        is_down, is_up = asyncio.Event(), asyncio.Event()

        async def write():
            number = 0
            while not is_up.is_set() or number % 100:
                batch = [Outgoing(str(number % 2).encode(), str(number).encode(), {})]
                await broker.append("t", batch)  # while it is down, this waits
                acknowledged.append(number)
                number += 1
                if number == 100:
                    is_down.set()

        writing = asyncio.create_task(write())
        await is_down.wait()
        await asyncio.to_thread(getattr(own_kafka, end))
        before = len(acknowledged)
        await asyncio.to_thread(own_kafka.start)
        while len(acknowledged) < before + 100:
            await asyncio.sleep(0.01)
        is_up.set()
        await writing
        records = await everything(broker, "t", len(acknowledged))
        for partition in (0, 1):
            numbers = [int(r.value) for r in records if r.partition == partition]
            assert numbers == sorted(set(numbers))
        assert sorted(int(r.value) for r in records) == acknowledged

    run_with(own_kafka, scenario)


def test_a_broker_that_is_away_is_a_clear_error_and_no_end(own_kafka):
    """While it is down every call says so, with its address; when it is back, reading goes on where it was."""

    async def scenario(broker):
        service, heard = KafkaService(broker=broker), Heard()
        await service.connect()
        await service.create_topic("t")
        await service.subscribe("t", "g", heard)
        await service.send_message("t", {"n": 0})
        await heard.until(1)
        await asyncio.to_thread(own_kafka.stop)
        while (await service.health())["status"] != "degraded":
            await asyncio.sleep(0.01)
        health = await service.health()
        assert own_kafka.address in health["problem"]
        with pytest.raises(StorageError, match=own_kafka.address):
            await service.lag("t", "g")
        with pytest.raises(StorageError, match=own_kafka.address):
            await service.create_topic("another")
        with pytest.raises(StorageError, match=own_kafka.address):
            await service.send_message("t", {"n": -1})
        await asyncio.to_thread(own_kafka.start)
        await service.send_message("t", {"n": 1})
        await heard.until(2)
        while (await service.health())["status"] != "ok":
            await asyncio.sleep(0.01)
        numbers = [m.value["n"] for m in heard.messages]
        assert numbers[0] == 0
        assert 1 in numbers
        await service.close()

    run_with(own_kafka, scenario, "?delivery.timeout.ms=2000", answer_s=1.0)


def test_a_reader_that_falls_silent_is_taken_out(own_kafka):
    """Who does not poll for the session time loses its partitions, although its connection lives; it may come back."""
    clock = FakeClock()

    async def scenario(broker):
        await broker.create_topic("t", 2)
        await settled(broker, "t", {"silent": 1, "alive": 1})
        alive = await broker.poll("t", "g", "alive", generation=0, positions={})
        clock.advance(9)
        await broker.poll("t", "g", "alive", generation=alive.generation, positions={})
        clock.advance(2)
        assert await settled(broker, "t", {"alive": 2}) == {"alive": [0, 1]}
        await settled(broker, "t", {"silent": 1, "alive": 1})

    run_with(own_kafka, scenario, clock=clock)


def test_a_zombie_commits_nothing(own_kafka):
    """What a process has open when its successor begins is aborted: nobody waits for it, nobody ever reads it."""
    from confluent_kafka import KafkaException, Producer

    async def scenario(successor):
        await successor.create_topic("t")
        await successor.create_topic("answers")
        await successor.append("t", [Outgoing(None, b"0", {})])
        zombie = Producer({**KafkaOptions(own_kafka.address).transactional("messaging")})
        zombie.init_transactions(10)
        zombie.begin_transaction()
        zombie.produce("answers", b"zombie")
        zombie.flush(10)
        joined = await successor.poll("t", "g", "m", generation=0, positions={})
        sends = [Send("answers", Outgoing(None, b"successor", {}))]
        assert await successor.commit("t", "g", "m", {0: 1}, sends=sends, generation=joined.generation) == []
        _, records = await asyncio.wait_for(read(successor, "answers", 1), 5)  # Kafka's own limit is twice as long
        with pytest.raises(KafkaException):
            zombie.commit_transaction(10)
        await successor.append("answers", [Outgoing(None, b"end", {})])
        _, records = await read(successor, "answers", 2, "another")
        assert [r.value for r in records] == [b"successor", b"end"]

    run_with(own_kafka, scenario, name="messaging")


def test_a_member_whose_partitions_have_moved_commits_nothing(own_kafka):
    """A consumer that others have taken for dead, while its transaction was on its way: it is aborted."""

    async def scenario(broker):
        await broker.create_topic("t")
        await broker.create_topic("answers")
        await broker.append("t", [Outgoing(None, b"0", {})])
        joined = await broker.poll("t", "g", "old", generation=0, positions={})
        old = broker._members["t", "g", "old"]
        known = {"generation": joined.generation, "sends": [Send("answers", Outgoing(None, b"old", {}))]}
        transactions = broker._transactions()
        held, plain = asyncio.Event(), transactions.submit
        transactions.submit = lambda each: (caught.append(each), loop.call_soon_threadsafe(held.set))
        caught, loop = [], asyncio.get_running_loop()
        committing = asyncio.create_task(broker.commit("t", "g", "old", {0: 1}, **known))
        await held.wait()  # it has looked whether the partition is its own, and it was
        transactions.submit = plain
        await broker.leave("t", "g", "old")
        assert old.over.done()
        fresh = await broker.poll("t", "g", "new", generation=0, positions={})
        while not fresh.assigned:
            fresh = await broker.poll("t", "g", "new", generation=fresh.generation, positions={}, wait_s=1)
        plain(caught[0])
        assert await committing == [0]
        sends = [Send("answers", Outgoing(None, b"new", {}))]
        assert await broker.commit("t", "g", "new", {0: 1}, sends=sends, generation=fresh.generation) == []
        _, records = await read(broker, "answers", 1, "reader")
        assert [r.value for r in records] == [b"new"]

    run_with(own_kafka, scenario)


def test_answers_are_whole_over_a_restart_of_the_broker(own_kafka):
    """The broker is killed while a consumer answers with its commits: one answer for each message, none twice."""

    async def scenario(broker):
        service, total = KafkaService(broker=broker), 3_000
        await service.connect()
        await service.create_topic("t", 4)
        await service.create_topic("answers", 2)
        numbers = [str(n) for n in range(total)]
        await service.send_batch("t", [{"n": n} for n in range(total)], numbers)
        answers, asked = Heard(), 0

        async def handler(message):
            nonlocal asked
            asked += 1
            await asyncio.sleep(0.001)
            return [service.sending("answers", {"to": message.value["n"]}, key=str(message.value["n"]))]

        await service.subscribe("answers", "reader", answers)
        await service.subscribe("t", "g", handler)
        await answers.until(100)
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.to_thread(own_kafka.start)
        places = {}
        while len(places) < total:
            await asyncio.sleep(0.05)
            places = {(m.partition, m.offset): m.value["to"] for m in answers.messages}  # a reader may read again
        assert sorted(places.values()) == list(range(total))
        await service.close()

    run_with(own_kafka, scenario)


def test_nobody_answers():
    """A wrong address is an error with that address, within seconds, whatever is asked first."""

    async def main():
        broker = KafkaBroker("kafka://127.0.0.1:1", answer_s=0.5)
        with pytest.raises(StorageError, match=r"127\.0\.0\.1:1 did not"):
            await broker.topics()
        await broker.close()
        with pytest.raises(NotReady):
            await broker.topics()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://", "names ''"),
        ("kafka://host/path", "names 'host/path'"),
        ("kafka://me:secret@host", "goes into its options"),
        ("kafka://host?acks=0", "may not set acks"),
        ("kafka://host?nonsense", "can't be read"),
    ],
)
def test_a_wrong_url_is_refused_without_telling_secrets(url, said):
    """What is wrong with it is said; a password in it is not."""
    with pytest.raises(ConfigurationError, match=re.escape(said)) as error:
        open_broker(url)
    assert "secret" not in repr(error.value)


def test_an_option_that_kafka_does_not_know_is_named():
    """A misspelt option is an error of the configuration that names it, at the first call."""

    async def main():
        service = KafkaService(settings=Settings(broker_url="kafka://127.0.0.1:1?sasl.usernam=x"))
        await service.connect()
        with pytest.raises(ConfigurationError, match=r"sasl\.usernam"):
            await service.topics()
        await service.close()

    asyncio.run(main())
