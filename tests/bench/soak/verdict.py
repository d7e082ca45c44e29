"""Whether the books balance: every task that was acknowledged has one outcome and, if completed, one effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soak.effects import Traces

SHOWN = 10
"""How many ids of a kind of trouble are named."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended, as its submitter was told.

    Attributes
    ----------
    state : str
        ``completed``, or how else it ended; ``none`` where the submitter was told nothing.
    result : object
        What it returned.
    reason : str
        Why it ended so.
    """

    state: str
    result: Any = None
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """What the soak found.

    Attributes
    ----------
    tasks : int
        Acknowledged.
    by_state : dict
        How many ended how.
    lost : list of str
        Tasks without an outcome, completed without an effect, with another task's result, or idempotent and
        not completed: nothing that was done to them was their own fault.
    duplicate_effects : list of str
        Tasks whose effect was made more than once.
    ran_twice : list of str
        Tasks that may run at most once and began more often.
    ran_again : int
        Idempotent tasks that began more than once: allowed, and what durability costs.
    reasons : dict
        Why tasks did not complete, how often.
    """

    tasks: int
    by_state: dict[str, int]
    lost: list[str] = field(default_factory=list)
    duplicate_effects: list[str] = field(default_factory=list)
    ran_twice: list[str] = field(default_factory=list)
    ran_again: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, outcomes: Mapping[str, Outcome], once: frozenset[str], traces: Traces) -> Verdict:
        """Compare what submitters were told with what tasks left.

        Parameters
        ----------
        outcomes : mapping
            Every acknowledged task's outcome.
        once : frozenset of str
            The tasks that are not idempotent.
        traces : Traces
            What the tasks did.

        Examples
        --------
        >>> from collections import Counter
        >>> traces = Traces(Counter(a=2), Counter(a=1), Counter(a=1), frozenset({"a"}), [])
        >>> verdict = Verdict.of({"a": Outcome("completed", "a"), "b": Outcome("none")}, frozenset(), traces)
        >>> verdict.lost, verdict.ran_again
        (['b'], 1)
        """
        verdict = cls(len(outcomes), dict(Counter(outcome.state for outcome in outcomes.values())))
        reasons: Counter[str] = Counter()
        for task_id, outcome in outcomes.items():
            if not _accounted(task_id, outcome, task_id in once, traces):
                verdict.lost.append(task_id)
            if outcome.state != "completed":
                reasons[outcome.reason] += 1
            if traces.made[task_id] > 1:
                verdict.duplicate_effects.append(task_id)
            if traces.begun[task_id] > 1:
                if task_id in once:
                    verdict.ran_twice.append(task_id)
                else:
                    verdict.ran_again += 1
        verdict.reasons = dict(reasons.most_common(SHOWN))
        return verdict

    def to_dict(self) -> dict[str, Any]:
        """Return counts under the attributes' names, and the first ids of each kind of trouble."""
        troubles = {name: getattr(self, name) for name in ("lost", "duplicate_effects", "ran_twice")}
        return {
            "tasks": self.tasks,
            "by_state": self.by_state,
            **{name: len(ids) for name, ids in troubles.items()},
            "ran_again": self.ran_again,
            "reasons": self.reasons,
            "ids": {name: ids[:SHOWN] for name, ids in troubles.items()},
        }


def _accounted(task_id: str, outcome: Outcome, once: bool, traces: Traces) -> bool:
    if outcome.state == "completed":
        return outcome.result == task_id and task_id in traces.effects
    return once and outcome.state == "failed"
