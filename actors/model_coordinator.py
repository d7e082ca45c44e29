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
        self.spawn(self.insist(self._reassert))

    async def _reassert(self) -> None:
        """Ask again for what the models held before a restart: the allocator may have given it back meanwhile."""
        for model in self.models.list_models():
            model_id = model["model_id"]
            async with self._turns[model_id]:
                held = self.models.held(model_id)
                if held is None:
                    continue
                amount = {name: held[name] for name in ("cpu", "memory", "gpu", "custom") if name in held}
                answer = await ask("resource_allocator", "reserve", reservation_of(model_id), amount)
                if answer["status"] != "allocated":
                    self.log.warning("event=reservation_lost model=%s reason=%s", model_id, answer["reason"])
                    self.models.released(model_id)
                self.models.granted(model_id, {**answer, "replicas": _replicas(held, answer)})

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
        """Reserve what so many replicas of a model need, in place of what it holds; 0 releases it.

        Returns
        -------
        dict
            The allocator's answer, and ``replicas``: for how many the model holds resources now.
        """
        async with self._turns[model_id]:
            demand = self.models.record(model_id).demand
            held = self.models.held(model_id)
            if held is not None and held["replicas"] == check_int("replicas", replicas, minimum=0):
                return held
            if replicas == 0:
                answer = await ask("resource_allocator", "release_allocation", reservation_of(model_id))
                self.models.released(model_id)
                return {**answer, "replicas": 0}
            wanted = demand.scaled(replicas).to_dict()
            answer = await ask("resource_allocator", "reserve", reservation_of(model_id), wanted)
            if answer["status"] != "allocated" and held is not None:
                return {**answer, "replicas": held["replicas"]}
            return self.models.granted(
                model_id, {**answer, "replicas": replicas if answer["status"] == "allocated" else 0}
            )

    async def get_model_status(self, model_id: str) -> dict[str, Any]:
        """As `ModelCoordinator.get_model_status`."""
        return self.models.get_model_status(model_id)

    async def list_models(self) -> list[dict[str, Any]]:
        """As `ModelCoordinator.list_models`."""
        return self.models.list_models()

    async def stats(self) -> dict[str, Any]:
        """Return ``models``."""
        return {"models": self.models.list_models()}


def _replicas(held: Mapping[str, Any], answer: Mapping[str, Any]) -> int:
    return int(held["replicas"]) if answer["status"] == "allocated" else 0


def reservation_of(model_id: str) -> str:
    """Return the name under which a model's resources are reserved.

    Examples
    --------
    >>> reservation_of("whisper")
    'model:whisper'
    """
    return f"model:{model_id}"
