"""Whether forecasts pay, model by model: what the guard of each has seen, for people and for Ray's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from balance.planning import Memory, Plan

WAYS = ("forecast", "reactive")


def guards_of(plan: Plan, memory: Memory) -> dict[str, dict[str, Any]]:
    """Return by model what was decided by, and how the two ways of deciding would have done alone.

    Returns
    -------
    dict
        ``by``: what the plan's capacity was made for (``forecast``, ``reactive``, ``unmeasured``); ``leads``: whom the
        guard has lead; ``behind``: windows of missed objective that the forecast is behind (negative: ahead);
        ``switches``; ``forecast`` and ``reactive``: ``replica_s`` and ``missed`` of each, had it led all the time.

    Examples
    --------
    >>> from balance.planning import ModelState, PlanPolicy, Snapshot, plan
    >>> made = plan(Snapshot(1, 60.0, models=(ModelState("whisper", arrivals=(4.0,) * 60),)), Memory(), PlanPolicy())
    >>> guards_of(made, Memory())["whisper"]["leads"]
    'forecast'
    """
    found = {}
    for decision in plan.decisions:
        model_id = decision.outlook.model_id
        guard = memory.of(model_id).scaling.guard
        found[model_id] = {
            "by": decision.outlook.source,
            "leads": guard.mode,
            "behind": guard.behind,
            "switches": guard.switches,
            **{
                name: {"replica_s": shadow.replica_s, "missed": shadow.missed}
                for name, shadow in zip(WAYS, (guard.forecast, guard.reactive), strict=True)
            },
        }
    return found


def in_words(model_id: str, guard: Mapping[str, Any]) -> str:
    """Return a sentence about one model's guard.

    Examples
    --------
    >>> in_words("whisper", {"by": "forecast", "leads": "forecast", "behind": -2.0, "switches": 0,
    ...     "forecast": {"replica_s": 120.0, "missed": 1.0}, "reactive": {"replica_s": 130.0, "missed": 7.0}})
    'whisper: the forecast leads; alone, the forecast would have missed 1 requests with 120 replica-seconds, ...'
    """
    leads = "the forecast" if guard["leads"] == "forecast" else "the reactive rule"
    alone = [f"{guard[way]['missed']:.0f} requests with {guard[way]['replica_s']:.0f} replica-seconds" for way in WAYS]
    return f"{model_id}: {leads} leads; alone, the forecast would have missed {alone[0]}, the reactive rule {alone[1]}."
