"""The services end to end on an embedded log, in real asyncio."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import sys

import pytest

from balance.clock import FakeClock
from balance.config import Settings
from balance.errors import AccessRefused, Conflict, InvalidValue, MessageRejected, SourceUnavailable, UnknownId
from balance.messaging import (
    BALANCE_EVENTS_TOPIC,
    BALANCE_METRICS_TOPIC,
    DATA_REQUESTS_TOPIC,
    MODELS_REQUESTS_TOPIC,
    DataSource,
    DeliveryPolicy,
    EmbeddedLog,
    KafkaService,
    Message,
    Outgoing,
    results_topic,
)
from balance.services import DataService, MessagingService, ModelService
from balance.services.collector import Collector
from balance.services.outcomes import COLLECTION, PRUNE_EVERY, OutcomeMemory
from balance.storage import GroupCommit, Store

FAST = DeliveryPolicy(max_attempts=3, backoff_s=0.0, concurrency=8)


class Inbox:
    """A handler that keeps results; `until(n)` waits for the n-th."""

    def __init__(self):
        self.results = []
        self._grown = asyncio.Condition()

    async def __call__(self, result):
        async with self._grown:
            self.results.append(getattr(result, "value", result))
            self._grown.notify_all()

    async def until(self, count):
        async with self._grown:
            await asyncio.wait_for(self._grown.wait_for(lambda: len(self.results) >= count), 10)
        return self.results


class Source:
    """A source that counts its fetches and can be held."""

    def __init__(self):
        self.queries = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure = None

    async def __call__(self, request):
        self.queries.append(request.query)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return {"data": {"text": request.query}, "size_bytes": len(request.query), "digest": "d"}


class House:
    """Everything, wired up."""

    def __init__(self, log, **collector):
        self.log = log
        self.kafka = KafkaService(broker=log)
        self.data = DataService(kafka_service=self.kafka, settings=Settings(state_dir="unused"))
        self.models = ModelService(data_service=self.data)
        self.messaging = MessagingService(data_service=self.data, model_service=self.models)
        self.source = Source()
        self.collector = Collector(kafka_service=self.kafka, fetch=self.source, policy=FAST, **collector)

    async def letters(self, topic=DATA_REQUESTS_TOPIC):
        inbox = Inbox()
        await self.kafka.create_topic(f"{topic}.dead-letter")
        await self.kafka.subscribe(f"{topic}.dead-letter", "operator", inbox)
        return inbox


@pytest.fixture
def run(tmp_path):
    """Run a scenario in a house; everything is stopped afterwards."""

    def run(scenario, **collector):
        async def main():
            log = EmbeddedLog(tmp_path / "log")
            house = House(log, **collector)
            try:
                await house.messaging.initialize()
                return await asyncio.wait_for(scenario(house), 20)
            finally:
                await house.messaging.shutdown()
                await log.close()

        return asyncio.run(main())

    return run


def test_a_model_asks_and_is_answered(run):
    """The whole way: the model's topic, the model service, the data service, the collector, the model's handler."""

    async def scenario(house):
        inbox = Inbox()
        await house.messaging.register_model("whisper", inbox)
        await house.models.subscribe_to_model_requests()
        await house.collector.start()
        await house.kafka.send_message(
            MODELS_REQUESTS_TOPIC,
            {"model_id": "whisper", "query": "تهران", "source_type": "wiki", "request_id": "r-1", "trace_id": "t-1"},
        )
        [answer] = await inbox.until(1)
        assert (answer["status"], answer["data"], answer["model_id"]) == ("ok", {"text": "تهران"}, "whisper")
        assert (answer["metadata"]["request_id"], answer["metadata"]["trace_id"]) == ("r-1", "t-1")
        assert answer["parameters"] == {"language": "fa"}
        assert answer["wait_s"] >= 0

    run(scenario)


def test_equal_requests_share_one_fetch(run):
    """Equal requests that are under way at once are fetched once; each requester is answered on its own topic."""

    async def scenario(house):
        inboxes = {name: Inbox() for name in ("a", "b", "c")}
        for name, inbox in inboxes.items():
            await house.models.register_model(name, inbox)
        house.source.gate.clear()
        await house.collector.start()
        for query, name in [("Persian cats", "a"), ("persian  CATS", "b"), ("Persian cats", "c"), ("dogs", "a")]:
            await house.data.request_data(name, query, source_type="wiki", request_id=f"{name}-{query}")
        while house.collector.merged < 2:
            await asyncio.sleep(0.001)
        house.source.gate.set()
        for name, count in (("a", 2), ("b", 1), ("c", 1)):
            answers = await inboxes[name].until(count)
            assert {answer["status"] for answer in answers} == {"ok"}
            assert all(answer["metadata"]["request_id"].startswith(name) for answer in answers)
        assert sorted(house.source.queries) == ["Persian cats", "dogs"]

    run(scenario)


def test_a_request_that_comes_again_is_answered_from_its_outcome(run, tmp_path):
    """Redelivery fetches nothing, also where another collector answered before; the model's handler sees one answer."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    commits = [GroupCommit(store, store.acquire(name)) for name in ("collector-1", "collector-2")]

    async def scenario(house):
        inbox, raw = Inbox(), Inbox()
        await house.models.register_model("m", inbox)
        await house.kafka.subscribe(results_topic("m"), "raw", raw)
        again = OutcomeMemory(store=store, commits=commits[1])
        assert await again.get("r") is None
        await house.collector.start()
        taken = await house.data.request_data("m", "q", request_id="r")
        assert taken["status"] == "sent"
        await inbox.until(1)
        assert (await house.data.request_data("m", "q", request_id="r"))["status"] == "duplicate"
        await house.collector.stop()

        other = Collector(kafka_service=house.kafka, fetch=house.source, outcomes=again, policy=FAST)
        await other.start()
        [message] = [r for p in house.log._topics[DATA_REQUESTS_TOPIC].partitions for r in p.read(0, 10)]
        await house.log.append(DATA_REQUESTS_TOPIC, [Outgoing(message.key, message.value, {})])
        await raw.until(2)
        assert house.source.queries == ["q"]
        await house.models.forward_result_to_model("m", {"last": True})
        results = await inbox.until(2)
        assert [result.get("last") for result in results] == [None, True]

    run(scenario, outcomes=OutcomeMemory(store=store, commits=commits[0]))
    for each in commits:
        each.close()
    store.close()


def test_a_request_that_comes_twice_at_once_is_done_once(run):
    """The same message again while the first is under way: one fetch, and the same answer for each of the two."""

    async def scenario(house):
        raw = Inbox()
        await house.kafka.create_topic(results_topic("m"))
        await house.kafka.subscribe(results_topic("m"), "raw", raw)
        house.source.gate.clear()
        await house.data.request_data("m", "q", request_id="r")
        [message] = [r for p in house.log._topics[DATA_REQUESTS_TOPIC].partitions for r in p.read(0, 10)]
        await house.log.append(DATA_REQUESTS_TOPIC, [Outgoing(message.key, message.value, {})])
        await house.collector.start()
        while not house.source.queries:
            await asyncio.sleep(0.001)
        house.source.gate.set()
        one, other = await raw.until(2)
        assert one == other
        assert house.source.queries == ["q"]
        assert house.collector._in_hand == {}

    run(scenario)


def test_an_answer_waits_for_the_commit_of_its_request(run):
    """Handling a request sends nothing by itself: what it returns is the answer, for its commit to take along."""

    async def scenario(house):
        await house.data.request_data("m", "q", request_id="r")
        [found] = [r for p in house.log._topics[DATA_REQUESTS_TOPIC].partitions for r in p.read(0, 10)]
        message = Message(DATA_REQUESTS_TOPIC, found.partition, found.offset, json.loads(found.value), found.value)
        [send] = await house.collector.handle(message)
        assert (send.topic, json.loads(send.record.value)["metadata"]["request_id"]) == (results_topic("m"), "r")
        assert (await house.kafka.lag(results_topic("m"), "anyone"))["lag"] == 0

    run(scenario)


def test_outcomes_are_bounded_in_the_store_too(tmp_path):
    """However many requests there were, about as many outcomes as wished are kept, the last ones."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", clock=(clock := FakeClock()))
    commits = GroupCommit(store, store.acquire("collector-1"))

    async def main():
        memory = OutcomeMemory(store=store, commits=commits, max_items=3)
        for number in range(PRUNE_EVERY + 1):
            clock.advance(1)
            await memory.put(str(number), {"n": number})
        assert await memory.get("0") is None
        assert await memory.get(str(PRUNE_EVERY - 1)) == {"n": PRUNE_EVERY - 1}

    asyncio.run(main())
    assert len(store.scan(COLLECTION)) == 3
    commits.close()
    store.close()


def test_source_that_fails_for_a_while(run):
    """A source that is unavailable is tried again; the answer is ok if it recovers."""

    async def scenario(house):
        inbox = Inbox()
        await house.models.register_model("m", inbox)
        failures = [SourceUnavailable("down"), SourceUnavailable("down")]
        plain = house.source.__call__

        async def flaky(request):
            house.source.queries.append("try")
            if failures:
                raise failures.pop()
            return await plain(request)

        house.collector._fetch = flaky
        await house.collector.start()
        await house.data.request_data("m", "q")
        [answer] = await inbox.until(1)
        assert answer["status"] == "ok"
        assert house.kafka.counters.retried == 2

    run(scenario)


def test_source_that_stays_down(run):
    """After all attempts the requester is answered with the error, and the request lies with the dead letters."""

    async def scenario(house):
        inbox, letters = Inbox(), await house.letters()
        await house.models.register_model("m", inbox)
        house.source.failure = SourceUnavailable("the wiki is down")
        await house.collector.start()
        await house.data.request_data("m", "q", request_id="r")
        [answer] = await inbox.until(1)
        assert (answer["status"], answer["error"], answer["error_type"]) == (
            "error",
            "the wiki is down",
            "SourceUnavailable",
        )
        [letter] = await letters.until(1)
        assert letter["attempts"] == 3
        assert json.loads(base64.b64decode(letter["original"]["value"]))["metadata"]["request_id"] == "r"

    run(scenario)


def test_refused_access_is_answered_at_once(run):
    """What will be refused next time too is not tried again and needs no dead letter."""

    async def scenario(house):
        inbox = Inbox()
        await house.models.register_model("m", inbox)
        house.source.failure = AccessRefused("private network")
        await house.collector.start()
        await house.data.request_data("m", "http://10.0.0.1/")
        [answer] = await inbox.until(1)
        assert (answer["status"], answer["error_type"]) == ("error", "AccessRefused")
        assert len(house.source.queries) == 1
        assert house.kafka.counters.dead_lettered == 0

    run(scenario)


def test_expired_request_is_not_fetched(run):
    """Nobody wants it any more: an error instead of a fetch."""

    async def scenario(house):
        inbox = Inbox()
        await house.models.register_model("m", inbox)
        await house.data.request_data("m", "q", ttl_s=1e-6)
        await house.collector.start()
        [answer] = await inbox.until(1)
        assert answer["status"] == "error"
        assert "expired" in answer["error"]
        assert house.source.queries == []

    run(scenario)


def test_unserved_and_unknown_sources(run):
    """An error for the requester and a dead letter with the reason, for a source nobody serves or nobody knows."""

    async def scenario(house):
        inbox, letters = Inbox(), await house.letters()
        await house.models.register_model("m", inbox)
        await house.collector.start()
        await house.data.request_data("m", "q", source_type="telegram", request_id="unserved")
        [answer] = await inbox.until(1)
        assert "nobody serves the source 'telegram'" in answer["error"]
        [known] = [r for p in house.log._topics[DATA_REQUESTS_TOPIC].partitions for r in p.read(0, 10)]
        unknown = {**json.loads(known.value), "data_source": "darkweb"}
        unknown["metadata"]["request_id"] = "unknown"
        await house.kafka.send_message(DATA_REQUESTS_TOPIC, unknown)
        answers = await inbox.until(2)
        assert answers[1]["metadata"]["request_id"] == "unknown"
        assert "data_source" in answers[1]["error"]
        reasons = [letter["reason"] for letter in await letters.until(2)]
        assert "telegram" in reasons[0]
        assert "data_source" in reasons[1]

    run(scenario, sources=["wiki", "web"])


def test_malformed_request_can_not_make_the_collector_write_elsewhere(run):
    """The error answer of a malformed request goes to an existing results topic or nowhere."""

    async def scenario(house):
        letters = await house.letters()
        await house.collector.start()
        before = await house.kafka.topics()
        for topic in (DATA_REQUESTS_TOPIC, "balance.results.invented", "../x", 7, None):
            await house.kafka.send_message(
                DATA_REQUESTS_TOPIC, {"metadata": {"request_id": "r"}, "response_topic": topic}
            )
        await letters.until(5)
        assert await house.kafka.topics() == before
        assert (await house.kafka.lag(DATA_REQUESTS_TOPIC, "another"))["lag"] == 5

    run(scenario)


def test_request_data_says_what_it_took(run):
    """Strings become enums, the source gets what it needs, the counter counts, the topic is the model's own."""

    async def scenario(house):
        taken = await house.data.request_data("مدل", "https://example.org", "Text", "WEB", "high", "model", depth=2)
        assert set(taken) == {
            "status",
            "request_id",
            "timestamp",
            "model_id",
            "data_type",
            "source_type",
            "response_topic",
            "estimated_time",
        }
        assert taken["response_topic"] == results_topic("مدل")
        assert (taken["data_type"], taken["source_type"], taken["estimated_time"]) == ("text", "web", 5.0)
        assert house.data.request_counter == 1
        [record] = [r for p in house.log._topics[DATA_REQUESTS_TOPIC].partitions for r in p.read(0, 10)]
        request = json.loads(record.value)
        assert request["parameters"] == {"url": "https://example.org", "depth": 2}
        assert request["metadata"]["priority"] == 2

    run(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_id": ""},
        {"query": " "},
        {"query": None},
        {"query": "x" * 20_000},
        {"source_type": "darkweb"},
        {"data_type": "smell"},
        {"priority": 0},
        {"priority": True},
        {"priority": "soon"},
        {"request_source": "nobody"},
        {"ttl_s": -1},
        {"limit": float("nan")},
        {"limit": object()},
        {"response_topic": "balance.data.requests"},
        {"request_id": ""},
    ],
    ids=str,
)
def test_wrong_requests_are_refused_and_send_nothing(run, wrong):
    """A mistake raises an error that names the value, and nothing was counted or sent."""

    async def scenario(house):
        with pytest.raises(InvalidValue):
            await house.data.request_data(**{"model_id": "m", "query": "q", **wrong})
        assert house.data.request_counter == 0
        assert (await house.kafka.lag(DATA_REQUESTS_TOPIC, "g"))["lag"] == 0

    run(scenario)


def test_a_request_id_stands_for_one_request(run):
    """The same id for something else is a conflict; a send that failed may be tried again."""

    async def scenario(house):
        await house.data.request_data("m", "one", request_id="r")
        with pytest.raises(Conflict):
            await house.data.request_data("m", "another", request_id="r")
        assert house.data.request_counter == 1

    run(scenario)


def test_one_bad_query_of_a_batch_fails_alone(run):
    """Results come in the order of the queries; the bad ones say why."""

    async def scenario(house):
        queries = [
            {"query": "a"},
            {"query": "b", "source_type": "darkweb"},
            {"nothing": 1},
            "text",
            {"query": "c", "model_id": "other"},
            {"query": "d", "priority": 1},
        ]
        results = await house.data.request_batch("m", queries)
        assert [result["status"] for result in results] == ["sent", "error", "error", "error", "error", "sent"]
        assert "darkweb" in results[1]["message"]
        assert results[1]["error"] == "InvalidValue"
        json.dumps(results)
        assert house.data.request_counter == 2

    run(scenario)


def test_models_requests_are_validated(run):
    """A request that does not fit is rejected; parameters can't pose as anything else."""

    async def scenario(house):
        for wrong in ({}, {"model_id": "m"}, {"model_id": "m", "query": "q", "surprise": 1}, {"query": "q"}):
            with pytest.raises(MessageRejected):
                await house.models.process_model_request(wrong)
        taken = await house.models.process_model_request(
            {"model_id": "m", "query": "q", "parameters": {"query": "x", "model_id": "y", "request_id": "z"}}
        )
        assert taken["status"] == "sent"
        assert (taken["model_id"], taken["operation"]) == ("m", "fetch_data")
        assert taken["request_id"] != "z"
        assert "m" in house.models.registered_models

    run(scenario)


def test_unsupported_operation_warns(run, caplog):
    """An operation that is not supported is answered so, with a warning; nothing is sent on."""

    async def scenario(house):
        with caplog.at_level(logging.WARNING, "balance.services"):
            outcome = await house.models.process_model_request(
                {"model_id": "m", "query": "q", "operation": "delete_data"}
            )
        assert outcome["status"] == "unsupported"
        assert "delete_data" in outcome["reason"]
        assert "delete_data" in caplog.text
        assert house.data.request_counter == 0

    run(scenario)


def test_request_without_an_id_is_idempotent_by_its_place(run):
    """A redelivered request of a model is the same request."""

    async def scenario(house):
        inbox = Inbox()
        await house.models.subscribe_to_model_requests()
        await house.kafka.subscribe(DATA_REQUESTS_TOPIC, "watch", inbox)
        await house.kafka.send_message(MODELS_REQUESTS_TOPIC, {"model_id": "m", "query": "q"}, key="m")
        [request] = await inbox.until(1)
        assert request["metadata"]["request_id"].startswith(MODELS_REQUESTS_TOPIC)

    run(scenario)


def test_registering_models(run):
    """The same again is no news, another handler is a conflict, an unknown model can't be unregistered."""

    async def scenario(house):
        inbox = Inbox()
        first = await house.models.register_model("whisper", inbox)
        assert first == {"status": "registered", "model_id": "whisper", "response_topic": results_topic("whisper")}
        assert (await house.models.register_model("whisper", inbox))["status"] == "already_registered"
        assert (await house.models.register_model("whisper"))["status"] == "already_registered"
        with pytest.raises(Conflict):
            await house.models.register_model("whisper", Inbox())
        with pytest.raises(UnknownId, match="whisper"):
            await house.models.unregister_model("whispr")
        with pytest.raises(UnknownId):
            await house.models.forward_result_to_model("nobody", {})
        assert await house.models.unregister_model("whisper") == {"status": "unregistered", "model_id": "whisper"}
        assert house.models.registered_models == {}
        assert house.models.model_handlers == {}
        await house.models.register_model("whisper", Inbox())

    run(scenario)


def test_results_wait_for_their_model(run):
    """What comes while a model has no handler is brought when it has one; plain functions are handlers too."""

    async def scenario(house):
        heard, done = [], asyncio.Event()

        def handler(result):
            heard.append(result["n"])
            if len(heard) == 2:
                done.set()

        await house.models.register_model("m")
        assert await house.models.forward_result_to_model("m", {"n": 1})
        assert await house.models.forward_result_to_model("m", {"n": 2})
        await house.models.register_model("m", handler)
        await asyncio.wait_for(done.wait(), 5)
        assert heard == [1, 2]

    run(scenario)


def test_estimates_are_learned(run):
    """The first estimate is the documented guess; after measured answers it is what was measured."""

    async def scenario(house):
        inbox = Inbox()
        await house.models.register_model("m", inbox)
        await house.collector.start()
        assert house.data._estimate_processing_time("wiki", {}) == 2.0
        for number in range(10):
            await house.data.request_data("m", f"q{number}", source_type="wiki")
        await inbox.until(10)
        assert 0 < house.data._estimate_processing_time(DataSource.WIKI, {}) < 2.0
        assert house.data._estimate_processing_time("youtube", {}) == 20.0

    run(scenario)


def test_events_and_metrics_are_published(run, monkeypatch):
    """True means that it is durable; False that the broker refused; a mistake raises."""

    async def scenario(house):
        events, metrics = Inbox(), Inbox()
        await house.kafka.subscribe(BALANCE_EVENTS_TOPIC, "g", events)
        await house.kafka.subscribe(BALANCE_METRICS_TOPIC, "g", metrics)
        assert await house.messaging.publish_event("scaled", {"replicas": 2})
        assert await house.messaging.publish_metric("queue", {"length": 5})
        [event], [metric] = await events.until(1), await metrics.until(1)
        assert (event["event_type"], event["data"]) == ("scaled", {"replicas": 2})
        assert (metric["metric_name"], metric["data"]) == ("queue", {"length": 5})
        for name, data in (("", {}), ("e", {"v": float("inf")}), ("e", [1])):
            with pytest.raises(InvalidValue):
                await house.messaging.publish_event(name, data)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("balance.messaging.segment.os.fdatasync", full)
        assert not await house.messaging.publish_event("scaled", {})
        monkeypatch.undo()

    run(scenario)


def test_run_until_shutdown_and_again(tmp_path):
    """`run` serves until `shutdown`, lets go of everything, and can be run again, in another event loop too."""
    service = MessagingService(data_service=DataService(settings=Settings(state_dir=str(tmp_path))))

    async def once(query):
        inbox, running = Inbox(), asyncio.create_task(service.run())
        await service.initialize()
        collector = Collector(kafka_service=service.kafka_service, fetch=Source())
        await collector.start()
        await service.register_model("m", inbox)
        await service.kafka_service.send_message(MODELS_REQUESTS_TOPIC, {"model_id": "m", "query": query})
        [answer] = await inbox.until(1)
        await service.shutdown()
        await asyncio.wait_for(running, 5)
        await service.shutdown()
        return answer["data"]["text"]

    assert asyncio.run(once("first")) == "first"
    assert asyncio.run(once("second")) == "second"
    asyncio.run(EmbeddedLog(tmp_path / "log").close())


def test_cancelled_run_ends_gracefully(tmp_path):
    """Ctrl-C while serving: the log is free afterwards."""

    async def main():
        service = MessagingService(data_service=DataService(settings=Settings(state_dir=str(tmp_path))))
        running = asyncio.create_task(service.run())
        while not service._is_initialized:
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await EmbeddedLog(tmp_path / "log").close()

    asyncio.run(main())


def test_importing_the_services_opens_nothing():
    """The ready instances are inert: no thread, no file, no Ray, and the names are instances."""
    program = (
        "import sys, threading, balance.services as s\n"
        "from balance.services import data_service, model_service, messaging_service\n"
        "assert isinstance(data_service, s.DataService) and isinstance(model_service, s.ModelService)\n"
        "assert messaging_service.kafka_service is data_service.kafka_service is model_service.kafka_service\n"
        "assert not data_service._is_initialized and not data_service.kafka_service.is_connected\n"
        "assert threading.active_count() == 1\n"
        "assert not {'ray', 'statsmodels', 'pandas', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
