"""What is said about a queued task: bounded in cost, true to what then happens."""

from __future__ import annotations

import pytest
from cluster_play import Play, need, room
from test_decision_cost import calls, filled

from balance.core.scheduler.estimate import LOOKED_AT_MAX
from balance.core.scheduler.explain import explain
from balance.core.scheduler.policy import Tenant


def told(play: Play, task_id: str):
    return explain(play.engine.state, play.engine.task(task_id), play.now)


def test_an_answer_costs_the_same_however_many_are_queued():
    """A bounded part of a long line is looked at, and that is said; the number is right within 3 %."""
    spent = {}
    for queued in (2 * LOOKED_AT_MAX, 16 * LOOKED_AT_MAX):
        engine, _ = filled(queued)
        last = [
            task for task in engine.state.tasks.values() if task.state == "queued" and task.spec.tenant == "tenant-1"
        ]
        task = max(last, key=lambda each: each.entry[:2])
        spent[queued] = calls(lambda engine=engine, task=task: explain(engine.state, task, 2.0))
        found = explain(engine.state, task, 2.0)
        assert found.ahead == pytest.approx(len(last) - 1, rel=0.03)
        assert found.ahead_exact == (len(last) <= LOOKED_AT_MAX)
        assert found.behind == [each.task_id for each in sorted(last, key=lambda each: each.entry[:2])[:5]]
    few, many = spent.values()
    assert many <= 1.5 * few


def test_the_estimate_comes_true():
    """One room, measured run times: each of the queue starts when it was said to."""
    play = Play(("n1", room(cpu=1)))
    for _ in range(50):
        play.engine.state.run_times.learn("task", 2.0)
    for number in range(6):
        play.submit(f"t{number}")
    said = {f"t{number}": told(play, f"t{number}") for number in range(1, 6)}
    for number in range(5):
        play.now += 2.0
        play.finish(f"t{number}", run_s=2.0)
        following = said[f"t{number + 1}"]
        assert following.estimated_start == pytest.approx(play.now, abs=0.1)
        assert following.estimated_start_low <= play.now <= following.estimated_start_high + 0.1


def test_the_range_is_wider_the_less_is_known():
    """Run times that vary, and guesses that nothing was measured against, widen it."""
    widths = []
    for deviation, guess in [(0.0, None), (0.8, None), (0.0, 2.0)]:
        play = Play(("n1", room(cpu=1)))
        for number in range(60 if guess is None else 0):
            play.engine.state.run_times.learn("task", 2.0 + deviation * (-1) ** number)
        for number in range(4):
            play.submit(f"t{number}", expected_run_s=guess)
        found = told(play, "t3")
        assert found.estimated_start_low < found.estimated_start < found.estimated_start_high
        widths.append(found.estimated_start_high - found.estimated_start_low)
    assert widths == sorted(widths)


def test_other_tenants_take_their_share_meanwhile():
    """Equal weights: with as much to do, twice as long; with little to do, only that much longer."""
    waits = []
    for others in (0, 2, 100):
        play = Play(("n1", room(cpu=1)), tenants=(Tenant("a"), Tenant("b")))
        for _ in range(50):
            play.engine.state.run_times.learn("task", 1.0)
        for number in range(11):
            play.submit(f"a{number}", tenant="a")
        for number in range(others):
            play.submit(f"b{number}", tenant="b")
        waits.append(told(play, "a10").estimated_start)
    assert waits == pytest.approx([10.0, 12.0, 19.0], rel=0.05)


def test_who_is_over_its_limit_is_told_by_how_much():
    """The tenant's limit and that many more would do."""
    play = Play(("n1", room(cpu=4)), tenants=(Tenant("t", limit=room(cpu=2)),))
    for number in range(2):
        play.submit(f"t{number}", need(cpu=1), tenant="t")
    play.submit("more", need(cpu=2), tenant="t")
    found = told(play, "more")
    assert (found.resource, found.lacking, found.node_id) == ("cpu", 2.0, None)
    assert found.reason == "its tenant t is at its limit of cpu"
