"""What answers `DATA_REQUESTS_TOPIC`: takes each request, has its data fetched, answers on its results topic.

* **Idempotent**: the outcome is remembered before the answer is sent, so a request that comes again gets the stored
  answer and is not fetched again.
* **Once**: the answer is sent with the commit of its request, as one (`Broker.commit`), so each message on the topic is
  answered by one message, whenever a collector dies.
* **Merged**: equal requests lie in one partition (the data service keys them by content) and so meet here; those that
  are under way at the same time share one fetch, each gets its own answer.
* **Nobody is left waiting**: a request that can't be served is answered with ``error``.  Where the source failed after
  all attempts, or nobody serves that source, it goes to the dead-letter topic as well, from where it can be replayed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from balance.batch.processor.request_merger import RequestMerger
from balance.clock import Clock, iso
from balance.defaults import default
from balance.errors import AccessRefused, ConfigurationError, InvalidValue, MessageRejected, UnknownId
from balance.messaging.broker import Send
from balance.messaging.delivery import DeliveryPolicy, Message, encode_message
from balance.messaging.enums import DataSource, parse_enum
from balance.messaging.kafka_service import KafkaService
from balance.messaging.schemas import MAX_INLINE_BYTES, DataRequest, DataResponse, parse_request
from balance.messaging.topics import DATA_REQUESTS_TOPIC, RESULTS_PREFIX, TopicManager
from balance.services.outcomes import OutcomeMemory

GROUP = "balance-collectors"
POLICY = DeliveryPolicy(max_attempts=4, concurrency=8, handler_timeout_s=120.0)

#: Failures that will be the same next time.
_FINAL = (AccessRefused, ConfigurationError, InvalidValue, UnknownId)

Fetch = Callable[[DataRequest], Awaitable[dict[str, Any]]]

logger = logging.getLogger(__name__)


class Collector:
    """A consumer of data requests.

    Parameters
    ----------
    kafka_service : KafkaService, optional
        The connection; one on the broker of the settings when left out.
    fetch : async callable, optional
        Gets a `DataRequest`, returns a dict with ``location`` and/or ``data`` (JSON, at most 256 KiB), and optionally
        ``size_bytes`` and ``digest``.  It raises `SourceUnavailable` (tried again), or `AccessRefused`,
        `ConfigurationError`, `InvalidValue`, `UnknownId` (not tried again).  Left out, every request is answered with
        an error.
    outcomes : OutcomeMemory, optional
        Remembers what became of requests; this process's memory when left out.
    clock : Clock, optional
        Notices expired requests, measures fetches.
    sources : iterable of DataSource, optional
        What `fetch` can serve; everything when left out.
    policy : DeliveryPolicy, optional
        Attempts, concurrency, time limit of a fetch.
    observe : callable, optional
        Hears of every answer that has data: the source, the parameters, and the seconds from the request to it.

    Examples
    --------
    >>> import tempfile
    >>> from balance.config import Settings
    >>> from balance.services import DataService, ModelService
    >>> async def fetch(request):
    ...     return {"data": request.query.upper(), "size_bytes": len(request.query)}
    >>> async def main(folder):
    ...     answered = asyncio.get_running_loop().create_future()
    ...     models = ModelService(data_service=DataService(settings=Settings(state_dir=folder)))
    ...     await models.register_model("whisper", answered.set_result)
    ...     collector = Collector(kafka_service=models.kafka_service, fetch=fetch)
    ...     await collector.start()
    ...     await models.data_service.request_data("whisper", "hello")
    ...     answer = await answered
    ...     await collector.stop()
    ...     await models.close()
    ...     return answer["status"], answer["data"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    ('ok', 'HELLO')
    """

    def __init__(
        self,
        *,
        kafka_service: KafkaService | None = None,
        fetch: Fetch | None = None,
        outcomes: OutcomeMemory | None = None,
        clock: Clock | None = None,
        sources: Iterable[DataSource | str] | None = None,
        policy: DeliveryPolicy | None = None,
        observe: Callable[[DataSource, dict[str, Any], float], None] | None = None,
    ) -> None:
        self.kafka_service = kafka_service if kafka_service is not None else KafkaService()
        self.fetched = 0
        self.merged = 0
        self._fetch = fetch if fetch is not None else _no_fetch
        self._outcomes = outcomes if outcomes is not None else OutcomeMemory()
        self._clock: Clock = clock if clock is not None else default("clock")
        self._sources = None if sources is None else {parse_enum(DataSource, "sources", one) for one in sources}
        self._policy = policy if policy is not None else POLICY
        self._observe = observe
        self._topics = TopicManager(kafka_service=self.kafka_service)
        self._merger = RequestMerger()
        self._under_way: dict[str, _Shared] = {}
        self._in_hand: dict[str, tuple[asyncio.Lock, int]] = {}

    async def start(self) -> None:
        """Begin to take requests, as one of the collectors that share them."""
        await self.kafka_service.connect()
        await self._topics.ensure_topic(DATA_REQUESTS_TOPIC)
        await self.kafka_service.subscribe(DATA_REQUESTS_TOPIC, GROUP, self.handle, policy=self._policy)

    async def stop(self) -> None:
        """Finish the fetches that run (up to the grace) and take no more; what was not answered comes again."""
        await self.kafka_service.unsubscribe(DATA_REQUESTS_TOPIC, GROUP)

    async def handle(self, message: Message) -> list[Send]:
        """Return the answer to one request; raising hands it back for another attempt, or to the dead-letter topic.

        Raises
        ------
        MessageRejected
            The request is malformed, or nobody serves its source; where it says who asked, that one was answered.
        SourceUnavailable
            The source failed; on the last attempt the requester was answered.
        """
        received_s = self._clock.wall()
        try:
            request = parse_request(message.raw)
            self._check_source(request)
        except MessageRejected as rejection:
            await self._answer_malformed(message, rejection)
            raise
        async with self._alone(request.metadata.request_id):
            known = await self._outcomes.get(request.metadata.request_id)
            if known is not None:
                return await self._answer(request.response_topic, known)
            return await self._served(message, request, received_s)

    @asynccontextmanager
    async def _alone(self, request_id: str) -> AsyncIterator[None]:
        """Handle one message of a request at a time: the others find what became of it."""
        lock, users = self._in_hand.get(request_id, (asyncio.Lock(), 0))
        self._in_hand[request_id] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._in_hand.pop(request_id)
            if users > 1:
                self._in_hand[request_id] = lock, users - 1

    async def _served(self, message: Message, request: DataRequest, received_s: float) -> list[Send]:
        if request.metadata.is_expired(received_s):
            expired = InvalidValue("ttl_s", request.metadata.ttl_s, "a request that is still wanted: it has expired")
            return await self._finish(request, _failed(request, expired, received_s))
        try:
            response = await self._fetched(request, received_s)
        except _FINAL as error:
            return await self._finish(request, _failed(request, error, received_s))
        except Exception as error:
            if message.is_last_attempt:  # not remembered: a replay of the dead letter is to try again
                await self._publish(request.response_topic, _failed(request, error, received_s))
            raise
        if self._observe is not None:
            self._observe(request.data_source, request.parameters, response["wait_s"] + response["fetch_s"])
        return await self._finish(request, response)

    async def _fetched(self, request: DataRequest, received_s: float) -> dict[str, Any]:
        """Fetch, or join the fetch of an equal request that is under way; return the answer."""
        key = self._merger.key_of(request.content)
        shared = self._under_way.get(key)
        if shared is None:
            self.fetched += 1
            shared = self._under_way[key] = _Shared(asyncio.ensure_future(self._fetch(request)))
            shared.task.add_done_callback(lambda _: self._under_way.pop(key, None))
        else:
            self.merged += 1
        began = self._clock.now()
        result = await shared.join()
        return _succeeded(
            request,
            result,
            created_at=iso(self._clock.wall()),
            wait_s=_waited(request, received_s),
            fetch_s=self._clock.now() - began,
            merged=shared.count,
        )

    def _check_source(self, request: DataRequest) -> None:
        if self._sources is not None and request.data_source not in self._sources:
            served = ", ".join(sorted(self._sources)) or "none"
            raise MessageRejected(
                f"nobody serves the source {request.data_source.value!r}; served are {served}",
                source=request.data_source.value,
            )

    async def _finish(self, request: DataRequest, response: dict[str, Any]) -> list[Send]:
        """Remember first, answer then: a crash in between costs nothing but a look into the memory."""
        await self._outcomes.put(request.metadata.request_id, response)
        return await self._answer(request.response_topic, response)

    async def _answer(self, topic: str, response: dict[str, Any]) -> list[Send]:
        await self._topics.ensure_topic(topic)
        return [self.kafka_service.sending(topic, response, key=response["metadata"]["request_id"])]

    async def _publish(self, topic: str, response: dict[str, Any]) -> None:
        """Answer apart from any commit: a request that becomes a dead letter is not handled."""
        await self._topics.ensure_topic(topic)
        await self.kafka_service.send_message(topic, response, key=response["metadata"]["request_id"])

    async def _answer_malformed(self, message: Message, rejection: MessageRejected) -> None:
        """Tell whoever sent a request that can't be handled, if the message says who that is."""
        metadata = message.value.get("metadata")
        request_id = metadata.get("request_id") if isinstance(metadata, dict) else None
        topic = message.value.get("response_topic")
        if not (isinstance(request_id, str) and isinstance(topic, str) and topic.startswith(RESULTS_PREFIX)):
            return
        if topic not in await self.kafka_service.topics():  # a malformed message creates nothing
            return
        answer = {
            "schema_version": 1,
            "metadata": {"request_id": request_id},
            "status": "error",
            "error": str(rejection),
            "error_type": rejection.code,
        }
        await self.kafka_service.send_message(topic, answer, key=request_id[:512])


class _Shared:
    """A fetch that several requests wait for; it is cancelled when the last of them gives up."""

    def __init__(self, task: asyncio.Future[dict[str, Any]]) -> None:
        self.task = task
        self.count = 0
        self._waiting = 0

    async def join(self) -> dict[str, Any]:
        self.count += 1
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if self._waiting == 0 and not self.task.done():
                self.task.cancel()


async def _no_fetch(request: DataRequest) -> dict[str, Any]:
    raise UnknownId("source", request.data_source.value)


def _waited(request: DataRequest, received_s: float) -> float:
    return max(0.0, received_s - request.metadata.created_at.timestamp())


def _succeeded(request: DataRequest, result: dict[str, Any], **timings: Any) -> dict[str, Any]:
    location, data = result.get("location"), result.get("data")
    size = len(encode_message({"data": data}, max_bytes=None))
    if size > MAX_INLINE_BYTES:
        raise InvalidValue("data", f"{size} bytes", f"at most {MAX_INLINE_BYTES} bytes in a message, or a location")
    created_at, merged = timings.pop("created_at"), timings.pop("merged")
    return _response(
        request,
        created_at,
        status="ok",
        location=location,
        data=data,
        size_bytes=int(result.get("size_bytes", 0 if data is None else size)),
        digest=result.get("digest"),
        merged=merged,
        **timings,
    )


def _failed(request: DataRequest, error: BaseException, received_s: float) -> dict[str, Any]:
    return _response(
        request,
        iso(received_s),
        status="error",
        error=(str(error) or type(error).__name__)[:2_000],
        error_type=type(error).__name__,
        wait_s=_waited(request, received_s),
    )


def _response(request: DataRequest, created_at: str, **fields: Any) -> dict[str, Any]:
    metadata = {**request.metadata.model_dump(mode="json"), "created_at": created_at}
    response = DataResponse.model_validate(
        {
            "metadata": metadata,
            "model_id": request.model_id,
            "data_type": request.data_type,
            "data_source": request.data_source,
            "parameters": request.parameters,
            **fields,
        }
    )
    return response.model_dump(mode="json")
