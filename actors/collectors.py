"""The pool of collectors: what answers the data requests of the topics.

Each is an actor by name that Ray restarts; together they are one consumer group, so the partitions are spread over
them, and those of one that dies are taken over.  None of them goes to the web, to files or to databases itself: one
process does for all (`ActorWeb`), so that politeness and "never twice" hold for the pool.  What became of a request
lies in the database, where each of them finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import NAMESPACE
from actors.base import Shell, ask, peer
from actors.gathering import Gathering
from balance.adapters.actor_broker import ActorBroker
from balance.adapters.actor_web import ActorWeb
from balance.adapters.collect.collectors import Collectors
from balance.errors import BalanceError
from balance.messaging import KafkaService
from balance.services.collector import POLICY, Collector
from balance.services.outcomes import OutcomeMemory

PREFIX = "collector-"
"""What the names of these actors begin with."""

PARTITIONS_MAX = 8
"""Of the topic of data requests: more collectors than that have nothing to do."""

MEASURED_MAX = 1_000
TELL_EVERY_S = 1.0
"""How often, and of how many answers at most, the messaging actor hears how long they took."""

CLOSE_S = 3.0
"""How long the pool may take to finish what is in hand."""


class CollectorActor(Shell):
    """Answers data requests, as one of the pool.

    Parameters
    ----------
    settings : dict
        As of `Shell`.
    name : str
        Its own name: `PREFIX` and a number.
    """

    role: ClassVar[str] = "collector"

    def __init__(self, settings: dict[str, Any], name: str) -> None:
        super().__init__(settings, name)
        web = ActorWeb(peer("data_coordinator"), self.clock, asyncio.get_running_loop())
        self.collectors = Collectors(settings=self.settings, clock=self.clock, web=web, stored=web)
        # As many threads as requests may be under way: they wait, for the most part.
        self.threads = ThreadPoolExecutor(POLICY.concurrency * PARTITIONS_MAX, "collect")
        self.gathering = Gathering(
            collect=self._collect, named=self._named, put=self._put, sources=self.collectors.sources
        )
        self.kafka = KafkaService(broker=ActorBroker(peer("messaging"), (name, self.fence.epoch)), clock=self.clock)
        self.collector = Collector(
            kafka_service=self.kafka,
            fetch=self.gathering.fetch,
            outcomes=OutcomeMemory(store=self.store, commits=self.commits),
            clock=self.clock,
            sources=self.gathering.sources,
            observe=self._observe,
        )
        self.measured: deque[tuple[str, dict[str, Any], float]] = deque(maxlen=MEASURED_MAX)
        self.spawn(self._serve())

    async def _serve(self) -> None:
        await self.kafka.connect()
        await self.insist(self.collector.start)
        await self.every(TELL_EVERY_S, self._tell)

    def _observe(self, source: str, parameters: dict[str, Any], seconds: float) -> None:
        self.measured.append((str(source), {"url": True} if "url" in parameters else {}, seconds))

    async def _tell(self) -> None:
        """Tell those who estimate how long requests take how long these took."""
        if self.measured:
            measured = list(self.measured)
            self.measured.clear()
            await ask("messaging", "learn_latencies", measured)

    async def _collect(self, *asked: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, self.collectors.collect, *asked)

    async def _named(
        self, request_id: str, data_id: str, max_age_s: float | None, needed: bool
    ) -> dict[str, Any] | None:
        return await _from_data("place_named", request_id, data_id, max_age_s, needed)

    async def _put(self, request_id: str, body: bytes) -> dict[str, Any]:
        placed = await _from_data("place_collected", request_id, body)
        assert placed is not None
        return placed

    async def closed(self) -> None:
        """Take no more requests; what is in hand is answered first."""
        await self.collector.stop()
        await self.kafka.close()
        self.threads.shutdown(wait=False)

    async def stats(self) -> dict[str, Any]:
        """Return ``collected`` (see `Collectors.stats`), ``fetched`` and ``merged`` (requests), ``counters``.

        ``partitions`` are those of the requests topic that are its own now.
        """
        subscriptions = (await self.kafka.health())["subscriptions"]
        return {
            "partitions": [number for each in subscriptions for number in each["partitions"]],
            "collected": self.collectors.stats(),
            "fetched": self.collector.fetched,
            "merged": self.collector.merged,
            "counters": self.kafka.counters.to_dict(),
        }


async def _from_data(method: str, *args: Any) -> dict[str, Any] | None:
    """Ask the data coordinator; its errors come as they were raised there, since requesters read them."""
    try:
        found: dict[str, Any] | None = await ask("data_coordinator", method, *args, patience_s=None)
    except RayTaskError as error:
        if isinstance(error.cause, BalanceError):
            raise error.cause from None
        raise
    return found


def start_pool(settings: dict[str, Any], count: int) -> list[Any]:
    """Start the collectors that do not run yet, on this node; return the handles of all."""
    where = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_concurrency": 1_000,
        "get_if_exists": True,
        "scheduling_strategy": where,
    }
    names = [f"{PREFIX}{number}" for number in range(1, count + 1)]
    return [ray.remote(CollectorActor).options(name=name, **options).remote(settings, name) for name in names]


async def stop_pool(handles: list[Any]) -> None:
    """Let the collectors finish what is in hand, for a moment; what they do not finish comes again."""
    calls = [asyncio.ensure_future(handle.close.remote()) for handle in handles]
    if calls:
        await asyncio.wait(calls, timeout=CLOSE_S)
        for call in calls:
            call.cancel()


async def pool_stats(handles: list[Any], patience_s: float = 2.0) -> dict[str, dict[str, int]]:
    """Return what came of requests, by source, added up; a collector that does not answer in time is left out."""

    async def one(handle: Any) -> dict[str, dict[str, int]]:
        with contextlib.suppress(Exception):
            answer: dict[str, Any] = await asyncio.wait_for(handle.stats.remote(), patience_s)
            return dict(answer["collected"])
        return {}

    total: dict[str, dict[str, int]] = {}
    for collected in await asyncio.gather(*(one(handle) for handle in handles)):
        for source, counts in collected.items():
            sums = total.setdefault(source, {})
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
    return dict(sorted(total.items()))
