"""The contest for memory: what is killed has outgrown its request, and what was told was measured."""

from __future__ import annotations

import os

import pytest
from rss import contest
from rss.contest import MIB, RULES, Rule, Score, play, sizes
from rss.executor import Attempt, Hungry, RssExecutor

from balance.core.scheduler.events import TaskFailed, TaskFinished
from balance.core.scheduler.instructions import StartTask
from balance.types import Resources


def start(memory: int) -> StartTask:
    """Return the start of a task that may take so much."""
    return StartTask("t", 1, "n", (), Resources.demand(cpu=1, memory=memory))


def test_a_task_that_fits_ends_with_its_measured_peak():
    """The peak is the data and a little more, whatever was asked for."""
    executor = RssExecutor(tells_peaks=True)
    executor.start(start(64 * MIB), Hungry(8 * MIB, 0.02))
    [event] = executor.wait(None)
    assert isinstance(event, TaskFinished)
    assert event.peak_memory_bytes is not None and 7 * MIB < event.peak_memory_bytes < 16 * MIB


def test_a_task_that_outgrows_its_request_is_killed_before_it_has_all():
    """Its end is told as a kill for memory, with what it had taken by then."""
    executor = RssExecutor(tells_peaks=True)
    executor.start(start(6 * MIB), Hungry(256 * MIB, 1.0))
    [event] = executor.wait(None)
    assert isinstance(event, TaskFailed) and event.kind == "out_of_memory"
    assert event.peak_memory_bytes is not None and 6 * MIB < event.peak_memory_bytes < 200 * MIB


def test_a_task_that_outgrew_its_request_between_two_looks_has_failed():
    """It has ended before anybody looked: what it had taken says that a kernel would have killed it."""
    executor = RssExecutor(tells_peaks=True)
    executor.start(start(6 * MIB), Hungry(12 * MIB, 0.0))
    [pid] = executor._runs
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    [event] = executor.wait(None)
    assert isinstance(event, TaskFailed) and event.kind == "out_of_memory"


@pytest.mark.parametrize("rule", RULES[:2] + RULES[3:4], ids=lambda rule: rule.name)
def test_every_task_completes_under_every_rule(rule: Rule, monkeypatch: pytest.MonkeyPatch):
    """A request that is too small costs attempts, never the task."""
    monkeypatch.setattr(contest, "RUN_S", 0.01)
    score = play(rule, [10 * MIB, 12 * MIB], every_s=0.0)
    assert score.failed == 0 and score.kills >= 2 and 0 <= score.slack < 1


def test_a_score_counts_what_was_held_in_vain():
    """Byte-seconds of killed attempts are held and give nothing."""
    fits = Attempt("a", 100, 100, 1.0, killed=False)
    assert Score.of([fits], 1, 1.0) == Score(0, 0.0, 0.0, 0, 1.0)
    assert Score.of([fits, Attempt("b", 100, 101, 1.0, killed=True)], 2, 1.0) == Score(1, 1.0, 0.5, 1, 1.0)


def test_sizes_are_the_same_for_every_rule():
    """A seed fixes them, and none is larger than the room."""
    assert sizes(100, 1) == sizes(100, 1) != sizes(100, 2)
    assert max(sizes(10_000, 1)) <= contest.ROOM_BYTES // 2
