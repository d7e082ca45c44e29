"""A stretch of time that may be spent: asked for before each fit, never in the middle of one."""

from __future__ import annotations

from balance.clock import Clock


class Budget:
    """Seconds from now on, on a clock.

    Parameters
    ----------
    clock : Clock
        Measures.
    seconds : float
        How many; 0 is over at once.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> budget = Budget(clock, 2.0)
    >>> clock.advance(1.5)
    >>> budget.over, budget.spent_s
    (False, 1.5)
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._began = clock.now()
        self.seconds = seconds

    @property
    def spent_s(self) -> float:
        """Seconds since it began."""
        return self._clock.now() - self._began

    @property
    def over(self) -> bool:
        """Whether it is spent."""
        return self.spent_s >= self.seconds
