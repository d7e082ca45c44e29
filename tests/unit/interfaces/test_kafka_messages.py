"""`KafkaMessages` and `TopicModel` on the real embedded log: what is committed when, and who gets which answer."""

from __future__ import annotations

import asyncio
import threading

import pytest

from balance.adapters.external.kafka_messages import KafkaMessages
from balance.adapters.loop_thread import LoopThread
from balance.adapters.model.responses import ModelResponses
from balance.adapters.model.topic_model import TopicModel, requests_topic
from balance.config import Settings
from balance.errors import Conflict, InvalidValue, NotReady, NotYet, UnknownId


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=str(tmp_path))


@pytest.fixture
def published(settings):
    """A log on whose topic ``t`` lie three messages; it stays open."""
    with KafkaMessages(settings=settings) as messages:
        messages.create_topic("t")
        for number in range(3):
            messages.publish_message("t", {"n": number})
        yield messages


def reader(settings, **more):
    return KafkaMessages(settings=settings, group="readers", timeout_s=0.3, **more)


def test_messages_come_in_order_and_once(published, settings):
    """One after the other, and a successor in the group goes on where the first one stopped."""
    with reader(settings) as first:
        assert [first.consume_message("t")["n"] for _ in range(2)] == [0, 1]
    with reader(settings) as second:
        assert second.consume_message("t") == {"n": 2}
        with pytest.raises(NotYet):
            second.consume_message("t")
    with reader(settings) as third, pytest.raises(NotYet):
        third.consume_message("t")


def test_what_was_taken_and_not_settled_comes_again(published, settings):
    """A consumer that dies with a message in its hands has not handled it."""
    lost = reader(settings)
    assert lost.consume_message("t") == {"n": 0}
    assert lost.consume_message("t") == {"n": 1}
    lost._readers["t"]._taken = None  # it dies: nobody says that the second one is handled
    lost.close()
    with reader(settings) as successor:
        assert successor.consume_message("t") == {"n": 1}


def test_a_message_that_is_kept_too_long_comes_again(published, settings):
    """After ``handling_s`` the consumer is taken for lost."""
    with reader(settings, handling_s=0.05) as slow:
        first = slow.consume("t")
        slow._readers["t"]._taken = None  # it never asks again for what it holds
        again = slow.consume("t", timeout_s=5)
        assert first.offset == again.offset == 0
        assert again.attempt > first.attempt


def test_groups_each_get_everything(published, settings):
    """Two groups read the same messages."""
    with reader(settings) as one, KafkaMessages(settings=settings, group="others", timeout_s=5) as other:
        assert one.consume_message("t") == other.consume_message("t") == {"n": 0}


def test_mistakes(published, settings):
    """Unknown topics, values that are no JSON object, names that are none; afterwards all goes on."""
    with reader(settings) as messages:
        with pytest.raises(UnknownId):
            messages.publish_message("none", {})
        with pytest.raises(UnknownId):
            messages.consume_message("none")
        with pytest.raises(InvalidValue):
            messages.publish_message("t", {"n": float("nan")})
        with pytest.raises(InvalidValue):
            messages.publish_message("../t", {})
        assert messages.create_topic("t") is False
        assert messages.consume_message("t") == {"n": 0}
    with pytest.raises(NotReady):
        messages.consume_message("t")


def test_a_loop_of_its_own_ends_what_runs():
    """Who waits when the loop is closed is told so, and its thread is gone."""
    loop = LoopThread(name="test-loop")
    began = threading.Event()
    told: list[type] = []

    async def forever():
        began.set()
        await asyncio.Event().wait()

    def wait():
        try:
            loop.run(forever())
        except NotReady as error:
            told.append(type(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    began.wait(5)
    loop.close()
    loop.close()
    waiter.join(5)
    assert told == [NotReady]
    assert "test-loop" not in {thread.name for thread in threading.enumerate()}


def test_a_loop_does_not_wait_for_itself():
    """A call from the loop's own thread raises instead of standing still for ever, and a late one is given up."""
    loop = LoopThread()

    async def one():
        return 1

    async def nested():
        with pytest.raises(NotReady):
            loop.run(one())
        return "raised"

    assert loop.run(nested(), 5) == "raised"
    with pytest.raises(NotYet):
        loop.run(asyncio.Event().wait(), 0.01)
    loop.close()


class Server:
    """A model that reads its topic and answers each request as `reply` says."""

    def __init__(self, settings, reply, count):
        self.asked = []
        self._settings, self._reply, self._count = settings, reply, count
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        with KafkaMessages(settings=self._settings) as messages:
            messages.create_topic(requests_topic("m"))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(10)

    def _serve(self):
        with KafkaMessages(settings=self._settings, group="m", timeout_s=8) as messages:
            for _ in range(self._count):
                asked = messages.consume_message(requests_topic("m"))
                self.asked.append(asked)
                for answer in self._reply(asked):
                    messages.publish_message(asked["reply_to"], answer)


def test_answers_find_who_asked(published, settings):
    """Two askers at once, answers in the other order and twice: each gets its own, and the rest is counted."""
    held = []

    def reply(asked):
        held.append(asked)
        if len(held) < 2:
            return []
        return [
            {"correlation_id": each["correlation_id"], "result": each["request"]["n"] * 10, "run_s": 0.5}
            for each in (held[1], held[0], held[0], {"correlation_id": "nobody", "request": {"n": 0}})
        ]

    answers = {}
    with Server(settings, reply, 2) as server, TopicModel(settings=settings, name="asker", timeout_s=8) as model:

        def ask(number):
            answers[number] = model.send_request("m", {"n": number})

        askers = [threading.Thread(target=ask, args=(number,)) for number in (1, 2)]
        for each in askers:
            each.start()
        for each in askers:
            each.join(10)
        assert {n: (a["status"], a["result"], a["run_s"]) for n, a in answers.items()} == {
            1: ("completed", 10, 0.5),
            2: ("completed", 20, 0.5),
        }
    assert {asked["model_id"] for asked in server.asked} == {"m"}
    assert server.asked[0]["reply_to"] == model.replies_topic


def test_no_answer_in_time_is_pending(published, settings):
    """The request lies on its topic; the answer may still come and goes to nobody."""
    responses = ModelResponses()
    with TopicModel(settings=settings, timeout_s=0.05, responses=responses) as model:
        answer = model.send_request("m", {"request_id": "r"})
        assert (answer["status"], answer["request_id"], answer["result"]) == ("pending", "r", None)
        model.receive_response("m", {"correlation_id": "r", "result": 1})
        assert model.unexpected == 1
        with pytest.raises(InvalidValue):
            model.receive_response("m", {"result": 1})
    assert responses.counts() == {"m": {"pending": 1}}
    with pytest.raises(NotReady):
        model.send_request("m", {})


def test_an_answer_may_come_by_another_way(published, settings):
    """`receive_response` wakes who waits; a second request with the same id meanwhile is a conflict."""
    with TopicModel(settings=settings, timeout_s=8) as model:
        answers = []
        asker = threading.Thread(target=lambda: answers.append(model.send_request("m", {"request_id": "r"})))
        asker.start()
        while "r" not in model._waiting:
            asker.join(0.005)
        with pytest.raises(Conflict):
            model.send_request("m", {"request_id": "r"})
        model.receive_response("other", {"correlation_id": "r", "result": 0})
        model.receive_response("m", {"correlation_id": "r", "error": "out of memory"})
        asker.join(5)
        assert (answers[0]["status"], answers[0]["error"]["message"]) == ("failed", "out of memory")
        assert model.unexpected == 1
