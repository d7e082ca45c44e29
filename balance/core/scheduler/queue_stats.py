"""How long the queue is, by state and priority."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.types import MILLI


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Counts and ages of tasks.

    Attributes
    ----------
    by_state : dict of str to int
        Tasks that are known, by state; finished ones as long as they are remembered.
    queued_by_priority, running_by_priority : dict of str to int
        By priority number (as a string, since JSON has no other keys).
    queued_demand : dict of str to float
        What all queued tasks ask for together: ``cpu`` cores, ``memory`` bytes, ``gpu`` devices, others.
    oldest_queued_s : float
        Seconds that the task that is queued for longest has waited; 0 with an empty queue.
    paused : bool
        Whether starts are held back.
    earmarks : int
        For how many tasks that do not fit room is being kept.
    next_due : float or None
        POSIX seconds of the next timer.
    """

    by_state: dict[str, int]
    queued_by_priority: dict[str, int]
    running_by_priority: dict[str, int]
    queued_demand: dict[str, float]
    oldest_queued_s: float
    paused: bool
    earmarks: int
    next_due: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return every attribute under its name."""
        return asdict(self)


def queue_stats(state: EngineState, now: float) -> QueueStats:
    """Count; O(states + priorities), whatever the length of the queue."""
    oldest = state.longest_queued()
    since = oldest.eligible_at if oldest is not None else None
    return QueueStats(
        by_state={str(each): state.counts[each] for each in State},
        queued_by_priority=_text_keys(state.queued_by_priority),
        running_by_priority=_text_keys(state.running_by_priority),
        queued_demand={
            name: amount if name == "memory" else amount / MILLI
            for name, amount in sorted(state.queued_demand.items())
            if amount
        },
        oldest_queued_s=max(0.0, now - since) if since is not None else 0.0,
        paused=state.paused,
        earmarks=len(state.earmarks),
        next_due=state.timers.next_due(),
    )


def _text_keys(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(priority): number for priority, number in sorted(counts.items()) if number}
