"""One subscription: reads a topic as a member of a group and hands each message to a handler.

One loop polls; each partition has a `Lane` of its own.  A lane that is full is left out of the next poll, so a slow
handler holds up its partition and nothing else, and memory is bounded by partitions times buffer.

What it does *not* do: remember messages over restarts.  After a crash, what was not committed comes again: handlers
are idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from balance.errors import BalanceError, MessageRejected
from balance.messaging.broker import Broker, Polled, Record, Send
from balance.messaging.delivery import Counters, DeliveryPolicy, Handler, Message, check_received, decode_message
from balance.messaging.lane import Lane, Progress
from balance.messaging.topics import DEAD_LETTER_SUFFIX

POLL_WAIT_S = 2.0
POLL_RECORDS = 500
#: How long to wait after the broker failed, before it is asked again.
BROKER_PAUSE_S = 0.5

DeadLetter = Callable[[Record, BaseException, int], Awaitable["Sequence[Send]"]]

logger = logging.getLogger(__name__)


class Subscription:
    """A running subscription; `KafkaService.subscribe` makes them.

    Parameters
    ----------
    broker : Broker
        Where the messages are.
    topic, group : str
        What is read, and on whose behalf.
    handler : async callable
        Gets each `Message`; returns None, or what is to be sent for it (`Send`): that goes with the commit, as one.
        Raising means failure, raising `MessageRejected` means that trying again is useless.
    policy : DeliveryPolicy
        Attempts, waits, limits.
    counters : Counters
        Where deliveries are counted.
    dead_letter : async callable
        Takes a record that is given up, the failure, and the number of attempts; returns the letter, which goes with
        the commit.
    """

    def __init__(
        self,
        broker: Broker,
        topic: str,
        group: str,
        handler: Handler,
        *,
        policy: DeliveryPolicy,
        counters: Counters,
        dead_letter: DeadLetter,
    ) -> None:
        self.topic = topic
        self.group = group
        self.handler = handler
        self.member = f"{group}-{uuid.uuid4().hex[:12]}"
        self.problem: str | None = None
        self._broker = broker
        self._policy = policy
        self._counters = counters
        self._dead_letter = dead_letter
        self._lanes: dict[int, Lane] = {}
        self._letters = topic + DEAD_LETTER_SUFFIX
        self._generation = 0
        # Set when a full lane has room, when a lane wants to know how far it is, and when it is time to stop.
        self._room = asyncio.Event()
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"subscription {group} {topic}")

    async def stop(self) -> None:
        """Let running handlers finish (up to the grace), commit what was handled, leave the group."""
        self._stopping = True
        self._room.set()
        await asyncio.gather(self._task, return_exceptions=True)

    def to_dict(self) -> dict[str, Any]:
        """Return ``topic``, ``group``, ``member``, ``partitions`` (list), ``buffered`` (messages), ``problem``."""
        return {
            "topic": self.topic,
            "group": self.group,
            "member": self.member,
            "partitions": sorted(self._lanes),
            "buffered": sum(lane.buffered for lane in self._lanes.values()),
            "problem": self.problem,
        }

    async def _run(self) -> None:
        try:
            while not self._stopping:
                unsure = {number for number, lane in self._lanes.items() if lane.is_unsure}
                try:
                    polled = await self._poll(0 if unsure else self._generation)
                except (BalanceError, OSError) as error:
                    await self._pause(f"poll failed: {error}")
                    continue
                except Exception as error:
                    logger.exception("subscription.poll_failed topic=%s group=%s", self.topic, self.group)
                    await self._pause(f"poll failed unexpectedly: {error!r}")
                    continue
                if polled is None:
                    continue
                self.problem = None
                if unsure or polled.generation != self._generation or polled.assigned.keys() != self._lanes.keys():
                    self._generation = polled.generation
                    self._reassign(polled, unsure)
                for record in polled.records:
                    self._lanes[record.partition].take(record)
        finally:
            await self._leave()

    async def _poll(self, generation: int) -> Polled | None:
        """Poll for the lanes that have room; None when a lane got room meanwhile, or wants to know how far it is."""
        self._room.clear()
        rooms = {number: lane.room for number, lane in self._lanes.items() if lane.room}
        poll = asyncio.ensure_future(
            self._broker.poll(
                self.topic,
                self.group,
                self.member,
                generation=generation,
                positions={number: self._lanes[number].position for number in rooms},
                max_records=min([POLL_RECORDS, *rooms.values()]),
                wait_s=POLL_WAIT_S,
            )
        )
        room = asyncio.ensure_future(self._room.wait())
        try:
            await asyncio.wait({poll, room}, return_when=asyncio.FIRST_COMPLETED)
            return poll.result() if poll.done() else None
        finally:
            poll.cancel()  # a poll changes nothing, so it can be given up at any time
            room.cancel()

    def _reassign(self, polled: Polled, unsure: set[int]) -> None:
        """Take over what a poll says of the partitions; `unsure` are the lanes that wanted to know when it was made."""
        assigned = polled.assigned
        for number in sorted(self._lanes.keys() - assigned.keys()):
            self._lanes.pop(number).abandon()
        for number, committed in assigned.items():
            beyond = polled.beyond.get(number, ())
            if (lane := self._lanes.get(number)) is not None:
                if number in unsure or not lane.is_unsure:  # else it has asked since, and this answer is too old
                    lane.resync(committed, beyond)
            else:
                self._lanes[number] = Lane(
                    number,
                    committed,
                    beyond,
                    policy=self._policy,
                    deliver=self._deliver,
                    commit=self._commit,
                    on_room=self._room.set,
                )
        logger.info("subscription.assigned topic=%s group=%s partitions=%s", self.topic, self.group, sorted(assigned))

    async def _leave(self) -> None:
        await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))
        self._lanes.clear()
        try:
            await self._broker.leave(self.topic, self.group, self.member)
        except (BalanceError, OSError) as error:
            logger.warning("subscription.leave_failed topic=%s group=%s error=%s", self.topic, self.group, error)

    async def _commit(self, progress: Progress) -> bool:
        try:
            refused = await self._broker.commit(
                self.topic,
                self.group,
                self.member,
                {progress.partition: progress.offset},
                beyond={progress.partition: progress.beyond},
                sends=progress.sends,
                generation=self._generation,
            )
        except (BalanceError, OSError) as error:  # what is not committed comes again: nothing is lost
            logger.warning("subscription.commit_failed topic=%s group=%s error=%s", self.topic, self.group, error)
            if progress.sends:  # they wait for the broker; a message that is not committed yet is not lost
                await asyncio.sleep(BROKER_PAUSE_S)
            return False
        if not refused:
            letters = sum(send.topic == self._letters for send in progress.sends)
            self._counters.dead_lettered += letters
            self._counters.sent += len(progress.sends) - letters
        return not refused

    async def _pause(self, problem: str) -> None:
        logger.warning("subscription.problem topic=%s group=%s problem=%s", self.topic, self.group, problem)
        self.problem = problem
        await asyncio.sleep(BROKER_PAUSE_S)

    async def _deliver(self, record: Record) -> Sequence[Send]:
        """Hand one record to the handler until it is handled or dead-lettered; return what is to be sent for it."""
        outcome: Sequence[Send] | BaseException
        attempt = 0
        try:
            if record.headers:
                check_received(record)
            value = decode_message(record.value)
            while isinstance(outcome := await self._attempt(record, value, attempt := attempt + 1), BaseException):
                if attempt == self._policy.max_attempts:
                    break
                self._counters.retried += 1
                await asyncio.sleep(self._policy.wait_s(attempt))
        except MessageRejected as error:
            outcome = error
        if not isinstance(outcome, BaseException):
            return outcome
        return await self._give_up(record, outcome, attempt)

    async def _attempt(self, record: Record, value: dict[str, Any], attempt: int) -> Sequence[Send] | BaseException:
        """Call the handler once; return what it wants sent, or how it failed.  `MessageRejected` passes through."""
        message = Message(
            topic=self.topic,
            partition=record.partition,
            offset=record.offset,
            value=value,
            raw=record.value,
            key=record.key,
            headers=record.headers,
            timestamp_s=record.timestamp_s,
            attempt=attempt,
            is_last_attempt=attempt == self._policy.max_attempts,
        )
        try:
            async with asyncio.timeout(self._policy.handler_timeout_s):
                sends = await self.handler(message)
        except MessageRejected:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # it is us who are cancelled; otherwise the handler let a cancellation of its own out
            return error
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a handler raises is its failure, not ours)
            return error
        self._counters.delivered += 1
        return sends or ()

    async def _give_up(self, record: Record, failure: BaseException, attempts: int) -> Sequence[Send]:
        """Return the letter about a record; as long as it has nowhere to go its partition waits: nothing is dropped."""
        logger.warning(
            "message.dead_lettered topic=%s partition=%d offset=%d attempts=%d reason=%r",
            self.topic,
            record.partition,
            record.offset,
            attempts,
            failure,
        )
        while True:
            try:
                letter = await self._dead_letter(record, failure, attempts)
            except (BalanceError, OSError) as error:
                await self._pause(f"there is no dead-letter topic: {error}")
            else:
                self._counters.dead_lettered += not letter
                return letter
