"""The actor around `DataCoordinator`: it also starts the pool of collectors, and goes to the web and files for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import ray
from ray import cloudpickle

from actors.base import Shell, ask, call_id
from actors.collectors import pool_stats, start_pool, stop_pool
from actors.holds import Hold, Holds
from actors.placed_answers import PlacedAnswers
from actors.shelf import RayShelf
from balance.adapters.collect.collectors import open_clients
from balance.adapters.collect.web_page import WebPage
from balance.adapters.readers import Readers
from balance.client.wire import Function
from balance.core.coordinator import DataCoordinator
from balance.core.coordinator.datum import Allocated, Denied, Fetch, Waiting
from balance.core.coordinator.payload import Payload
from balance.errors import SourceUnavailable, UnknownId

READERS = "readers"
CLIENT = "client"

WEB_THREADS = 64
"""How many addresses are got at a time; most of them wait for their host's turn, or for what they read."""


class DataCoordinatorActor(Shell):
    """Collects data from its sources and keeps it in Ray's object store.

    Whoever holds this actor's handle may name any source; a message may ask for what was named, and for what the
    settings let the collectors reach.
    """

    role: ClassVar[str] = "data_coordinator"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.readers = Readers(settings=self.settings, trusted=True, clock=self.clock)
        for name, body in self.store.scan(READERS):
            with self.store.reading() as tx:
                self.readers.register(name, cloudpickle.loads(tx.tasks.functions([body["function"]])[body["function"]]))
        self.shelf = RayShelf(self.fence.epoch)
        self.holds = Holds(self.store, self.fence)
        self.data = DataCoordinator(
            readers=self.readers,
            placer=self.shelf,
            clock=self.clock,
            journal=self.holds,
            budget_bytes=self.settings.data_budget_bytes,
        )
        for hold in self.holds.of(self.role):
            self._leave(hold)  # of work that died with the last incarnation
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.counts: defaultdict[str, dict[str, int]] = defaultdict(
            lambda: {"requested": 0, "fetched": 0, "fetched_bytes": 0, "failed": 0}
        )
        self.web, self.stored, cache = open_clients(self.settings, self.clock)
        self.web_threads = ThreadPoolExecutor(WEB_THREADS, "web")
        self.answers = PlacedAnswers(data=self.data, readers=self.readers, cache=cache, place=self._place_for)
        self.collectors = start_pool(settings, self.settings.collectors)

    async def closed(self) -> None:
        """Stop collecting; what is in hand is answered first."""
        await stop_pool(self.collectors)
        self.web_threads.shutdown(wait=False)

    # -- for the collectors ------------------------------------------------------------------------

    async def web_get(self, url: str, within_s: float, options: dict[str, Any]) -> WebPage:
        """As `WebClient.get`, with the seconds that are left; it arrives, whatever becomes of who asked."""
        call = partial(self.web.get, url, deadline_s=self.clock.now() + within_s, **options)
        return await asyncio.get_running_loop().run_in_executor(self.web_threads, call)

    async def read_stored(self, kind: str, address: str, within_s: float, options: dict[str, Any]) -> WebPage:
        """As `StoreClient.file` or, where that is the kind, `StoreClient.rows`; otherwise as `web_get`."""
        read = {"file": self.stored.file, "rows": self.stored.rows}[kind]
        call = partial(read, address, deadline_s=self.clock.now() + within_s, **options)
        return await asyncio.get_running_loop().run_in_executor(self.web_threads, call)

    async def place_named(
        self, request_id: str, data_id: str, max_age_s: float | None, needed: bool
    ) -> dict[str, Any] | None:
        """Bring registered data within reach for a request; a name that is not registered is an error if it is needed.

        Returns
        -------
        dict or None
            ``location``, ``size_bytes``, ``digest``.
        """
        try:
            self.data.status(data_id)
        except UnknownId:
            if needed:
                raise
            return None
        return await self._place_for(request_id, data_id, max_age_s)

    async def place_collected(self, request_id: str, body: bytes) -> dict[str, Any]:
        """As `PlacedAnswers.put`."""
        return await self.answers.put(request_id, body)

    # -- for everybody -----------------------------------------------------------------------------

    async def register_data_source(self, data_id: str, size: int, source: str) -> None:
        """As `DataCoordinator.register_data_source`."""
        self.data.register_data_source(data_id, size, source)

    async def register_reader(self, name: str, function: Callable[..., Any]) -> None:
        """As `DataCoordinator.register_reader`; the function is kept for the next start."""
        known = self.store.get(READERS, name)
        packed = Function.of(function)
        if known is not None and known["function"] == packed.digest:
            return
        self.data.register_reader(name, function)

        def write(tx: Any) -> None:
            tx.tasks.put_functions({packed.digest: packed.blob})
            tx.put(READERS, name, {"function": packed.digest})

        await self.commit(write)

    async def allocate_data(self, data_id: str, max_age_s: float | None = None) -> dict[str, Any]:
        """As `DataCoordinator.allocate`; calls for what is being fetched wait for that one fetch."""
        return await self.hold_data(CLIENT, call_id(), data_id, max_age_s)

    @ray.method(max_task_retries=0)  # type: ignore[untyped-decorator]
    async def release_data(self, data_id: str) -> None:
        """As `DataCoordinator.release_data`."""
        hold = next((each for each in self.holds.of(CLIENT) if each.data_id == data_id), None)
        if hold is None:
            self.data.release_data(data_id)
        else:
            self._leave(hold)

    async def hold_data(self, holder: str, name: str, data_id: str, max_age_s: float | None = None) -> dict[str, Any]:
        """Allocate data for a named hold: the same hold again takes no second reference.

        Returns
        -------
        dict
            As `DataCoordinator.allocate_data`.
        """
        hold = Hold(holder, name, data_id)
        held = hold in self.holds
        outcome = await self._allocate(hold, None if held else max_age_s)
        if held and outcome["status"] == "allocated":
            self.data.release_data(data_id)  # what this call took beside what the hold has
        return outcome

    async def let_go(self, holder: str, name: str | None = None) -> int:
        """Give back one hold (on all that it is on), or every hold of a holder; return how many references went."""
        holds = self.holds.of(holder, name)
        for hold in holds:
            self._leave(hold)
        return len(holds)

    def _leave(self, hold: Hold) -> None:
        with self.holds.leaving(hold, self.data.status(hold.data_id)["references"] - 1):
            self.data.release_data(hold.data_id)

    async def _allocate(self, hold: Hold, max_age_s: float | None) -> dict[str, Any]:
        data_id = hold.data_id
        counts = self.counts[data_id]
        counts["requested"] += 1
        while True:
            with self._taking(hold):
                plan = self.data.plan_allocation(data_id, max_age_s=max_age_s)
            if isinstance(plan, Allocated | Denied):
                return plan.to_dict()
            if isinstance(plan, Waiting):
                await self._arrived[data_id].wait()
                continue
            self._arrived[data_id].clear()
            try:
                payload = await asyncio.to_thread(self._read, plan)
                counts["fetched"] += 1
                counts["fetched_bytes"] += payload.size_bytes
                denied = self.data.fetched(data_id, payload.size_bytes, payload.digest)
                if denied:
                    return denied.to_dict()
                location = self.shelf.put(data_id, payload)
                with self._taking(hold):
                    return self.data.placed(data_id, location).to_dict()
            except BaseException:
                counts["failed"] += 1
                self.data.fetch_failed(data_id)
                raise
            finally:
                self._arrived[data_id].set()

    def _taking(self, hold: Hold) -> contextlib.AbstractContextManager[None]:
        return self.holds.taking(hold, self.data.status(hold.data_id)["references"] + 1)

    def _read(self, plan: Fetch) -> Payload:
        """Read a source; a reader that exits ends the read, not this actor."""
        try:
            return self.readers.read(plan.source, plan.max_bytes)
        except SystemExit as error:
            raise SourceUnavailable(f"{plan.source} did not deliver (it exited with {error.code!r})") from error

    async def reference(self, location: str) -> list[Any]:
        """Return Ray's reference of what lies at a location, in a list (so that Ray does not fetch it here)."""
        return [self.shelf.reference(location)]

    async def synchronize_data(self, data_id: str, destination: str) -> dict[str, Any]:
        """As `DataCoordinator.synchronize_data`; the sync coordinator's actor does the copying."""
        known = self.data.status(data_id)
        sync_id = f"{data_id} -> {destination}"
        if self.readers.is_file(known["source"]):
            await ask(
                "sync_coordinator", "register_sync_task", sync_id, known["source"], destination, known["declared_bytes"]
            )
            outcome = await ask("sync_coordinator", "execute_sync", sync_id, patience_s=None)
        else:
            hold = Hold(self.role, sync_id, data_id)
            placed = await self.hold_data(*hold)
            if placed["status"] == "denied":
                return placed
            try:
                payload = await self.shelf.reference(placed["location"])
                outcome = await ask(
                    "sync_coordinator",
                    "write_content",
                    sync_id,
                    known["source"],
                    payload.data,
                    destination,
                    patience_s=None,
                )
            finally:
                self._leave(hold)
        return {"status": outcome["state"], "data_id": data_id, **outcome}

    async def list_data(self) -> list[dict[str, Any]]:
        """As `DataCoordinator.list_data`."""
        return self.data.list_data()

    async def status(self, data_id: str) -> dict[str, Any]:
        """As `DataCoordinator.status`."""
        return self.data.status(data_id)

    async def stats(self) -> dict[str, Any]:
        """Return ``counts`` by data id (requested, fetched, failed; bytes), ``usage`` (bytes), ``data`` by id.

        ``collected`` has what came of requests to the collectors since each of them started, by source:
        `Collectors.stats`.
        """
        return {
            "counts": {data_id: dict(counts) for data_id, counts in self.counts.items()},
            "usage": self.data.usage(),
            "collected": await pool_stats(self.collectors),
            "data": {
                entry["data_id"]: {"state": entry["state"], "size_bytes": entry["size_bytes"]}
                for entry in self.data.list_data()
            },
        }

    async def _place_for(self, request_id: str, data_id: str, max_age_s: float | None) -> dict[str, Any]:
        """Bring what a message asks for within reach, for the collector.

        The copy is not held for the requester: whoever uses it allocates it, and finds it in place.
        """
        hold = Hold(self.role, request_id, data_id)
        outcome = await self.hold_data(*hold, max_age_s=max_age_s)
        if outcome["status"] != "allocated":
            raise SourceUnavailable(f"data {data_id!r} can't be placed: {outcome['reason']}")
        self._leave(hold)
        return {
            "location": outcome["location"],
            "size_bytes": outcome["size_bytes"],
            "digest": outcome["digest"],
        }
