"""The adapters of a plain process: the inline executor and the host probe."""

from __future__ import annotations

import os

import pytest

from balance.adapters.host import HostProbe, usable_cores
from balance.adapters.local import InlineExecutor
from balance.core.scheduler.instructions import StartTask
from balance.core.scheduler.ports import Call
from balance.types import Resources

START = StartTask("t", 1, "here", (), Resources.demand(cpu=1))


def raising(error):
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no"), "error"),
        (SystemExit(3), "error"),
        (MemoryError(), "out_of_memory"),
        (GeneratorExit(), "error"),
    ],
)
def test_whatever_a_task_raises_is_its_outcome(error, kind):
    """With type, message and traceback; the executor goes on."""
    executor = InlineExecutor()
    executor.start(START, Call(raising, (error,)))
    [event] = executor.wait(None)
    assert (event.kind, event.error_type, "raising" in event.traceback) == (kind, type(error).__name__, True)
    executor.start(START, Call(len, ("abc",)))
    assert executor.wait(0)[0].result == 3


def test_an_interrupt_is_the_users_and_the_attempt_is_lost():
    """Ctrl-C ends the program, not just the task; the task can run again."""
    executor = InlineExecutor()
    with pytest.raises(KeyboardInterrupt):
        executor.start(START, Call(raising, (KeyboardInterrupt(),)))
    assert executor.wait(0)[0].kind == "worker_lost"


def test_what_can_not_be_called_fails_as_a_task():
    """A call that was not kept, for example, after a restart."""
    executor = InlineExecutor()
    executor.start(START, None)
    assert executor.wait(0)[0].error_type == "TypeError"


def test_the_host_is_one_node_with_measured_use():
    """Cores within the affinity, memory in use, busy cores since the last look."""
    probe = HostProbe(node_id="here")
    [facts] = probe.nodes()
    assert 0 < facts.capacity.cpu <= (os.cpu_count() or 1)
    assert facts.capacity.cpu_milli == int(usable_cores() * 1000)
    assert facts.used.memory_bytes > 0
    assert facts.used.cpu is None or facts.used.cpu >= 0
    assert probe.process_rss_bytes() > 2**20
