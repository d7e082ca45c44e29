"""The actor around `ModelCoordinator`: it asks the allocator's actor and remembers in the store."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

from actors.base import Shell, ask
from balance.core.coordinator import ModelCoordinator
from balance.storage import StoreJournal
from balance.types import check_int


class ModelCoordinatorActor(Shell):
    """Registers models and reserves resources for them."""

    role: ClassVar[str] = "model_coordinator"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.models = ModelCoordinator(clock=self.clock, journal=StoreJournal(self.store, self.fence))
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.spawn(self.insist(self.reassert))

    async def reassert(self) -> None:
        """Ask anew for what each model holds: after a restart, and when the allocator has lost some with a node.

        What was asked for by a call that never ended is given back.
        """
        for model in self.models.list_models():
            model_id = model["model_id"]
            async with self._turns[model_id]:
                held = self.models.held(model_id)
                if held is None:
                    await ask("resource_allocator", "reserve", reservation_of(model_id), model["demand"], 0)
                    continue
                answer = await self._reserve(model_id, held["demand"], held["replicas"])
                lost = held["replicas"] - answer["replicas"]
                if lost:
                    self.log.warning("event=replicas_lost model=%s count=%d", model_id, lost)

    async def register_model(self, model_id: str, cpu_demand: float, memory_demand: float, priority: int = 1) -> None:
        """As `ModelCoordinator.register_model`."""
        self.models.register_model(model_id, cpu_demand, memory_demand, priority)

    async def update_model(self, model_id: str, **changes: Any) -> dict[str, Any]:
        """As `ModelCoordinator.update_model`."""
        return self.models.update_model(model_id, **changes)

    async def allocate_resources_for_model(self, model_id: str) -> dict[str, Any]:
        """As `ModelCoordinator.allocate_resources_for_model`."""
        held = self.models.held(model_id)
        return held if held is not None else await self.scale_model(model_id, 1)

    async def release_resources(self, model_id: str) -> None:
        """As `ModelCoordinator.release_resources`."""
        await self.scale_model(model_id, 0)

    async def scale_model(self, model_id: str, replicas: int) -> dict[str, Any]:
        """Reserve what so many replicas of a model need, on as many nodes as it takes; 0 releases it.

        Returns
        -------
        dict
            As `ResourceAllocator.reserve`: ``status``, ``replicas`` (for how many the model holds resources now) and
            ``nodes``.  Where there is room for some of them, ``status`` is ``denied`` and those are ``held``.
        """
        async with self._turns[model_id]:
            demand = self.models.record(model_id).demand.to_dict()
            return await self._reserve(model_id, demand, check_int("replicas", replicas, minimum=0))

    async def _reserve(self, model_id: str, demand: Mapping[str, Any], replicas: int) -> dict[str, Any]:
        answer = await ask("resource_allocator", "reserve", reservation_of(model_id), demand, replicas)
        if answer["status"] == "released":
            self.models.released(model_id)
            return dict(answer)
        return self.models.granted(model_id, answer)

    async def get_model_status(self, model_id: str) -> dict[str, Any]:
        """As `ModelCoordinator.get_model_status`."""
        return self.models.get_model_status(model_id)

    async def list_models(self) -> list[dict[str, Any]]:
        """As `ModelCoordinator.list_models`."""
        return self.models.list_models()

    async def stats(self) -> dict[str, Any]:
        """Return ``models``."""
        return {"models": self.models.list_models()}


def reservation_of(model_id: str) -> str:
    """Return the name under which a model's resources are reserved.

    Examples
    --------
    >>> reservation_of("whisper")
    'model:whisper'
    """
    return f"model:{model_id}"
