"""A restored engine decides as one that never stopped."""

from __future__ import annotations

import pytest
from cluster_play import Play, need, room

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import ClockAdvanced, TaskFinished
from balance.errors import Conflict


def busy_play() -> Play:
    """A play in which everything that decisions depend on is in use."""
    play = Play(("n1", room(cpu=2, gpu=2)), ("n2", room(cpu=2)))
    play.submit("teacher", name="learned")
    play.now = 4.0
    play.finish("teacher", peak_memory_bytes=512)
    play.submit("long", need(cpu=2, gpu=1), expected_run_s=100.0)
    play.submit("other", need(cpu=2))
    play.submit("wide", need(cpu=2, gpu=2))
    play.submit("later", not_before=30.0, deadline=90.0)
    play.submit("after", dependencies=("other",))
    play.submit("like", need(gpu=1), name="learned")
    return play


def test_everything_that_decisions_depend_on_is_kept():
    """Learned run times too: a task of a known name is let into a hole, one of an unknown name is not."""
    play = busy_play()
    twin = Engine(policy=play.engine.state.policy)
    twin.restore(play.engine.snapshot())
    twin.validate()
    assert twin.snapshot() == play.engine.snapshot()
    assert twin.state.run_times.snapshot() == play.engine.state.run_times.snapshot() != {}
    assert twin.state.memory_peaks.suggest("learned")["memory_bytes"] == 512
    for now, event in [(31.0, ClockAdvanced()), (40.0, TaskFinished("other", 1)), (50.0, TaskFinished("long", 1))]:
        assert twin.handle(event, now=now) == play.engine.handle(event, now=now)
        twin.validate()


def test_only_a_fresh_engine_can_be_restored():
    """Otherwise two histories would be mixed."""
    play = busy_play()
    with pytest.raises(Conflict):
        play.engine.restore(play.engine.snapshot())
