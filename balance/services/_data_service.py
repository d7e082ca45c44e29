"""Requests for data, from a call to a message on `DATA_REQUESTS_TOPIC`.

A request is keyed by what it asks for (`RequestMerger.key_of`), so equal requests lie in one partition, meet in one
collector and are fetched once, whoever asked; each keeps its own id and its own results topic.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Any, Dict, List, Optional, Union
from urllib.parse import urlsplit

from balance.batch.processor.request_merger import RequestMerger
from balance.clock import Clock, iso
from balance.config import Settings
from balance.defaults import default
from balance.errors import BalanceError, Conflict, InvalidValue
from balance.messaging.enums import DataSource, DataType, Priority, RequestSource, parse_enum, parse_priority
from balance.messaging.kafka_service import KafkaService
from balance.messaging.schemas import DataRequest, ModelRequest, create_data_request
from balance.messaging.topics import DATA_REQUESTS_TOPIC, TopicManager, results_topic
from balance.services.acknowledgement import Acknowledgement
from balance.services.latency import LatencyEstimator
from balance.types import check_id

#: Request ids that are remembered, so that sending one again sends nothing.
REMEMBERED_IDS = 10_000
MAX_BATCH = 1_000

#: Parameters of `DataService.request_data` that belong to the message, not to the source.
_ENVELOPE = frozenset({"request_id", "correlation_id", "trace_id", "ttl_s", "response_topic"})


class DataService:
    """Asks for data on behalf of models.

    Parameters
    ----------
    kafka_service : KafkaService, optional
        The connection; one on the broker of the settings when left out.
    topic_manager : TopicManager, optional
        Creates topics; one on that connection when left out.
    clock : Clock, optional
        Dates requests.
    settings : Settings, optional
        Where the broker is and which language WIKI requests get; read from the environment by `initialize`.

    Attributes
    ----------
    request_topic : str
        Where requests go.
    request_counter : int
        How many were sent.

    Examples
    --------
    >>> import tempfile
    >>> async def main(folder):
    ...     service = DataService(settings=Settings(state_dir=folder))
    ...     taken = await service.request_data("whisper", "تهران", source_type="wiki", request_id="r-1")
    ...     await service.close()
    ...     return taken["status"], taken["request_id"], taken["estimated_time"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    ('sent', 'r-1', 2.0)
    """

    def __init__(
        self,
        *,
        kafka_service: KafkaService | None = None,
        topic_manager: TopicManager | None = None,
        clock: Clock | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.kafka_service = kafka_service if kafka_service is not None else KafkaService(settings=settings)
        self.topic_manager = (
            topic_manager if topic_manager is not None else TopicManager(kafka_service=self.kafka_service)
        )
        self.request_topic = DATA_REQUESTS_TOPIC
        self.request_counter = 0
        self._is_initialized = False
        self._clock: Clock = clock if clock is not None else default("clock")
        self._settings = settings
        self._merger = RequestMerger()
        self._latency = LatencyEstimator()
        self._sent: OrderedDict[str, tuple[str, Acknowledgement]] = OrderedDict()

    async def initialize(self) -> None:
        """Connect to the broker and make sure that the requests topic exists; a second call does nothing."""
        if self._is_initialized and self.kafka_service.is_connected:
            return
        if self._settings is None:
            self._settings = Settings.from_env()
        await self.kafka_service.connect()
        await self.topic_manager.ensure_topic(self.request_topic)
        self._is_initialized = True

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._is_initialized = False
        await self.kafka_service.close()

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
        """Ask for data; the answer comes on the model's results topic.

        Parameters
        ----------
        model_id : str
            For whom.
        query : str
            What to look for; for WEB a URL or a search term.
        data_type, source_type, request_source : enum or str
            What kind, from where, who asks.
        priority : int or str
            1 CRITICAL to 5 BACKGROUND, or the name.
        **params
            ``request_id`` (the same id is sent once), ``correlation_id``, ``trace_id``, ``ttl_s`` (seconds) and
            ``response_topic`` (another results topic) are the message's; everything else is the source's.

        Returns
        -------
        dict
            ``status`` (``sent | duplicate``), ``request_id``, ``timestamp`` (ISO 8601), ``model_id``, ``data_type``,
            ``source_type``, ``response_topic``, ``estimated_time`` (seconds).

        Raises
        ------
        InvalidValue
            A value does not fit; nothing was sent.
        Conflict
            The request id was used for another request.
        StorageError
            The broker could not keep the request.
        """
        check_id("model_id", model_id)
        request = await self._build(
            model_id,
            query,
            parse_enum(DataType, "data_type", data_type),
            parse_enum(DataSource, "source_type", source_type),
            parameters={name: value for name, value in params.items() if name not in _ENVELOPE},
            priority=parse_priority(priority),
            request_source=parse_enum(RequestSource, "request_source", request_source),
            **{name: params[name] for name in sorted(_ENVELOPE & params.keys())},
        )
        return (await self._send(request)).to_dict()

    async def ask(self, asked: ModelRequest) -> Dict[str, Any]:
        """Ask for what a model's message asks for; returns and raises as `request_data` does."""
        request = await self._build(
            asked.model_id,
            asked.query,
            asked.data_type,
            asked.source_type,
            parameters=asked.parameters,
            priority=asked.priority,
            request_source=asked.request_source,
            operation=asked.operation,
            **{name: getattr(asked, name) for name in sorted(_ENVELOPE)},
        )
        return (await self._send(request)).to_dict()

    async def request_batch(self, model_id: str, queries: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Ask for many things at once; one bad query fails alone.

        Parameters
        ----------
        model_id : str
            For whom.
        queries : list of dict
            Each with ``query`` and any other argument of `request_data`; at most 1,000.

        Returns
        -------
        list of dict
            In the order of `queries`: what `request_data` returns, or ``status`` (``error``), ``error`` (the error's
            class), ``message``, ``details`` and ``query``.

        Raises
        ------
        InvalidValue
            `queries` is no list, or too long.
        """
        check_id("model_id", model_id)
        if not isinstance(queries, list) or len(queries) > MAX_BATCH:
            raise InvalidValue("queries", queries, f"a list of at most {MAX_BATCH} dicts")
        await self.initialize()
        return list(await asyncio.gather(*(self._request_one(model_id, query) for query in queries)))

    def record_latency(self, source_type: Union[DataSource, str], parameters: Dict[str, Any], seconds: float) -> None:
        """Learn that a request to this source was answered after `seconds`."""
        self._latency.observe(parse_enum(DataSource, "source_type", source_type), parameters, seconds)

    def _estimate_processing_time(self, source_type: Union[DataSource, str], parameters: Dict[str, Any]) -> float:
        """Return how long a request will probably take, in seconds: a guess by source until enough were measured."""
        return self._latency.estimate_s(parse_enum(DataSource, "source_type", source_type), parameters)

    async def _request_one(self, model_id: str, query: Dict[str, Any]) -> Dict[str, Any]:
        try:
            if not isinstance(query, dict) or "query" not in query:
                raise InvalidValue("queries", query, "dicts that have a 'query'")
            if "model_id" in query:
                raise InvalidValue("queries", query, "dicts without 'model_id': the batch has one")
            return await self.request_data(model_id, **query)
        except (BalanceError, TypeError) as error:
            reason = error if isinstance(error, BalanceError) else InvalidValue("queries", query, "names of arguments")
            return {"status": "error", **reason.to_dict(), "query": str(query)[:500]}

    async def _build(
        self,
        model_id: str,
        query: str,
        data_type: DataType,
        source: DataSource,
        *,
        parameters: Dict[str, Any],
        response_topic: Optional[str] = None,
        **rest: Any,
    ) -> DataRequest:
        await self.initialize()
        assert self._settings is not None
        return create_data_request(
            model_id,
            query,
            data_type,
            source,
            response_topic=response_topic if response_topic is not None else results_topic(model_id),
            now_s=self._clock.wall(),
            parameters=source_parameters(source, query, parameters, wiki_language=self._settings.wiki_language),
            **rest,
        )

    async def _send(self, request: DataRequest) -> Acknowledgement:
        request_id = request.metadata.request_id
        key = self._merger.key_of(request.content)
        known = self._sent.get(request_id)
        if known is not None:
            if known[0] != key:
                raise Conflict(f"request id {request_id!r} stands for another request already", request_id=request_id)
            return replace(known[1], status="duplicate")
        taken = Acknowledgement(
            status="sent",
            request_id=request_id,
            timestamp=iso(request.metadata.created_at.timestamp()),
            model_id=request.model_id,
            data_type=request.data_type.value,
            source_type=request.data_source.value,
            response_topic=request.response_topic,
            estimated_time=self._estimate_processing_time(request.data_source, request.parameters),
        )
        self._sent[request_id] = (key, taken)
        try:
            await self.topic_manager.ensure_topic(request.response_topic)
            await self.kafka_service.send_message(self.request_topic, request, key=key)
        except BaseException:
            self._sent.pop(request_id, None)  # not sent, so it may be tried again
            raise
        self.request_counter += 1
        while len(self._sent) > REMEMBERED_IDS:
            self._sent.popitem(last=False)
        return taken


def source_parameters(
    source: DataSource, query: str, given: Dict[str, Any], *, wiki_language: str = "fa"
) -> Dict[str, Any]:
    """Return what the source needs to know beside the query; what was given stays as it is.

    Examples
    --------
    >>> source_parameters(DataSource.WIKI, "Tehran", {})
    {'language': 'fa'}
    >>> source_parameters(DataSource.WEB, "https://example.org/a", {"depth": 1})
    {'url': 'https://example.org/a', 'depth': 1}
    >>> source_parameters(DataSource.WEB, "Persian cats", {})
    {'search_term': 'Persian cats'}
    """
    needed: Dict[str, Any] = {}
    if source is DataSource.WIKI:
        needed["language"] = wiki_language
    elif source is DataSource.WEB and not {"url", "search_term"} & given.keys():
        needed["url" if _is_url(query) else "search_term"] = query.strip() if isinstance(query, str) else query
    return {**needed, **given}


def _is_url(query: object) -> bool:
    try:
        parts = urlsplit(query.strip()) if isinstance(query, str) else None
    except ValueError:  # "http://[" looks like an address and is none
        return False
    return parts is not None and parts.scheme.lower() in {"http", "https"} and bool(parts.netloc)
