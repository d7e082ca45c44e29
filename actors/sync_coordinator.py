"""The actor around `SyncManager`: copies run in threads, their progress can be read meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from actors.base import Shell
from balance.core.coordinator import SyncManager
from balance.core.coordinator.ports import CopyReport, Progress
from balance.defaults import default
from balance.errors import BalanceError
from balance.storage import StoreJournal


class SyncCoordinatorActor(Shell):
    """Copies data from any place to any other and verifies it."""

    role: ClassVar[str] = "sync_coordinator"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.copier = default("copier")
        self.manager = SyncManager(copier=self.copier, clock=self.clock, journal=StoreJournal(self.store, self.fence))

    async def register_sync_task(self, sync_id: str, source: str, destination: str, size: int) -> None:
        """As `SyncManager.register_sync_task`."""
        self.manager.register_sync_task(sync_id, source, destination, size)

    async def execute_sync(self, sync_id: str) -> dict[str, Any]:
        """As `SyncManager.execute_sync`; several run beside each other."""
        task = self.manager.begin(sync_id)
        return await self._run(sync_id, lambda report: self.copier.copy(task.source, task.destination, report))

    async def write_content(self, sync_id: str, source: str, content: bytes, destination: str) -> dict[str, Any]:
        """As `SyncManager.write_content`."""
        self.manager.register_content(sync_id, source, len(content), destination)
        self.manager.begin(sync_id)
        return await self._run(sync_id, lambda report: self.copier.write(content, destination, report))

    async def _run(self, sync_id: str, copy: Callable[[Progress], CopyReport]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def report(done: int, total: int) -> None:
            loop.call_soon_threadsafe(self.manager.progressed, sync_id, done, total)

        try:
            outcome = await asyncio.to_thread(copy, report)
        except BalanceError as error:
            return self.manager.failed(sync_id, error)
        except BaseException as error:
            self.manager.failed(sync_id, error)
            raise
        return self.manager.finished(sync_id, outcome)

    async def get_sync_status(self, sync_id: str) -> dict[str, Any]:
        """As `SyncManager.get_sync_status`."""
        return self.manager.get_sync_status(sync_id)

    async def stats(self) -> dict[str, Any]:
        """Return ``syncs``: every task's status; ``counts``: what came of the runs (`SyncManager.counts`)."""
        return {"syncs": self.manager.list_sync_tasks(), "counts": self.manager.counts()}
