"""Stops asking a service that does not answer, and finds out when it does again.

Closed, every call goes through.  After several failures in a row it opens and lets none through for a while; then it
is half open: one call probes, and its outcome closes or opens it again (Nygard, *Release It!*, chapter 5).

Why not a library: those that are well kept read the clock themselves and wrap the call; this one takes a `Clock` like
everything here and only answers yes or no, so that a test moves time and a retry asks before each attempt.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from balance.defaults import default
from balance.types import check_int, check_number

if TYPE_CHECKING:
    from balance.clock import Clock


class CircuitBreaker:
    """Whether a service may be asked now; usable from several threads.

    Parameters
    ----------
    failures : int, default 5
        In a row, after which it opens.
    open_s : float, default 30
        For how many seconds it lets nothing through, and how long a probe may take before another one is let through.
    clock : Clock, optional

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> breaker = CircuitBreaker(failures=1, open_s=10, clock=clock)
    >>> breaker.failed()
    >>> breaker.state, breaker.allow(), breaker.retry_in_s
    ('open', False, 10.0)
    >>> clock.advance(10)
    >>> breaker.state, breaker.allow(), breaker.allow()
    ('half_open', True, False)
    >>> breaker.succeeded()
    >>> breaker.state
    'closed'
    """

    def __init__(self, *, failures: int = 5, open_s: float = 30.0, clock: Clock | None = None) -> None:
        self._limit = check_int("failures", failures, minimum=1)
        self._open_s = check_number("open_s", open_s, minimum=0, what="number of seconds")
        self._clock: Clock = clock or default("clock")
        self._lock = threading.Lock()
        self._failures = 0
        self._shut_at: float | None = None  # when it opened, or when its last probe began

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        with self._lock:
            if self._shut_at is None:
                return "closed"
            return "open" if self._left_s() > 0 else "half_open"

    @property
    def retry_in_s(self) -> float:
        """In how many seconds a call may be let through; 0 if one may be now."""
        with self._lock:
            return self._left_s()

    def allow(self) -> bool:
        """Say whether a call may go through; after a yes, tell how it went with `succeeded` or `failed`."""
        with self._lock:
            if self._shut_at is None:
                return True
            if self._left_s() > 0:
                return False
            self._shut_at = self._clock.now()  # this one probes; a probe that is never heard of again blocks nobody
            return True

    def succeeded(self) -> None:
        """Note that the service answered."""
        with self._lock:
            self._failures = 0
            self._shut_at = None

    def failed(self) -> None:
        """Note that the service did not answer, or answered that it can't."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._limit:
                self._shut_at = self._clock.now()

    def _left_s(self) -> float:
        return 0.0 if self._shut_at is None else max(0.0, self._shut_at + self._open_s - self._clock.now())
