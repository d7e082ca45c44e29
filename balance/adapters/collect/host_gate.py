"""Politeness: how often and how many at a time one host is asked.

Requests to one host start at least an interval apart, and only a few are under way at a time.  A host that says when
to come again (``Retry-After``, RFC 9110 section 10.2.3; ``Crawl-delay`` of its robots.txt) is left alone until then,
by everybody.

The waits are promised in order: a caller takes the next free moment and sleeps until it comes, outside the lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from balance.errors import SourceUnavailable
from balance.types import check_int, check_number

if TYPE_CHECKING:
    from balance.clock import Clock

HOLD_MAX_S = 3600.0
"""However long a host asks to be left alone, after this it may be tried again."""


class HostGate:
    """Gives turns at hosts.

    Parameters
    ----------
    clock : Clock
    interval_s : float, default 1
        Between the starts of two requests to one host; the host's own longer wish goes before.
    concurrency : int, default 2
        How many requests one host has under way at a time.
    hosts_max : int, default 10,000
        How many hosts are remembered; the least recently asked goes first.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> gate = HostGate(clock=clock, interval_s=2.0)
    >>> for _ in range(3):
    ...     with gate.turn("example.org", deadline_s=10.0):
    ...         print(clock.now())
    0.0
    2.0
    4.0
    >>> gate.hold("example.org", 60.0)
    >>> with gate.turn("example.org", deadline_s=10.0):
    ...     pass
    Traceback (most recent call last):
    ...
    balance.errors.SourceUnavailable: the host 'example.org' may be asked again in 60.0 s, which is too late
    """

    def __init__(self, *, clock: Clock, interval_s: float = 1.0, concurrency: int = 2, hosts_max: int = 10_000) -> None:
        self._clock = clock
        self._interval_s = check_number("interval_s", interval_s, minimum=0)
        self._concurrency = check_int("concurrency", concurrency, minimum=1)
        self._hosts_max = check_int("hosts_max", hosts_max, minimum=1)
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, host: str, deadline_s: float) -> Iterator[None]:
        """Wait for a turn at a host and keep it while the context lasts.

        Raises
        ------
        SourceUnavailable
            The turn would come after `deadline_s` (on the clock's `now`); ``retry_after_s`` says when to come.
        """
        known = self._host(host)
        if not known.slots.acquire(timeout=max(0.0, min(deadline_s - self._clock.now(), threading.TIMEOUT_MAX))):
            raise SourceUnavailable(f"the host {host!r} has {self._concurrency} requests under way already", host=host)
        try:
            with self._lock:
                now = self._clock.now()
                starts = max(now, known.free_at)
                if starts > deadline_s:
                    raise SourceUnavailable(
                        f"the host {host!r} may be asked again in {starts - now:.1f} s, which is too late",
                        host=host,
                        retry_after_s=starts - now,
                    )
                known.free_at = starts + max(self._interval_s, known.interval_s)
            self._clock.sleep(starts - now)
            yield
        finally:
            known.slots.release()

    def hold(self, host: str, seconds: float) -> None:
        """Leave a host alone for so long, at most `HOLD_MAX_S`."""
        known = self._host(host)
        with self._lock:
            known.free_at = max(known.free_at, self._clock.now() + min(max(0.0, seconds), HOLD_MAX_S))

    def slow_down(self, host: str, interval_s: float) -> None:
        """Ask a host no more often than it wishes, at most `HOLD_MAX_S` apart."""
        known = self._host(host)
        with self._lock:
            known.interval_s = min(max(0.0, interval_s), HOLD_MAX_S)

    def _host(self, host: str) -> _Host:
        with self._lock:
            if host not in self._hosts:
                self._hosts[host] = _Host(self._concurrency)
            self._hosts.move_to_end(host)
            if len(self._hosts) > self._hosts_max:
                self._hosts.popitem(last=False)
            return self._hosts[host]


class _Host:
    __slots__ = ("free_at", "interval_s", "slots")

    def __init__(self, concurrency: int) -> None:
        self.free_at = 0.0
        self.interval_s = 0.0
        self.slots = threading.Semaphore(concurrency)
