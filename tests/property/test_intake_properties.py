"""Invariants of a model's intake: conservation, order within the equal, and nobody starves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balance.batch.processor.intake import Intake

requests = st.tuples(st.integers(0, 5), st.integers(1, 5))
steps = st.lists(st.one_of(requests, st.integers(0, 4)), max_size=60)


@given(steps)
def test_every_request_leaves_exactly_once(play: list[tuple[int, int] | int]) -> None:
    """Safety: what came in is waiting or has left, never both, never twice; the counts agree at every step."""
    intake: Intake[int] = Intake(step_s=1.0)
    waiting: dict[int, tuple[int, int]] = {}
    for number, step in enumerate(play):
        if isinstance(step, tuple):
            intake.add(*step, float(number), number)
            waiting[number] = step
        else:
            before = len({key for key, _ in waiting.values()})
            taken = intake.take(step)
            left = {waiting.pop(item)[0] for item in taken}
            assert len(left) == min(step, before), "as many groups as were asked for and were there"
            assert not left & {key for key, _ in waiting.values()}, "a group leaves as a whole"
        counts = {p: sum(priority == p for _, priority in waiting.values()) for p in range(1, 6)}
        assert intake.by_priority() == {p: count for p, count in counts.items() if count}
        assert (len(intake), intake.distinct) == (len(waiting), len({key for key, _ in waiting.values()}))
        assert intake.oldest_at() == (float(min(waiting)) if waiting else None)


@given(st.lists(requests, max_size=40), st.floats(0.0, 5.0))
def test_groups_leave_by_their_best_rank(asked: list[tuple[int, int]], step_s: float) -> None:
    """Order: by arrival plus priority steps of the best member; who came first among the same leaves first."""
    intake: Intake[int] = Intake(step_s=step_s)
    best: dict[int, float] = {}
    for number, (key, priority) in enumerate(asked):
        intake.add(key, priority, float(number), number)
        best[key] = min(best.get(key, float("inf")), number + priority * step_s)
    ranks = []
    while len(intake):
        taken = intake.take(1)
        assert taken == sorted(taken), "in the order of arrival"
        [key] = {asked[item][0] for item in taken}
        ranks.append(best[key])
    assert ranks == sorted(ranks)


@given(st.integers(1, 5), st.floats(0.1, 10.0))
def test_nobody_starves(priority: int, step_s: float) -> None:
    """Liveness: beside a stream of the most urgent, one that waits leaves after (priority - 1) steps of waiting."""
    intake: Intake[str] = Intake(step_s=step_s)
    intake.add("patient", priority, 0.0, "patient")
    now, bound = 0.0, (priority - 1) * step_s
    for number in range(200):
        intake.add(number, 1, now, "urgent")
        if "patient" in intake.take(1):
            return
        assert now <= bound, "it had waited for long enough"
        now += step_s / 4
    raise AssertionError("it never left")
