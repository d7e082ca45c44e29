"""The models' side of messaging: their requests come in, their results go out.

What a model asks for is forwarded to the data service; equal requests that are under way at the same time are merged
where they meet (see `_data_service` and `collector`): one fetch, every requester answered on its own topic.
"""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Dict, Optional

from balance.clock import Clock, iso
from balance.defaults import default
from balance.errors import BalanceError, Conflict, InvalidValue, MessageRejected, UnknownId
from balance.messaging.delivery import DeliveryPolicy, Message
from balance.messaging.enums import OperationType
from balance.messaging.kafka_service import KafkaService
from balance.messaging.schemas import parse_model_request, parse_response
from balance.messaging.topics import MODELS_REQUESTS_TOPIC, TopicManager
from balance.services._data_service import DataService
from balance.types import check_id

REQUESTS_GROUP = "balance-model-service"
#: Models that messages may register; a hostile sender can't fill the memory.
MAX_MODELS = 10_000
#: Answers of one model that are remembered, so that a redelivered one is handled once.
REMEMBERED_ANSWERS = 10_000

ResultHandler = Callable[[Dict[str, Any]], Optional[Awaitable[None]]]

logger = logging.getLogger(__name__)


class ModelService:
    """Registers models, takes their requests and brings them their results.

    Parameters
    ----------
    kafka_service : KafkaService, optional
        The connection; the data service's when left out.
    topic_manager : TopicManager, optional
        Creates topics; the data service's when left out.
    data_service : DataService, optional
        Where requests for data are forwarded to.
    clock : Clock, optional
        Dates registrations.

    Attributes
    ----------
    models_requests_topic : str
        Where models ask.
    registered_models : dict
        By model id: ``response_topic``, ``registered_at`` (ISO 8601).
    model_handlers : dict
        The handler of each model that has one.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> from balance.config import Settings
    >>> async def main(folder):
    ...     heard, done = [], asyncio.Event()
    ...     def handler(result):
    ...         heard.append(result["text"])
    ...         done.set()
    ...     service = ModelService(data_service=DataService(settings=Settings(state_dir=folder)))
    ...     await service.register_model("whisper", handler)
    ...     await service.forward_result_to_model("whisper", {"text": "hello"})
    ...     await done.wait()
    ...     await service.close()
    ...     return heard
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    ['hello']
    """

    def __init__(
        self,
        *,
        kafka_service: KafkaService | None = None,
        topic_manager: TopicManager | None = None,
        data_service: DataService | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.data_service = (
            data_service
            if data_service is not None
            else DataService(kafka_service=kafka_service, topic_manager=topic_manager, clock=clock)
        )
        self.kafka_service = kafka_service if kafka_service is not None else self.data_service.kafka_service
        self.topic_manager = topic_manager if topic_manager is not None else self.data_service.topic_manager
        self.models_requests_topic = MODELS_REQUESTS_TOPIC
        self.registered_models: Dict[str, Dict[str, Any]] = {}
        self.model_handlers: Dict[str, ResultHandler] = {}
        self._is_initialized = False
        self._clock: Clock = clock if clock is not None else default("clock")

    async def initialize(self) -> None:
        """Connect and make sure that the models' requests topic exists; a second call does nothing."""
        if self._is_initialized and self.kafka_service.is_connected:
            return
        await self.data_service.initialize()
        await self.kafka_service.connect()
        await self.topic_manager.ensure_topic(self.models_requests_topic)
        self._is_initialized = True

    async def close(self) -> None:
        """Forget the handlers and close the connection; safe to call twice."""
        self._is_initialized = False
        self.model_handlers.clear()
        await self.kafka_service.close()
        await self.data_service.close()

    async def register_model(self, model_id: str, handler: Optional[ResultHandler] = None) -> Dict[str, Any]:
        """Make a model known and, if it has a `handler`, bring it its results.

        Parameters
        ----------
        model_id : str
            Any id in any script.
        handler : callable, optional
            Called, and awaited if it is async, with each result as a dict.

        Returns
        -------
        dict
            ``status`` (``registered | already_registered``), ``model_id``, ``response_topic``.

        Raises
        ------
        Conflict
            The model has another handler already.
        """
        await self.initialize()
        is_known = check_id("model_id", model_id) in self.registered_models
        if handler is not None and self.model_handlers.get(model_id) is not handler:
            await self.subscribe_to_model_results(model_id, handler)
        topic = await self._register(model_id)
        status = "already_registered" if is_known else "registered"
        return {"status": status, "model_id": model_id, "response_topic": topic}

    async def unregister_model(self, model_id: str) -> Dict[str, Any]:
        """Forget a model and stop bringing it results; those that come meanwhile wait in its topic.

        Returns
        -------
        dict
            ``status`` (``unregistered``), ``model_id``.

        Raises
        ------
        UnknownId
            No such model is registered.
        """
        if model_id not in self.registered_models:
            raise UnknownId("model", model_id, self.registered_models)
        del self.registered_models[model_id]
        if self.model_handlers.pop(model_id, None) is not None:
            topic = self.topic_manager.results_topic(model_id)
            await self.kafka_service.unsubscribe(topic, topic)
        return {"status": "unregistered", "model_id": model_id}

    async def process_model_request(self, request_data: Dict[str, Any]) -> Dict[str, Any]:
        """Handle one request of a model (see `ModelRequest` for its fields).

        Returns
        -------
        dict
            What `DataService.request_data` returns and ``operation``; or ``status`` (``unsupported``), ``model_id``,
            ``operation``, ``reason`` for an operation that is not supported.

        Raises
        ------
        MessageRejected
            The request does not fit the schema, or too many models are registered.
        """
        asked = parse_model_request(request_data)
        await self.initialize()
        if asked.model_id not in self.registered_models:
            if len(self.registered_models) >= MAX_MODELS:
                raise MessageRejected(f"{MAX_MODELS} models are registered; unregister some", model_id=asked.model_id)
            await self._register(asked.model_id)
        if asked.operation is not OperationType.FETCH_DATA:
            reason = f"operation {asked.operation.value!r} is not supported; only fetch_data is"
            logger.warning("model_request.unsupported model_id=%s operation=%s", asked.model_id, asked.operation.value)
            return {
                "status": "unsupported",
                "model_id": asked.model_id,
                "operation": asked.operation.value,
                "reason": reason,
            }
        try:
            taken = await self.data_service.ask(asked)
        except (InvalidValue, Conflict) as error:
            raise MessageRejected(str(error), **error.details) from error
        return {**taken, "operation": asked.operation.value}

    async def subscribe_to_model_requests(self) -> None:
        """Handle what models put on their requests topic, as one of the consumers that share it."""
        await self.initialize()
        await self.kafka_service.subscribe(
            self.models_requests_topic, REQUESTS_GROUP, self._on_request, policy=DeliveryPolicy(concurrency=8)
        )

    async def subscribe_to_model_results(self, model_id: str, handler: ResultHandler) -> None:
        """Bring the results of one model to `handler`, each once in effect, in a consumer group of its own.

        Raises
        ------
        Conflict
            The model has a handler already.
        """
        await self.initialize()
        if not callable(handler):
            raise InvalidValue("handler", handler, "a callable that takes a result as a dict")
        if check_id("model_id", model_id) in self.model_handlers:
            raise Conflict(f"model {model_id!r} has a handler already; unregister the model first", model_id=model_id)
        topic = await self._register(model_id)
        await self.kafka_service.subscribe(topic, topic, _Results(handler, self.data_service).deliver)
        self.model_handlers[model_id] = handler

    async def forward_result_to_model(self, model_id: str, result_data: Dict[str, Any]) -> bool:
        """Put a result on the model's own topic; False if the broker did not take it.

        Raises
        ------
        UnknownId
            No such model is registered.
        InvalidValue
            The result is not JSON or is too large.
        """
        await self.initialize()
        if model_id not in self.registered_models:
            raise UnknownId("model", model_id, self.registered_models)
        topic = self.registered_models[model_id]["response_topic"]
        try:
            await self.kafka_service.send_message(topic, result_data)
        except InvalidValue:
            raise
        except BalanceError as error:
            logger.warning("model_result.not_sent model_id=%s error=%s", model_id, error)
            return False
        return True

    async def _register(self, model_id: str) -> str:
        topic = await self.topic_manager.ensure_results_topic(model_id)
        if model_id not in self.registered_models:
            self.registered_models[model_id] = {"response_topic": topic, "registered_at": iso(self._clock.wall())}
        return topic

    async def _on_request(self, message: Message) -> None:
        asked = parse_model_request(message.raw)
        # A request without an id gets its place as one, so that a redelivery is the same request.
        request_id = asked.request_id or f"{message.topic}-{message.partition}-{message.offset}"
        outcome = await self.process_model_request({**message.value, "request_id": request_id})
        if outcome["status"] == "unsupported":
            raise MessageRejected(outcome["reason"], model_id=asked.model_id)


class _Results:
    """Brings the messages of one results topic to one handler, without repeating answers."""

    def __init__(self, handler: ResultHandler, data_service: DataService) -> None:
        self._handler = handler
        self._data_service = data_service
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def deliver(self, message: Message) -> None:
        answer = self._answer_in(message)
        if answer is not None and answer in self._seen:
            return
        result = self._handler(message.value)
        if inspect.isawaitable(result):
            await result
        if answer is not None:
            self._seen[answer] = None
            while len(self._seen) > REMEMBERED_ANSWERS:
                self._seen.popitem(last=False)

    def _answer_in(self, message: Message) -> tuple[str, str] | None:
        """Return which answer this is (None: another kind of result), having learned from how long it took."""
        try:
            response = parse_response(message.raw)
        except MessageRejected:
            return None
        if response.status == "ok" and message.attempt == 1:
            self._data_service.record_latency(
                response.data_source, response.parameters, response.wait_s + response.fetch_s
            )
        return response.metadata.request_id, response.status
