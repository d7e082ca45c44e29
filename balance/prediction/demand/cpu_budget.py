"""How much of the machine forecasting may take: so many cores on average, with a short credit.

A token bucket whose tokens are CPU seconds (J. Turner, "New directions in communications", 1986, for packets).
It holds nothing back by itself: whoever spends asks first how long to wait.
"""

from __future__ import annotations

from balance.clock import Clock
from balance.defaults import default
from balance.types import check_number


class CpuBudget:
    """CPU seconds that are earned as time passes, and spent by work.

    Over any stretch of time t at most ``cores * t + burst_s`` CPU seconds are begun, and no more than what the
    last piece of work overdraws it by.

    Parameters
    ----------
    cores : float
        CPU seconds earned a second.
    burst_s : float, default 1
        CPU seconds that are kept at most while nobody works.
    clock : Clock, optional
        Says how much time has passed.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> budget = CpuBudget(0.5, clock=clock)
    >>> budget.spend(3.0)
    >>> budget.wait_s()
    4.0
    >>> clock.advance(4.0)
    >>> budget.wait_s()
    0.0
    """

    def __init__(self, cores: float, *, burst_s: float = 1.0, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or default("clock")
        self._cores = check_number("cores", cores, minimum=1e-6, what="number of cores")
        self._burst_s = check_number("burst_s", burst_s, minimum=0, what="number of CPU seconds")
        self._credit_s = self._burst_s
        self._at = self._clock.now()
        self.spent_s = 0.0

    def wait_s(self) -> float:
        """Return after how many seconds the next piece of work may begin; 0 for now."""
        self._earn()
        return max(0.0, -self._credit_s / self._cores)

    def spend(self, cpu_s: float) -> None:
        """Note what a piece of work has taken; it may be more than there was."""
        self._earn()
        self._credit_s -= check_number("cpu_s", cpu_s, minimum=0, what="number of CPU seconds")
        self.spent_s += cpu_s

    def _earn(self) -> None:
        now = self._clock.now()
        self._credit_s = min(self._burst_s, self._credit_s + (now - self._at) * self._cores)
        self._at = now
