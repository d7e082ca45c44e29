"""Time as a port: the one place of Balance that knows the real clock.

Deciders take a `Clock` and never call :mod:`time`.  `now` is monotonic and measures durations;
`wall` is POSIX time in UTC and dates records; `sleep` waits on that same clock.  `SystemClock` starts
its monotonic reading at a random offset, so that mixing the two up fails at once (an idea of trio's).
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from balance.errors import InvalidValue


@runtime_checkable
class Clock(Protocol):
    """What deciders know of time; every reading is in seconds."""

    def now(self) -> float:
        """Return the monotonic time, for durations."""
        ...

    def wall(self) -> float:
        """Return the POSIX time (UTC), for records."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on this clock."""
        ...


class SystemClock:
    """The machine's clock.

    Examples
    --------
    >>> clock = SystemClock()
    >>> before = clock.now()
    >>> clock.now() >= before
    True
    """

    def __init__(self) -> None:
        self._offset = random.uniform(10_000.0, 1_000_000.0)  # noqa: S311 (an offset, not a secret)

    def now(self) -> float:
        return time.monotonic() + self._offset

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)


class FakeClock:
    """A clock that moves only when told to: for tests and for the simulator.

    Parameters
    ----------
    start : float, default 0
        The first monotonic reading, in seconds.
    epoch : float, default 1_700_000_000
        The first POSIX reading, in seconds.

    Examples
    --------
    >>> clock = FakeClock()
    >>> clock.sleep(2.5)
    >>> clock.advance(0.5)
    >>> clock.now()
    3.0
    """

    def __init__(self, start: float = 0.0, epoch: float = 1_700_000_000.0) -> None:
        self._now = start
        self._epoch = epoch - start

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._epoch + self._now

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._now += seconds

    def advance(self, seconds: float) -> None:
        """Move the clock forward; a negative step raises `InvalidValue`."""
        if seconds < 0:
            raise InvalidValue("seconds", seconds, "0 or more: time does not run backwards")
        self._now += seconds

    def advance_to(self, moment: float) -> None:
        """Move the clock forward to the reading `moment`, exactly; an earlier one raises `InvalidValue`."""
        if moment < self._now:
            raise InvalidValue("moment", moment, f"{self._now!r} or more: time does not run backwards")
        self._now = moment


def iso(posix_s: float) -> str:
    """Return POSIX seconds as ISO 8601 in UTC.

    Examples
    --------
    >>> iso(0.0)
    '1970-01-01T00:00:00.000+00:00'
    """
    return datetime.fromtimestamp(posix_s, UTC).isoformat(timespec="milliseconds")
