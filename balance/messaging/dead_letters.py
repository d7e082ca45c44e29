"""What could not be handled: counted, shown, and put back on its way.

A consumer group of its own remembers how far the letters of a topic were dealt with: those after it are *open*.  A
replay appends the original again, as it was, to the topic that it came from, and then moves the group on; so a crash in
between brings a letter back once more, which handlers bear since they are idempotent.  What fails again becomes a new
letter, behind the others.  A letter is written with the commit of its message, so each has one; two about one
message go out once in a replay all the same.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from balance.errors import Conflict, MessageRejected, StorageError, UnknownId
from balance.messaging.broker import Broker, Outgoing, Record
from balance.messaging.delivery import decode_letter
from balance.messaging.topics import DEAD_LETTER_SUFFIX, dead_letter_topic
from balance.types import check_int

GROUP = "balance-dead-letters"
REPLAYED_HEADER = "balance-replayed"
#: How long to wait to be let into the group, and for letters that are known to be there.
PATIENCE_S = 15.0
BATCH = 100


class DeadLetters:
    """The dead letters of all topics.

    Parameters
    ----------
    broker : Broker
        Where they lie.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> from balance.errors import MessageRejected
    >>> from balance.messaging import EmbeddedLog, KafkaService
    >>> async def main(folder):
    ...     log, heard = EmbeddedLog(folder), []
    ...     async def handler(message):
    ...         if "balance-replayed" not in message.headers:
    ...             raise MessageRejected("not today")
    ...         heard.append(message.value)
    ...     async with KafkaService(broker=log) as service:
    ...         await service.create_topic("work")
    ...         await service.subscribe("work", "workers", handler)
    ...         await service.send_message("work", {"n": 1})
    ...         letters = DeadLetters(log)
    ...         while not (await letters.count())["open"]:
    ...             await asyncio.sleep(0.001)
    ...         replayed = await letters.replay("work")
    ...         while not heard:
    ...             await asyncio.sleep(0.001)
    ...     await log.close()
    ...     return replayed["replayed"], replayed["open"], heard
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    (1, 0, [{'n': 1}])
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def count(self) -> dict[str, Any]:
        """Return how many letters are open.

        Returns
        -------
        dict
            ``open`` (letters in all), ``topics`` (the same by topic, those without any left out).
        """
        topics: dict[str, int] = {}
        for letters in sorted(await self._broker.topics()):
            if letters.endswith(DEAD_LETTER_SUFFIX):
                is_open = sum((await self._broker.lag(letters, GROUP)).values())
                if is_open:
                    topics[letters.removesuffix(DEAD_LETTER_SUFFIX)] = is_open
        return {"open": sum(topics.values()), "topics": topics}

    async def show(self, topic: str, limit: int = 10) -> dict[str, Any]:
        """Return the oldest open letters of `topic`; nothing changes.

        Returns
        -------
        dict
            ``topic``, ``open`` (how many there are), ``letters``: each with ``partition``, ``offset``, ``text`` (the
            original as text; None if it is none) and what `balance.messaging.delivery.dead_letter` lists.

        Raises
        ------
        UnknownId
            No message of `topic` was ever dead-lettered.
        Conflict
            Someone else is at the letters of this topic now.
        """
        check_int("limit", limit, minimum=1)
        letters = await self._letters_of(topic)
        is_open = sum((await self._broker.lag(letters, GROUP)).values())
        shown: list[dict[str, Any]] = []
        async with self._reading(letters, min(limit, is_open)) as batches:
            async for batch in batches:
                shown += [_shown(record) for record in batch]
        return {"topic": topic, "open": is_open, "letters": shown}

    async def replay(self, topic: str, limit: int | None = None) -> dict[str, Any]:
        """Put the originals of the open letters of `topic` back on it, oldest first.

        Parameters
        ----------
        topic : str
            Where the messages came from, and go again.
        limit : int, optional
            At most so many; all that are open now when left out.

        Returns
        -------
        dict
            ``status`` (``replayed``, or ``nothing_open``), ``topic``, ``replayed`` (messages), ``unreadable`` (letters
            that are none; they are passed over), ``open`` (letters that are left).

        Raises
        ------
        UnknownId
            No message of `topic` was ever dead-lettered.
        Conflict
            Someone else is at the letters of this topic now.
        StorageError
            The broker failed; what was replayed until then is not open any more, but for the last few.
        """
        letters = await self._letters_of(topic)
        is_open = sum((await self._broker.lag(letters, GROUP)).values())
        count = is_open if limit is None else min(check_int("limit", limit, minimum=1), is_open)
        replayed = unreadable = 0
        seen: set[tuple[Any, Any]] = set()
        async with self._reading(letters, count, moving=True) as batches:
            async for batch in batches:
                originals: list[Outgoing] = []
                for record in batch:
                    original, place = _original(record, topic)
                    if original is None:
                        unreadable += 1
                    elif place not in seen:
                        seen.add(place)
                        originals.append(original)
                await self._broker.append(topic, originals)
                replayed += len(originals)
        return {
            "status": "replayed" if count else "nothing_open",
            "topic": topic,
            "replayed": replayed,
            "unreadable": unreadable,
            "open": sum((await self._broker.lag(letters, GROUP)).values()),
        }

    async def _letters_of(self, topic: str) -> str:
        letters = dead_letter_topic(topic)
        known = await self._broker.topics()
        if letters not in known:
            suffix = DEAD_LETTER_SUFFIX
            raise UnknownId("dead-lettered topic", topic, [t.removesuffix(suffix) for t in known if t.endswith(suffix)])
        return letters

    @asynccontextmanager
    async def _reading(
        self, letters: str, count: int, *, moving: bool = False
    ) -> AsyncIterator[AsyncIterator[list[Record]]]:
        """Give `count` open letters in batches; with `moving` each batch is dealt with when the next is asked for."""
        member = f"{GROUP}-{uuid.uuid4().hex[:12]}"
        try:
            yield self._batches(letters, member, count, moving)
        finally:
            await self._broker.leave(letters, GROUP, member)

    async def _batches(self, letters: str, member: str, count: int, moving: bool) -> AsyncIterator[list[Record]]:
        if not count:
            return
        joined = await self._broker.poll(letters, GROUP, member, generation=0, positions={}, wait_s=PATIENCE_S)
        if not joined.assigned:
            raise Conflict(f"someone else is at the dead letters of {letters!r}; try again later", topic=letters)
        positions = dict(joined.assigned)
        while count:
            polled = await self._broker.poll(
                letters,
                GROUP,
                member,
                generation=joined.generation,
                positions=positions,
                max_records=min(count, BATCH),
                wait_s=PATIENCE_S,
            )
            if not polled.records:
                if moving and not sum((await self._broker.lag(letters, GROUP)).values()):
                    return  # what was counted beside letters were marks of the broker's own
                raise StorageError(f"of the letters in {letters!r}, {count} did not come in {PATIENCE_S:g} s")
            batch = polled.records[:count]
            yield batch
            count -= len(batch)
            positions.update({record.partition: record.offset + 1 for record in batch})
            if moving and await self._broker.commit(letters, GROUP, member, positions):
                raise Conflict(f"someone else has taken over the dead letters of {letters!r}", topic=letters)


def _original(record: Record, topic: str) -> tuple[Outgoing | None, tuple[Any, Any]]:
    """Return the message that a letter is about, and its place; None if it is no letter about a message of `topic`."""
    try:
        original = decode_letter(record.value)["original"]
        if original["topic"] != topic:
            return None, (None, None)
        key = None if original["key"] is None else base64.b64decode(original["key"], validate=True)
        headers = {str(name): str(value) for name, value in original["headers"].items()}
        value = base64.b64decode(original["value"], validate=True)
        place = (int(original["partition"]), int(original["offset"]))
    except (MessageRejected, KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return None, (None, None)
    return Outgoing(key, value, {**headers, REPLAYED_HEADER: f"{record.partition}/{record.offset}"}), place


def _shown(record: Record) -> dict[str, Any]:
    place = {"partition": record.partition, "offset": record.offset}
    try:
        letter = decode_letter(record.value)
    except MessageRejected as error:
        return {**place, "reason": f"no letter: {error}", "text": record.value.decode(errors="backslashreplace")}
    try:
        text = base64.b64decode(letter["original"]["value"]).decode()
    except (KeyError, TypeError, ValueError):
        text = None
    return {**letter, **place, "text": text}
