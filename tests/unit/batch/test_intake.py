"""What waits for a model: order by priority and age, equal requests together, exact counts."""

from __future__ import annotations

import pytest

from balance.batch.processor.intake import Intake
from balance.errors import InvalidValue


def test_the_urgent_go_first_and_then_the_oldest() -> None:
    """One priority weighs as much as a step of waiting; among equals the first come is the first served."""
    intake: Intake[str] = Intake(step_s=10.0)
    for key, priority, at in (("late urgent", 1, 5.0), ("normal", 3, 0.0), ("normal too", 3, 0.0), ("old", 5, -40.0)):
        intake.add(key, priority, at, key)
    assert intake.take(9) == ["old", "late urgent", "normal", "normal too"]
    assert len(intake) == 0 and intake.distinct == 0 and intake.oldest_at() is None


def test_equal_requests_leave_together_at_the_best_rank() -> None:
    """Who asks for what is about to run rides along; a late urgent twin pulls the whole group forward."""
    intake: Intake[str] = Intake(step_s=10.0)
    intake.add("slow", 5, 0.0, "slow, patient")
    intake.add("other", 3, 0.0, "other")
    intake.add("slow", 1, 1.0, "slow, urgent")
    assert (len(intake), intake.distinct, intake.by_priority(), intake.oldest_at()) == (3, 2, {1: 1, 3: 1, 5: 1}, 0.0)
    assert intake.take(1) == ["slow, patient", "slow, urgent"]
    assert (len(intake), intake.by_priority()) == (1, {3: 1})


def test_a_key_that_left_may_come_again() -> None:
    """Stale ranks of a group that left do not move its successor."""
    intake: Intake[int] = Intake(step_s=10.0)
    intake.add("a", 5, 0.0, 1)
    intake.add("a", 1, 0.0, 2)
    assert intake.take(1) == [1, 2]
    intake.add("a", 5, 100.0, 3)
    intake.add("b", 4, 100.0, 4)
    assert intake.take(1) == [4] and intake.take(1) == [3]


def test_nothing_is_taken_where_nothing_may_go() -> None:
    """Zero or an empty queue take nobody; what is no priority or no step is refused and changes nothing."""
    intake: Intake[int] = Intake()
    assert intake.take(5) == []
    intake.add("a", 1, 0.0, 1)
    assert intake.take(0) == [] and len(intake) == 1
    with pytest.raises(InvalidValue):
        intake.add("b", 0, 0.0, 2)
    assert len(intake) == 1
    with pytest.raises(InvalidValue):
        Intake(step_s=-1.0)
