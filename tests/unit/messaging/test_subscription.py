"""A subscription and what it believes: answers that come too late, on a broker that loses some of its own."""

from __future__ import annotations

import asyncio

from balance.errors import StorageError
from balance.messaging.broker import Outgoing, Polled, Record, Send
from balance.messaging.delivery import Counters, DeliveryPolicy
from balance.messaging.subscription import Subscription

QUICK = DeliveryPolicy(backoff_s=0.0, commit_every_s=0.0)


class ForgetfulBroker:
    """A topic with one message: it takes the first commit and its answer is lost.

    The poll that is under way then is answered all the same, with what was so before the commit, just when the
    subscription has learnt that it does not know what became of it.
    """

    def __init__(self):
        self.generation = 1
        self.committed = 0
        self.sent = []
        self.polls = []
        self.grown = asyncio.Event()
        self.subscription = None

    async def poll(self, topic, group, member, *, generation, positions, max_records, wait_s):
        self.polls.append(generation)
        self.grown.set()
        before = self.committed
        if len(self.polls) == 1:
            return Polled(1, {0: before}, [Record(0, 0, None, b"{}", {}, 0.0)])
        if len(self.polls) == 2:
            while not self.subscription._lanes[0].is_unsure:
                await asyncio.sleep(0)
            self.generation = 2  # somebody has come or gone, so this poll ends
            return Polled(2, {0: before})
        if generation != self.generation:
            return Polled(self.generation, {0: before})
        return await asyncio.Event().wait()

    async def commit(self, topic, group, member, offsets, *, beyond, sends, generation):
        self.sent += [send.record.value for send in sends]
        self.committed = offsets[0]
        self.grown.set()
        if len(self.sent) == 1:
            raise StorageError("the answer is lost")
        return []

    async def leave(self, topic, group, member):
        pass


def test_what_was_said_before_a_lost_commit_is_not_taken_for_its_outcome(monkeypatch):
    """A poll that was made before the question is no answer to it: what that commit sent is not sent again."""
    monkeypatch.setattr("balance.messaging.subscription.BROKER_PAUSE_S", 0.0)

    async def handler(_message):
        return [Send("answers", Outgoing(None, b"salam", {}))]

    async def main():
        broker = ForgetfulBroker()
        broker.subscription = Subscription(
            broker, "t", "g", handler, policy=QUICK, counters=Counters(), dead_letter=handler
        )
        async with asyncio.timeout(10):
            while len(broker.polls) < 4 and len(broker.sent) < 2:
                broker.grown.clear()
                await broker.grown.wait()
        await broker.subscription.stop()
        return broker

    broker = asyncio.run(main())
    assert broker.sent == [b"salam"]
    assert broker.polls == [0, 1, 0, 2]  # after the late answer it asks anew, and then it knows
    assert broker.committed == 1
