"""The whole messaging system behind one object: data, models, events and metrics."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Dict, Optional, Union

from balance.clock import Clock, iso
from balance.defaults import default
from balance.errors import BalanceError, InvalidValue
from balance.messaging.enums import DataSource, DataType, Priority, RequestSource
from balance.messaging.kafka_service import KafkaService
from balance.messaging.topics import BALANCE_EVENTS_TOPIC, BALANCE_METRICS_TOPIC, TopicManager
from balance.services._data_service import DataService
from balance.services._model_service import ModelService, ResultHandler
from balance.types import check_id

logger = logging.getLogger(__name__)


class MessagingService:
    """Starts, runs and stops messaging; what a process that wants all of it uses.

    Parameters
    ----------
    kafka_service : KafkaService, optional
        The connection; the data service's when left out.
    topic_manager : TopicManager, optional
        Creates topics; the data service's when left out.
    data_service : DataService, optional
        Asks for data.
    model_service : ModelService, optional
        Registers models.
    clock : Clock, optional
        Dates events and metrics.

    Examples
    --------
    >>> import tempfile
    >>> from balance.config import Settings
    >>> async def main(folder):
    ...     service = MessagingService(data_service=DataService(settings=Settings(state_dir=folder)))
    ...     running = asyncio.create_task(service.run())
    ...     published = await service.publish_event("started", {"models": 3})
    ...     await service.shutdown()
    ...     await running
    ...     return published
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    True
    """

    def __init__(
        self,
        *,
        kafka_service: KafkaService | None = None,
        topic_manager: TopicManager | None = None,
        data_service: DataService | None = None,
        model_service: ModelService | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.data_service = (
            data_service
            if data_service is not None
            else DataService(kafka_service=kafka_service, topic_manager=topic_manager, clock=clock)
        )
        self.model_service = (
            model_service if model_service is not None else ModelService(data_service=self.data_service, clock=clock)
        )
        self.kafka_service = kafka_service if kafka_service is not None else self.data_service.kafka_service
        self.topic_manager = topic_manager if topic_manager is not None else self.data_service.topic_manager
        self._is_initialized = False
        self._shutdown_event = asyncio.Event()
        self._clock: Clock = clock if clock is not None else default("clock")

    async def initialize(self) -> None:
        """Connect and make sure that every shared topic exists; a second call does nothing."""
        if self._is_initialized and self.kafka_service.is_connected:
            return
        await self.kafka_service.connect()
        await self.topic_manager.ensure_shared_topics()
        await self.data_service.initialize()
        await self.model_service.initialize()
        self._shutdown_event = asyncio.Event()  # a new one: the last run may have been in another event loop
        self._is_initialized = True

    async def register_model(self, model_id: str, handler: Optional[ResultHandler] = None) -> Dict[str, Any]:
        """Make a model known; see `ModelService.register_model`, which this returns."""
        await self.initialize()
        return await self.model_service.register_model(model_id, handler)

    async def request_data(  # noqa: PLR0917 (the contract's signature)
        self,
        model_id: str,
        query: str,
        data_type: Union[DataType, str] = DataType.TEXT,
        source_type: Union[DataSource, str] = DataSource.WEB,
        priority: Union[Priority, int, str] = Priority.MEDIUM,
        request_source: Union[RequestSource, str] = RequestSource.USER,
        **params: Any,
    ) -> Dict[str, Any]:
        """Register the model if it is new, then ask for data; see `DataService.request_data`, which this returns."""
        await self.register_model(model_id)
        return await self.data_service.request_data(
            model_id, query, data_type, source_type, priority, request_source, **params
        )

    async def publish_event(self, event_type: str, event_data: Dict[str, Any]) -> bool:
        """Publish that something happened; False if the broker did not take it.

        The message has ``schema_version`` (1), ``event_type``, ``timestamp`` (ISO 8601) and ``data``.

        Raises
        ------
        InvalidValue
            The type is empty, or the data are no JSON values.
        """
        return await self._publish(BALANCE_EVENTS_TOPIC, "event_type", event_type, event_data)

    async def publish_metric(self, metric_name: str, metric_data: Dict[str, Any]) -> bool:
        """Publish a measurement; False if the broker did not take it.

        The message has ``schema_version`` (1), ``metric_name``, ``timestamp`` (ISO 8601) and ``data``.

        Raises
        ------
        InvalidValue
            The name is empty, or the data are no JSON values.
        """
        return await self._publish(BALANCE_METRICS_TOPIC, "metric_name", metric_name, metric_data)

    async def run(self) -> None:
        """Handle the models' requests until `shutdown` is called or the task is cancelled; both end gracefully."""
        await self.initialize()
        stopped = self._shutdown_event
        await self.model_service.subscribe_to_model_requests()
        try:
            await stopped.wait()
        finally:
            await self.shutdown()

    async def shutdown(self) -> None:
        """Let running handlers finish, commit what was handled, disconnect; safe to call twice."""
        self._is_initialized = False
        self._shutdown_event.set()
        await self.model_service.close()
        await self.data_service.close()
        await self.kafka_service.close()

    def _get_timestamp(self) -> str:
        """Return the time as ISO 8601 in UTC."""
        return iso(self._clock.wall())

    async def _publish(self, topic: str, kind: str, name: str, data: Dict[str, Any]) -> bool:
        check_id(kind, name)
        if not isinstance(data, dict):
            raise InvalidValue("data", data, "a dict of JSON values")
        message = {"schema_version": 1, kind: name, "timestamp": self._get_timestamp(), "data": data}
        try:
            await self.initialize()
            await self.kafka_service.send_message(topic, message, key=name)
        except InvalidValue:
            raise
        except BalanceError as error:
            logger.warning("publish.failed topic=%s %s=%s error=%s", topic, kind, name, error)
            return False
        return True
