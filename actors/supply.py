"""How the models' data comes to them: asked for over the topics, announced on the model's results topic, held."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from actors.base import ask, peer
from balance.adapters.actor_broker import ActorBroker
from balance.clock import Clock
from balance.errors import SourceUnavailable
from balance.messaging import MODELS_REQUESTS_TOPIC, DataSource, DataType, KafkaService, ModelRequest, RequestSource
from balance.services import DataService, ModelService

HOLDER = "batches"
"""Whose holds these are, for the data coordinator."""

ANSWER_TIMEOUT_S = 120.0
"""How long an answer on the results topic is awaited."""

log = logging.getLogger("balance.supply")


GAP_WEIGHT = 0.2
"""Weight of the newest gap in the running mean of the gaps between uses (exponential smoothing)."""


SHARE_WEIGHT = 0.2
"""Weight of the newest hold in the share of a model's holds that have a piece of data."""

MISSED_GAPS = 4.0
"""After so many usual gaps without a use, none is expected any more."""


class _Use(NamedTuple):
    """The last use of a piece of data, and how long it usually is until the next."""

    model_id: str
    at: float
    gap_s: float | None
    max_age_s: float | None
    #: How many of the model's last holds had it, with weights that fade, and which of them was the last that had.
    share: float
    hold: int

    def next_at(self, now: float) -> float | None:
        """Return when the next use is expected; None where nobody knows.

        Examples
        --------
        >>> _Use("m", 100.0, 5.0, None, 1.0, 1).next_at(103.0)
        105.0
        >>> _Use("m", 100.0, 5.0, None, 1.0, 1).next_at(200.0) is None
        True
        """
        if self.gap_s is None or now > self.at + MISSED_GAPS * self.gap_s:
            return None
        return self.at + self.gap_s

    def share_at(self, hold: int) -> float:
        """Return its share when the model has come to its n-th hold.

        Examples
        --------
        >>> use = _Use("m", 100.0, 5.0, None, 1.0, 10)
        >>> use.share_at(10), round(use.share_at(11), 6)
        (1.0, 0.8)
        """
        return self.share * float((1.0 - SHARE_WEIGHT) ** (hold - self.hold))


def _use(last: _Use | None, model_id: str, now: float, max_age_s: float | None, hold: int) -> _Use:
    """Return a use with what it and the last one say of the next.

    Examples
    --------
    >>> first = _use(None, "m", 100.0, None, 1)
    >>> second = _use(first, "m", 110.0, None, 3)
    >>> first.gap_s, second.gap_s, first.share, round(second.share, 3)
    (None, 10.0, 1.0, 0.84)
    """
    if last is None:
        return _Use(model_id, now, None, max_age_s, 1.0, hold)
    gap_s = now - last.at
    if last.gap_s is not None:
        gap_s = last.gap_s + GAP_WEIGHT * (gap_s - last.gap_s)
    share = min(1.0, SHARE_WEIGHT + last.share_at(hold)) if last.model_id == model_id else 1.0
    return _Use(model_id, now, gap_s, max_age_s, share, hold)


class Supply:
    """Asks for data, waits for the announcement, and holds the data while it is used.

    Parameters
    ----------
    clock : Clock
        Ages what was brought.
    epoch : int
        Of the actor that it serves.
    """

    def __init__(self, clock: Clock, epoch: int) -> None:
        self._clock = clock
        self._kafka = KafkaService(broker=ActorBroker(peer("messaging"), (HOLDER, epoch)), clock=clock)
        self._models = ModelService(data_service=DataService(kafka_service=self._kafka, clock=clock), clock=clock)
        self._brought_at: dict[str, float] = {}
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._by_request: dict[str, str] = {}
        self._listening: dict[str, asyncio.Task[Any]] = {}
        self._fetch_s: dict[str, float] = {}
        self._uses: dict[str, _Use] = {}
        self._holds: Counter[str] = Counter()  # by model
        self.requested = 0
        self.failed = 0

    async def start(self) -> None:
        """Connect to the broker, and let go of what the batches of a former incarnation held."""
        await self._models.initialize()
        await ask("data_coordinator", "let_go", HOLDER)

    async def close(self) -> None:
        """Stop listening."""
        await self._models.close()

    async def hold(
        self, name: str, model_id: str, data_ids: Sequence[str], max_age_s: Mapping[str, float], priority: int
    ) -> dict[str, str]:
        """Bring data within reach and keep it there until `release`; return the location of each.

        Parameters
        ----------
        name : str
            Of the hold, for `release`.

        Raises
        ------
        SourceUnavailable
            A source did not deliver, or there is no room; nothing is held then.
        """
        await asyncio.gather(*(self.bring(model_id, data_id, max_age_s.get(data_id), priority) for data_id in data_ids))
        held: dict[str, str] = {}
        self._holds[model_id] += 1
        try:
            for data_id in data_ids:
                answer = await ask("data_coordinator", "hold_data", HOLDER, name, data_id)
                if answer["status"] != "allocated":
                    raise SourceUnavailable(f"data {data_id!r} can't be placed: {answer['reason']}", data_id=data_id)
                held[data_id] = answer["location"]
                last, now = self._uses.get(data_id), self._clock.wall()
                self._uses[data_id] = _use(last, model_id, now, max_age_s.get(data_id), self._holds[model_id])
        except BaseException:
            await self.release(name)
            raise
        return held

    @staticmethod
    async def release(name: str) -> None:
        """Let go of what was held; one that can't be let go now stays within reach, which harms nobody at once."""
        try:
            await ask("data_coordinator", "let_go", HOLDER, name)
        except Exception:
            log.exception("event=hold_not_released name=%s", name)

    async def bring(self, model_id: str, data_id: str, max_age_s: float | None, priority: int) -> None:
        """Ask for data unless it was brought already and has not aged; callers who ask at once share the answer."""
        brought = self._brought_at.get(data_id)
        if brought is not None and (max_age_s is None or self._clock.now() - brought < max_age_s):
            return
        waiting = self._asked.get(data_id)
        if waiting is None:
            waiting = self._asked[data_id] = asyncio.get_running_loop().create_future()
            try:
                await self._ask_for(model_id, data_id, max_age_s, priority, waiting)
            except BaseException as error:
                self._fail(waiting, data_id, f"nobody brings data {data_id!r}: {error!r}")
                raise
            finally:
                self._asked.pop(data_id, None)
        else:
            await asyncio.shield(waiting)

    @staticmethod
    def _fail(waiting: asyncio.Future[None], data_id: str, why: str) -> None:
        """Let everyone who shares an answer know that it will not come."""
        if not waiting.done():
            waiting.set_exception(SourceUnavailable(why, data_id=data_id))
            waiting.exception()  # whoever asked may have given up; the error is not lost on a log then

    async def _ask_for(
        self, model_id: str, data_id: str, max_age_s: float | None, priority: int, waiting: asyncio.Future[None]
    ) -> None:
        await self._listen(model_id)
        request_id = f"data-{uuid.uuid4().hex}"
        self._by_request[request_id] = data_id
        self.requested += 1
        began = self._clock.now()
        message = ModelRequest(
            model_id=model_id,
            query=data_id,
            data_type=DataType.STRUCTURED,
            source_type=DataSource.CUSTOM,
            priority=priority,
            request_source=RequestSource.MODEL,
            request_id=request_id,
            parameters={} if max_age_s is None else {"max_age_s": max_age_s},
        )
        try:
            await self._kafka.send_message(MODELS_REQUESTS_TOPIC, message, key=data_id)
            await asyncio.wait_for(asyncio.shield(waiting), ANSWER_TIMEOUT_S)
            self._fetch_s[data_id] = self._clock.now() - began
        except TimeoutError:
            self.failed += 1
            raise SourceUnavailable(
                f"nobody answered the request for data {data_id!r} within {ANSWER_TIMEOUT_S:g} s", data_id=data_id
            ) from None
        finally:
            self._by_request.pop(request_id, None)

    async def _listen(self, model_id: str) -> None:
        """Subscribe to the model's results topic, once."""
        if model_id not in self._listening:
            work = self._models.register_model(model_id, self._arrived)
            self._listening[model_id] = asyncio.get_running_loop().create_task(work)
        try:
            await asyncio.shield(self._listening[model_id])
        except Exception:
            self._listening.pop(model_id, None)
            raise

    async def _arrived(self, response: dict[str, Any]) -> None:
        """Take an answer from a results topic; one that nobody waits for any more changes nothing."""
        data_id = self._by_request.get(response["metadata"]["request_id"])
        waiting = self._asked.get(data_id) if data_id else None
        if data_id is None or waiting is None or waiting.done():
            return
        if response["status"] == "ok":
            self._brought_at[data_id] = self._clock.now()
            waiting.set_result(None)
        else:
            self.failed += 1
            self._fail(waiting, data_id, str(response["error"]))

    def stats(self) -> dict[str, Any]:
        """Return ``requested`` and ``failed`` (messages), and ``uses``: by data id who used it and when it is needed.

        Each use has ``model_id``, ``next_use_at`` (POSIX seconds, or None: see `_Use.next_at`), ``share`` (of the
        model's batches), ``fetch_s`` (measured), ``max_age_s`` and ``aged`` (whether the copy is too old already).
        """
        now = self._clock.now()
        return {
            "requested": self.requested,
            "failed": self.failed,
            "uses": {
                data_id: {
                    "model_id": use.model_id,
                    "next_use_at": use.next_at(self._clock.wall()),
                    "share": use.share_at(self._holds[use.model_id]),
                    "max_age_s": use.max_age_s,
                    "fetch_s": self._fetch_s.get(data_id, 0.0),
                    "aged": use.max_age_s is not None and now - self._brought_at.get(data_id, now) >= use.max_age_s,
                }
                for data_id, use in self._uses.items()
            },
        }
