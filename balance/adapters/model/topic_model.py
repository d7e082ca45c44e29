"""A model that reads its requests from a topic, and answers on the asker's.

A request lies on the model's topic as ``{schema_version, model_id, correlation_id, reply_to, request}``; the answer
goes to the topic in ``reply_to`` as a JSON object with the same ``correlation_id``, and otherwise as
`ModelResponses.format_response` takes it.  Delivery is at least once: a model may see a request twice, and answers
that nobody waits for (any more) are counted and dropped.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import TYPE_CHECKING, Any, Dict

from balance.adapters.loop_thread import LoopThread
from balance.adapters.model.responses import ModelResponses, answered
from balance.defaults import default
from balance.errors import Conflict, InvalidValue, MessageRejected
from balance.interfaces.model import ModelInterface, RequestHandler, ResponseHandler
from balance.messaging import Broker, KafkaService, Message, TopicManager, results_topic
from balance.messaging.topics import RESULTS_PREFIX
from balance.types import check_id, check_number

if TYPE_CHECKING:
    from balance.clock import Clock
    from balance.config import Settings

REQUESTS_PREFIX = "balance.requests."
REPLIES_PREFIX = "balance.replies."


def requests_topic(model_id: str) -> str:
    """Return the name of the topic from which a model reads its requests.

    Examples
    --------
    >>> requests_topic("Whisper v3")
    'balance.requests.whisper-v3-abd9f9ca44da021bb683a4fdb041f2fd'
    """
    return REQUESTS_PREFIX + results_topic(model_id).removeprefix(RESULTS_PREFIX)


class TopicModel(ModelInterface):
    """Publishes requests and matches answers by their correlation id; usable from several threads.

    Parameters
    ----------
    name : str, optional
        Who asks.  Each asker has a replies topic by its name; one that is made up where left out leaves its topic
        behind.  Two processes at a time must not have the same.
    timeout_s : float, default 60
        How long an answer is waited for.
    requests : RequestHandler, optional
        Makes requests ready; they go as they are where left out.
    responses : ResponseHandler, optional
        Formats and logs answers.
    broker, settings, clock : optional
        As `balance.messaging.KafkaService` takes them.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        timeout_s: float = 60.0,
        requests: RequestHandler | None = None,
        responses: ResponseHandler | None = None,
        broker: Broker | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        asker = check_id("name", uuid.uuid4().hex if name is None else name)
        self.replies_topic = REPLIES_PREFIX + results_topic(asker).removeprefix(RESULTS_PREFIX)
        self.unexpected = 0
        self._timeout_s = check_number("timeout_s", timeout_s, minimum=0)
        self._requests = requests
        self._responses = responses or ModelResponses()
        self._clock: Clock = clock or default("clock")
        self._service = KafkaService(broker=broker, settings=settings, clock=clock)
        self._topics = TopicManager(kafka_service=self._service)
        self._loop = LoopThread(name="balance-topic-model")
        self._opening: asyncio.Lock | None = None
        self._is_open = False
        self._lock = threading.Lock()
        self._closed = False
        self._waiting: dict[str, tuple[str, asyncio.Future[dict[str, Any]]]] = {}

    def __enter__(self) -> TopicModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the broker; who still waits gets `NotReady`.  Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._loop.run(self._service.close())
        finally:
            self._loop.close()

    def send_request(self, model_id: str, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Publish a request and wait for its answer.

        Returns
        -------
        dict
            As `ModelResponses.format_response`; ``status`` is ``pending`` where no answer came within ``timeout_s``:
            the request lies on its topic and will be handled.

        Raises
        ------
        InvalidValue
            The request is no dict of JSON values, or too large.
        Conflict
            An answer to the same ``request_id`` is waited for already.
        """
        check_id("model_id", model_id)
        if not isinstance(request_data, dict):
            raise InvalidValue("request_data", request_data, "a dict of JSON values")
        fields = self._requests.preprocess_request(request_data) if self._requests else dict(request_data)
        request_id = check_id("request_id", fields.get("request_id") or uuid.uuid4().hex)
        began = self._clock.now()
        said = self._loop.run(self._asked(model_id, request_id, {**fields, "request_id": request_id}))
        elapsed_s = self._clock.now() - began
        return answered(self._responses, model_id, request_id, {"elapsed_s": elapsed_s, **said})

    def receive_response(self, model_id: str, response_data: Dict[str, Any]) -> None:
        """Take an answer that came by another way: it goes to who waits for its ``correlation_id``.

        Raises
        ------
        InvalidValue
            It has no ``correlation_id``.
        """
        check_id("model_id", model_id)
        if not isinstance(response_data, dict):
            raise InvalidValue("response_data", response_data, "a dict of JSON values")
        correlation_id = check_id("correlation_id", response_data.get("correlation_id"))

        async def taken() -> None:
            self._take(correlation_id, response_data, model_id)

        self._loop.run(taken())

    async def _asked(self, model_id: str, request_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        if request_id in self._waiting:
            raise Conflict(f"an answer to {request_id!r} is waited for already", request_id=request_id)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (model_id, answer)
        try:
            await self._open()
            topic = await self._topics.ensure_topic(requests_topic(model_id))
            message = {
                "schema_version": 1,
                "model_id": model_id,
                "correlation_id": request_id,
                "reply_to": self.replies_topic,
                "request": fields,
            }
            await self._service.send_message(topic, message, key=request_id)
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            return {"status": "pending"}
        finally:
            del self._waiting[request_id]

    async def _open(self) -> None:
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if not self._is_open:
                await self._service.connect()
                await self._topics.ensure_topic(self.replies_topic)
                await self._service.subscribe(self.replies_topic, self.replies_topic, self._on_reply)
                self._is_open = True

    async def _on_reply(self, message: Message) -> None:
        correlation_id = message.value.get("correlation_id")
        if not isinstance(correlation_id, str):
            raise MessageRejected("an answer has no correlation_id")
        self._take(correlation_id, message.value)

    def _take(self, correlation_id: str, said: dict[str, Any], model_id: str | None = None) -> None:
        asked, answer = self._waiting.get(correlation_id, (None, None))
        if answer is None or answer.done() or (model_id is not None and model_id != asked):
            self.unexpected += 1
            return
        answer.set_result({name: value for name, value in said.items() if name not in ("correlation_id", "reply_to")})
