"""What is read of tasks that the engine has forgotten: the journal, from the side of those who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from balance.core.scheduler.task import TaskImage


class Archive(Protocol):
    """The tasks on disk; `actors.task_journal.TaskJournal` is the one of a cluster."""

    def calls_of(self, ids: Sequence[str]) -> dict[str, tuple[str | None, bytes | None]]:
        """Return, for those of these tasks that are on disk, the hash of the function and the pickled arguments."""
        ...

    def find_all(self, ids: Sequence[str]) -> list[TaskImage]:
        """Return those of these tasks that are on disk; those that are completed with their results."""
        ...

    async def durable(self) -> None:
        """Return when everything recorded so far is on disk."""
        ...


async def read(archive: Archive, ids: Sequence[str]) -> dict[str, TaskImage]:
    """Return those of these tasks that there are, by id; read beside the event loop, once all is on disk."""
    if not ids:
        return {}
    await archive.durable()
    return {image.task_id: image for image in await asyncio.to_thread(archive.find_all, ids)}
