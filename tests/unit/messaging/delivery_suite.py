"""Delivery: at least once, bounded retries, dead letters, backpressure, graceful stop; the same on every broker.

A test module subclasses `DeliverySuite` and says on which broker its service runs.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter

import pytest

from balance.errors import Conflict, InvalidValue, MessageRejected, StorageError, UnknownId
from balance.messaging import DeadLetters, DeliveryPolicy, KafkaService, Outgoing

#: No waits between attempts.
FAST = DeliveryPolicy(max_attempts=3, backoff_s=0.0, commit_every_s=0.0)


class Heard:
    """Collects messages; `until(n)` waits for the n-th."""

    def __init__(self):
        self.messages = []
        self._grown = asyncio.Condition()

    async def __call__(self, message):
        async with self._grown:
            self.messages.append(message)
            self._grown.notify_all()

    async def until(self, count):
        async with self._grown:
            await asyncio.wait_for(self._grown.wait_for(lambda: len(self.messages) >= count), 10)
        return self.messages


async def until(condition):
    """Wait until something is so; the test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.001)


class DeliverySuite:
    """Promises of `KafkaService`."""

    @pytest.fixture
    def run(self):
        """Give a function that runs a scenario on a connected service that has the topic ``t``."""
        raise NotImplementedError("say on which broker")

    def test_what_is_sent_is_delivered_with_its_envelope(self, run):
        """Value, key, headers and place arrive as they were sent."""

        async def scenario(service):
            heard = Heard()
            await service.subscribe("t", "g", heard)
            sent = await service.send_message("t", {"text": "سلام"}, key="k", headers={"h": "1"})
            assert sent == {"status": "sent", "topic": "t", "partition": 0, "offset": 0}
            [message] = await heard.until(1)
            assert (message.value, message.key, message.headers, message.offset) == (
                {"text": "سلام"},
                b"k",
                {"h": "1"},
                0,
            )

        run(scenario)

    def test_failing_handler_is_tried_again_then_dead_lettered(self, run):
        """A handler gets a message as often as the policy says; then it lies in the dead-letter topic, whole."""

        async def scenario(service):
            attempts = []

            async def handler(message):
                attempts.append((message.attempt, message.is_last_attempt))
                raise RuntimeError("no luck")

            letters = Heard()
            await service.create_topic("t.dead-letter")
            await service.subscribe("t.dead-letter", "operator", letters)
            await service.subscribe("t", "g", handler, policy=FAST)
            await service.send_message("t", {"n": 1}, key="k")
            [letter] = await letters.until(1)
            assert attempts == [(1, False), (2, False), (3, True)]
            value = letter.value
            assert value["reason"] == "no luck"
            assert value["attempts"] == 3
            assert value["error"]["type"] == "RuntimeError"
            assert "raise RuntimeError" in value["error"]["traceback"]
            assert json.loads(base64.b64decode(value["original"]["value"])) == {"n": 1}
            assert (value["original"]["topic"], value["original"]["offset"], value["group"]) == ("t", 0, "g")
            assert service.counters.to_dict() == {"sent": 1, "delivered": 1, "retried": 2, "dead_lettered": 1}

        run(scenario)

    def test_rejected_message_is_not_tried_again(self, run):
        """`MessageRejected` says that trying again is useless."""

        async def scenario(service):
            heard = Heard()
            attempts = []

            async def handler(message):
                attempts.append(message.attempt)
                if message.value["n"] == 1:
                    raise MessageRejected("never")
                await heard(message)

            await service.subscribe("t", "g", handler, policy=FAST)
            await service.send_batch("t", [{"n": 1}, {"n": 2}])
            await heard.until(1)
            assert attempts == [1, 1]
            await until(lambda: service.counters.dead_lettered == 1)

        run(scenario)

    def test_dead_letters_are_listed_shown_and_replayed(self, run):
        """A letter says why; a replay brings the message back as it was; it is not open any more, and no other is."""

        async def scenario(service):
            heard = Heard()
            letters = DeadLetters(service._broker)

            async def handler(message):
                if "balance-replayed" not in message.headers:
                    raise MessageRejected(f"no {message.value['n']}")
                await heard(message)

            assert await letters.count() == {"open": 0, "topics": {}}
            await service.subscribe("t", "g", handler, policy=FAST)
            for n in range(3):
                await service.send_message("t", {"n": n}, key="k", headers={"h": str(n)})
            await service._broker.append("t", [Outgoing(None, b"not json", {})])
            while (await letters.count())["open"] < 4:
                await asyncio.sleep(0.01)
            shown = await letters.show("t", limit=2)
            assert (shown["open"], [letter["reason"] for letter in shown["letters"]]) == (4, ["no 0", "no 1"])
            assert [json.loads(letter["text"]) for letter in shown["letters"]] == [{"n": 0}, {"n": 1}]
            assert "MessageRejected" in shown["letters"][0]["error"]["traceback"]

            first = await letters.replay("t", limit=2)
            assert (first["status"], first["replayed"], first["unreadable"]) == ("replayed", 2, 0)
            assert (await letters.replay("t", limit=2))["replayed"] == 2
            await heard.until(3)
            assert [(m.value["n"], m.key, m.headers["h"]) for m in heard.messages] == [
                (n, b"k", str(n)) for n in range(3)
            ]
            while (await letters.count())["open"] < 1:  # what is no JSON is none the second time either
                await asyncio.sleep(0.01)
            assert [letter["text"] for letter in (await letters.show("t"))["letters"]] == ["not json"]

        run(scenario)

    def test_a_message_with_two_letters_is_replayed_once(self, run):
        """A letter that was written again, since who wrote it died before the commit, brings the message once."""

        async def scenario(service):
            heard, letters = Heard(), DeadLetters(service._broker)
            await service.create_topic("t.dead-letter")
            original = {"topic": "t", "partition": 0, "offset": 7, "key": None, "value": "e30=", "headers": {}}
            letter = Outgoing(None, json.dumps({"original": original}).encode(), {})
            other = Outgoing(None, json.dumps({"original": {**original, "offset": 8}}).encode(), {})
            await service._broker.append("t.dead-letter", [letter, other, letter])
            await service.subscribe("t", "g", heard)
            answer = await letters.replay("t")
            assert (answer["replayed"], answer["unreadable"], answer["open"]) == (2, 0, 0)
            await heard.until(2)

        run(scenario)

    def test_what_is_no_letter_is_passed_over(self, run):
        """Whatever lies in a dead-letter topic: a replay sends only messages of the topic asked for."""

        async def scenario(service):
            letters = DeadLetters(service._broker)
            with pytest.raises(UnknownId):
                await letters.replay("t")
            await service.create_topic("t.dead-letter")
            assert (await letters.replay("t"))["status"] == "nothing_open"
            elsewhere = {"topic": "other", "key": None, "value": "e30=", "headers": {}}
            for value in (
                b"\xff",
                b"{}",
                b'{"original": 3}',
                json.dumps({"original": elsewhere}).encode(),
                json.dumps({"original": {**elsewhere, "topic": "t", "value": "***"}}).encode(),
            ):
                await service._broker.append("t.dead-letter", [Outgoing(None, value, {})])
            assert len((await letters.show("t"))["letters"]) == 5
            answer = await letters.replay("t")
            assert (answer["replayed"], answer["unreadable"], answer["open"]) == (0, 5, 0)
            assert (await service.lag("t", "anyone"))["lag"] == 0

        run(scenario)

    def test_two_do_not_replay_the_same_letters(self, run, monkeypatch):
        """While someone is at the letters of a topic, another is told so."""
        monkeypatch.setattr("balance.messaging.dead_letters.PATIENCE_S", 1.0)

        async def scenario(service):
            letters = DeadLetters(service._broker)
            await service.create_topic("t.dead-letter")
            await service._broker.append("t.dead-letter", [Outgoing(None, b"{}", {})])
            async with letters._reading("t.dead-letter", 1) as batches:
                await anext(batches)
                with pytest.raises(Conflict, match="someone else"):
                    await letters.replay("t")
            assert (await letters.replay("t"))["open"] == 0

        run(scenario)

    def test_malformed_messages_go_to_the_dead_letters_untouched(self, run, tmp_path):
        """What is no JSON object never reaches a handler, blocks nothing, and is kept byte for byte."""
        bad = [b"not json", b"\xff\xfe", b"[1]", b'{"v": NaN}', b"", b"cos\nsystem\n(S'true'\ntR.", b"[" * 5_000]

        async def scenario(service):
            heard, letters = Heard(), Heard()
            await service.create_topic("t.dead-letter")
            await service.subscribe("t.dead-letter", "operator", letters)
            await service.subscribe("t", "g", heard, policy=FAST)
            await service._broker.append("t", [Outgoing(None, value, {}) for value in bad])
            await service.send_message("t", {"good": True})
            [message] = await heard.until(1)
            assert message.value == {"good": True}
            await letters.until(len(bad))
            assert [base64.b64decode(m.value["original"]["value"]) for m in letters.messages] == bad
            assert all(m.value["reason"] for m in letters.messages)

        run(scenario)

    def test_what_is_too_large_is_dead_lettered_and_blocks_nothing(self, run):
        """Somebody else's huge message, huge headers, a huge key: each has a reason, and the next is handled."""
        huge = b'{"x": "' + b"y" * (3 * 2**20 + 2**19) + b'"}'
        bad = [
            Outgoing(None, huge, {}),
            Outgoing(None, b"{}", {"h": "x" * 2**16}),
            Outgoing(None, b"{}", {"h": "x" * (3 * 2**20 + 2**19)}),
            Outgoing(b"k" * (3 * 2**20 + 2**19), b"not json", {}),
        ]

        async def scenario(service):
            heard, letters = Heard(), DeadLetters(service._broker)
            await service.subscribe("t", "g", heard, policy=FAST)
            for one in bad:
                await service._broker.append("t", [one])
            await service.send_message("t", {"good": True})
            [message] = await heard.until(1)
            assert message.value == {"good": True}
            while (await letters.count())["open"] < len(bad):
                await asyncio.sleep(0.01)
            shown = sorted((await letters.show("t"))["letters"], key=lambda letter: letter["original"]["offset"])
            assert ["bytes" in letter["reason"] for letter in shown] == [True, True, True, False]
            assert ["left_out" in letter["original"] for letter in shown] == [True, False, False, True]
            await until(lambda: service.counters.dead_lettered == len(bad))

        run(scenario)

    def test_largest_message_fits_into_its_dead_letter(self, run):
        """A message at the size limit can be dead-lettered whole."""

        async def scenario(service):
            letters = Heard()

            async def handler(message):
                raise MessageRejected("no")

            await service.create_topic("t.dead-letter")
            await service.subscribe("t.dead-letter", "operator", Heard(), policy=FAST)
            await service.unsubscribe("t.dead-letter", "operator")
            await service.subscribe("t", "g", handler, policy=FAST)
            await service.send_message("t", {"x": "y" * (2**20 - 100)})
            while service.counters.dead_lettered < 1:
                await asyncio.sleep(0.001)
            assert (await service.lag("t.dead-letter", "another"))["lag"] == 1
            assert not letters.messages

        run(scenario)

    def test_hanging_handler_times_out(self, run):
        """A handler that hangs is cancelled, tried again and given up; the next message is handled."""

        async def scenario(service):
            heard = Heard()
            cancelled = []

            async def handler(message):
                if message.value["n"] == 1:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        cancelled.append(message.attempt)
                        raise
                await heard(message)

            policy = DeliveryPolicy(max_attempts=2, backoff_s=0.0, handler_timeout_s=0.01)
            await service.subscribe("t", "g", handler, policy=policy)
            await service.send_batch("t", [{"n": 1}, {"n": 2}])
            [message] = await heard.until(1)
            assert message.value == {"n": 2}
            assert cancelled == [1, 2]
            await until(lambda: service.counters.dead_lettered == 1)

        run(scenario)

    @pytest.mark.parametrize("failure", [SystemExit(3), asyncio.CancelledError(), TimeoutError(), RecursionError()])
    def test_no_failure_of_a_handler_stops_the_subscription(self, run, failure):
        """Even `sys.exit` or a stray cancellation in a handler is a failure of that message only."""

        async def scenario(service):
            heard = Heard()

            async def handler(message):
                if message.value["n"] == 1:
                    raise failure
                await heard(message)

            await service.subscribe("t", "g", handler, policy=FAST)
            await service.send_batch("t", [{"n": 1}, {"n": 2}])
            [message] = await heard.until(1)
            assert message.value == {"n": 2}
            await until(lambda: service.counters.dead_lettered == 1)

        run(scenario)

    def test_slow_handler_holds_up_its_partition_only(self, run):
        """While one partition's handler hangs, the others go on, and the slow one's memory stays bounded."""

        async def scenario(service):
            await service.create_topic("p", 4)
            places = [await service.send_message("p", {"n": n}, key=str(n)) for n in range(200)]
            slow = places[0]["partition"]
            expected = sum(place["partition"] != slow for place in places)
            heard, release = Heard(), asyncio.Event()

            async def handler(message):
                if message.partition == slow:
                    await release.wait()
                await heard(message)

            await service.subscribe("p", "g", handler, policy=DeliveryPolicy(buffer=4))
            await heard.until(expected)
            assert {m.partition for m in heard.messages} == {0, 1, 2, 3} - {slow}
            [subscription] = (await service.health())["subscriptions"]
            assert subscription["buffered"] <= 4
            release.set()
            await heard.until(200)
            assert Counter(m.value["n"] for m in heard.messages) == Counter(range(200))

        run(scenario)

    @pytest.mark.parametrize("buffer", [1, 2, 3, 10])
    def test_small_buffers_deliver_everything_in_order(self, run, buffer):
        """However small the buffer is, nothing is lost, repeated or reordered."""

        async def scenario(service):
            heard = Heard()
            await service.send_batch("t", [{"n": n} for n in range(50)])
            await service.subscribe("t", "g", heard, policy=DeliveryPolicy(buffer=buffer))
            await heard.until(50)
            assert [m.value["n"] for m in heard.messages] == list(range(50))

        run(scenario)

    def test_concurrency_commits_only_what_is_handled(self, run):
        """With several workers, a slow first message holds the commit back although later ones are done."""

        async def scenario(service):
            heard, release = Heard(), asyncio.Event()

            async def handler(message):
                if message.offset == 0:
                    await release.wait()
                await heard(message)

            await service.send_batch("t", [{"n": n} for n in range(10)])
            await service.subscribe("t", "g", handler, policy=DeliveryPolicy(concurrency=4, commit_every_s=0.0))
            await heard.until(9)
            assert (await service.lag("t", "g"))["lag"] == 10
            release.set()
            await heard.until(10)
            await service.unsubscribe("t", "g")
            assert (await service.lag("t", "g"))["lag"] == 0

        run(scenario)

    def test_answers_go_with_the_commit(self, run):
        """What a handler returns is sent, once each, and does not wait for a message before it that takes longer."""

        async def scenario(service):
            answers, release = Heard(), asyncio.Event()

            async def handler(message):
                if message.offset == 0:
                    await release.wait()
                return [service.sending("answers", {"to": message.value["n"]}, key="k")]

            await service.create_topic("answers")
            await service.subscribe("answers", "reader", answers)
            await service.send_batch("t", [{"n": n} for n in range(50)])
            await service.subscribe("t", "g", handler, policy=DeliveryPolicy(concurrency=4, commit_every_s=0.0))
            await answers.until(49)
            assert (await service.lag("t", "g"))["lag"] == 50
            release.set()
            await answers.until(50)
            assert sorted(m.value["to"] for m in answers.messages) == list(range(50))
            await service.unsubscribe("t", "g")
            assert (await service.lag("t", "g"))["lag"] == 0

        run(scenario)

    def test_whoever_takes_over_answers_what_was_not_answered(self, run):
        """A consumer that ends while one message hangs: its successor handles that one, and nothing else again."""

        async def scenario(service):
            answers, handled = Heard(), []

            def answering(hangs):
                async def handler(message):
                    if hangs and message.offset == 3:
                        await asyncio.Event().wait()
                    handled.append(message.offset)
                    return [service.sending("answers", {"to": message.offset})]

                return handler

            policy = DeliveryPolicy(concurrency=4, commit_every_s=0.0, grace_s=0.01)
            await service.create_topic("answers")
            await service.subscribe("answers", "reader", answers)
            await service.send_batch("t", [{"n": n} for n in range(20)])
            await service.subscribe("t", "g", answering(True), policy=policy)
            await answers.until(19)
            await service.unsubscribe("t", "g")
            await service.subscribe("t", "g", answering(False), policy=policy)
            await answers.until(20)
            assert sorted(handled) == list(range(20))
            assert sorted(m.value["to"] for m in answers.messages) == list(range(20))

        run(scenario)

    def test_answers_that_can_not_be_sent_hold_up_reading(self, run, monkeypatch):
        """While a commit hangs, no more messages are handled than fit into the buffer; afterwards all are."""

        async def scenario(service):
            answers, plain, opened, handled = Heard(), service._broker.commit, asyncio.Event(), []

            async def commit(*who, **how):
                if how.get("sends"):
                    await opened.wait()
                return await plain(*who, **how)

            async def handler(message):
                handled.append(message.offset)
                return [service.sending("answers", {"to": message.offset})]

            monkeypatch.setattr(service._broker, "commit", commit, raising=False)
            await service.create_topic("answers")
            await service.subscribe("answers", "reader", answers)
            await service.send_batch("t", [{"n": n} for n in range(100)])
            await service.subscribe("t", "g", handler, policy=DeliveryPolicy(buffer=8, commit_every_s=0.0))
            while len(handled) < 8:
                await asyncio.sleep(0.001)
            await service.create_topic("other")
            for n in range(20):  # whatever else would be read is read by now
                await service.send_message("other", {"n": n})
            assert len(handled) <= 16
            opened.set()
            await answers.until(100)
            assert [m.value["to"] for m in answers.messages] == list(range(100))

        run(scenario)

    def test_a_commit_whose_outcome_is_unknown_sends_nothing_twice(self, run, monkeypatch):
        """The broker fails now before a commit, now after it: each message is answered once all the same."""
        monkeypatch.setattr("balance.messaging.subscription.BROKER_PAUSE_S", 0.001)

        async def scenario(service):
            answers, plain, calls = Heard(), service._broker.commit, []

            async def commit(*who, **how):
                if how.get("sends"):
                    calls.append(None)
                    if len(calls) % 3 == 1:
                        raise StorageError("before")
                    done = await plain(*who, **how)
                    if len(calls) % 3 == 2:
                        raise StorageError("after")
                    return done
                return await plain(*who, **how)

            async def handler(message):
                return [service.sending("answers", {"to": message.offset})]

            monkeypatch.setattr(service._broker, "commit", commit, raising=False)
            await service.create_topic("answers")
            await service.subscribe("answers", "reader", answers)
            await service.subscribe("t", "g", handler, policy=DeliveryPolicy(commit_every_s=0.0))
            for n in range(12):
                await service.send_message("t", {"n": n})
                await answers.until(n + 1)
            await service.unsubscribe("t", "g")
            assert sorted(m.value["to"] for m in answers.messages) == list(range(12))
            assert len(calls) > 12

        run(scenario)

    def test_stopping_finishes_what_runs_and_leaves_the_rest(self, run):
        """Unsubscribing lets the running handler finish and commits it; the others come to the next one, once."""

        async def scenario(service):
            first, second, entered = Heard(), Heard(), asyncio.Event()

            async def handler(message):
                entered.set()
                await asyncio.sleep(0)
                await first(message)

            await service.send_batch("t", [{"n": n} for n in range(20)])
            await service.subscribe("t", "g", handler)
            await entered.wait()
            await service.unsubscribe("t", "g")
            handled = [m.value["n"] for m in first.messages]
            assert handled
            assert (await service.lag("t", "g"))["lag"] == 20 - len(handled)
            await service.subscribe("t", "g", second)
            await second.until(20 - len(handled))
            assert handled + [m.value["n"] for m in second.messages] == list(range(20))

        run(scenario)

    def test_stopping_cancels_who_does_not_finish(self, run):
        """A handler that outlasts the grace is cancelled; its message is not committed and comes again."""

        async def scenario(service):
            entered = asyncio.Event()

            async def handler(message):
                entered.set()
                await asyncio.Event().wait()

            await service.send_message("t", {})
            await service.subscribe("t", "g", handler, policy=DeliveryPolicy(grace_s=0.01))
            await entered.wait()
            await service.unsubscribe("t", "g")
            assert (await service.lag("t", "g"))["lag"] == 1

        run(scenario)

    def test_two_services_share_a_group(self, run):
        """Two members split the partitions; when one leaves, the other gets the rest; nothing is lost."""

        async def scenario(one):
            two = KafkaService(broker=one._broker)
            heard = Heard()
            await two.connect()
            await one.create_topic("p", 4)
            for service in (one, two):
                await service.subscribe("p", "g", heard)
            await one.send_batch("p", [{"n": n} for n in range(100)], [str(n) for n in range(100)])
            await heard.until(100)
            await one.unsubscribe("p", "g")
            await two.send_batch("p", [{"n": n} for n in range(100, 200)], [str(n) for n in range(100)])
            while {m.value["n"] for m in heard.messages} != set(range(200)):  # repeats are allowed, gaps are not
                await heard.until(len(heard.messages) + 1)
            await two.close()

        run(scenario)

    def test_mistakes_are_refused_and_send_nothing(self, run):
        """Unknown topics, bad names, what is not JSON, what is too large: errors, and nothing was sent."""

        async def scenario(service):
            with pytest.raises(UnknownId, match="did you mean"):
                await service.send_message("tt", {})
            with pytest.raises(UnknownId):
                await service.subscribe("nowhere", "g", Heard())
            for message in ({"v": float("nan")}, {"v": object()}, {"v": "x" * 2**20}, [1], "text", {"v": "\ud800"}):
                with pytest.raises(InvalidValue):
                    await service.send_message("t", message)
            with pytest.raises(InvalidValue):
                await service.send_batch("t", [{"good": 1}, {"bad": {1}}])
            with pytest.raises(InvalidValue):
                await service.send_message("t", {}, headers={"h": "x" * 10_000})
            with pytest.raises(InvalidValue):
                await service.send_message("../t", {})
            await service.subscribe("t", "g", Heard())
            with pytest.raises(Conflict):
                await service.subscribe("t", "g", Heard())
            assert (await service.lag("t", "another"))["lag"] == 0
            assert service.counters.sent == 0

        run(scenario)
