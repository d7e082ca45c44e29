"""The states of a task's life.

::

    submitted -> waiting -> delayed -> queued -> running -> completed
                    |          |         ^ |        |  \\-> failed, timed_out
                    |          |         | |        v
                    |          |         +-|---- retrying
                    v          v           v
         upstream_failed   cancelled, timed_out (deadline)          denied: at submission
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a task is in its life.

    Examples
    --------
    >>> State.RUNNING.terminal, State.DENIED.terminal
    (False, True)
    """

    WAITING = "waiting"  #: for prerequisites
    DELAYED = "delayed"  #: until its `not_before`
    QUEUED = "queued"  #: for room
    RUNNING = "running"  #: an attempt holds resources
    RETRYING = "retrying"  #: backing off before its next attempt
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    DENIED = "denied"  #: no node could ever hold it
    UPSTREAM_FAILED = "upstream_failed"  #: a prerequisite did not complete

    @property
    def terminal(self) -> bool:
        """Whether nothing happens to the task any more."""
        return self in TERMINAL


TERMINAL = frozenset(
    {State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.DENIED, State.UPSTREAM_FAILED}
)
