"""One deployed model at the batches actor: its code, what waits for it, and how it has been doing."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from actors.executors import Function
from balance.batch.processor.intake import Intake


@dataclass(slots=True, eq=False)
class Request:
    """A request that was accepted and has no outcome yet."""

    request_id: str
    fields: dict[str, Any]
    accepted_at: float
    priority: int


@dataclass(slots=True, eq=False)
class Deployment:
    """One deployed model: its code, what waits for it, and how it has been doing."""

    model_id: str
    model: Any
    runner: Function
    demand: dict[str, Any]
    priority: int
    objective_s: float
    batch_max: int
    max_age_s: dict[str, float]
    window_s: float = 0.02
    parallelism: int = 1
    boosted_to: int | None = None
    admission_per_s: float | None = None
    waiting: Intake[Request] = field(default_factory=Intake)
    let_in: float = 1.0
    let_in_at: float = 0.0
    running: int = 0
    accepted: int = 0
    completed: int = 0
    failed: int = 0
    dead_lettered: int = 0
    executed: int = 0
    batches: int = 0
    run_s: float = 0.0
    answered_in_batches: int = 0
    recent_service_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    slot: asyncio.Event = field(default_factory=asyncio.Event)

    def stats(self, now: float) -> dict[str, Any]:
        """Return what waits, runs and was done, what the balancer has set, and what was measured."""
        service = sorted(self.recent_service_s)
        oldest = self.waiting.oldest_at()
        return {
            "priority": self.priority,
            "demand": self.demand,
            "objective_s": self.objective_s,
            "queued": len(self.waiting),
            "queued_by_priority": self.waiting.by_priority(),
            "oldest_wait_s": 0.0 if oldest is None else now - oldest,
            "running": self.running,
            "parallelism": self.parallelism,
            "boosted_to": self.boosted_to,
            "window_s": self.window_s,
            "admission_per_s": self.admission_per_s,
            "accepted": self.accepted,
            "completed": self.completed,
            "failed": self.failed,
            "dead_lettered": self.dead_lettered,
            "executed": self.executed,
            "batches": self.batches,
            "service_s": sum(service) / len(service) if service else None,
            "service_p90_s": service[int(0.9 * (len(service) - 1))] if service else None,
            "batch_size": self.answered_in_batches / self.batches if self.batches else 1.0,
        }
