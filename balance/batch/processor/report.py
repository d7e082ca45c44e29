"""What became of a list of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from balance.batch.processor.batch import Outcome


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The answers of one call of `BatchProcessor.process_batch`, and how much work they took."""

    status: str
    priority: int
    results: tuple[Outcome, ...] = ()
    executed: int = 0
    batches: int = 0
    duration_s: float = 0.0
    error: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls, results: Sequence[Outcome], executed: int, batches: int, priority: int, duration_s: float
    ) -> BatchReport:
        """Build the report of requests that ran.

        Examples
        --------
        >>> BatchReport.of([], 0, 0, 1, 0.0).status
        'empty'
        """
        completed = sum(answer.status == "completed" for answer in results)
        if not results:
            status = "empty"
        elif completed == len(results):
            status = "completed"
        else:
            status = "partial" if completed else "failed"
        return cls(status, priority, tuple(results), executed, batches, duration_s)

    @classmethod
    def rejected(cls, error: Mapping[str, Any]) -> BatchReport:
        """Build the report of an item that could not be read; nothing of it ran."""
        return cls("rejected", 1, error=error)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as `BatchProcessor.process_batch` documents it."""
        completed = sum(answer.status == "completed" for answer in self.results)
        return {
            "status": self.status,
            "priority": self.priority,
            "received": len(self.results),
            "executed": self.executed,
            "merged": len(self.results) - self.executed,
            "batches": self.batches,
            "completed": completed,
            "failed": len(self.results) - completed,
            "duration_s": self.duration_s,
            "error": dict(self.error) if self.error is not None else None,
            "results": [answer.to_dict() for answer in self.results],
        }
