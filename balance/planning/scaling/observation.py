"""What scaling sees of one model (or deployment) at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from balance.planning.record import Record
from balance.planning.snapshot import DemandForecast, overlap_sum
from balance.types import check_number


@dataclass(frozen=True, slots=True)
class Observation(Record):
    """Demand as counted, replicas as they are, times as measured.

    Attributes
    ----------
    at : float
        When, POSIX seconds.
    arrivals : tuple of float
        Requests that came in each step of `step_s`, oldest first; the last step ends at `at`.  Steps that were
        seen before do no harm, steps that are missing are taken to have been like those around them.
    step_s : float
        Length of such a step.
    queued : float
        Requests that wait.
    running : int
        Requests or batches that are being worked on.
    ready, starting : int
        Replicas that answer; replicas on their way.
    service_s : float, optional
        Measured seconds of a replica per request; None before the first measurement.
    service_p90_s : float, optional
        Its 0.9 quantile.
    batch_size : float
        Requests that run together.
    cold_start_s : float
        From the decision to a replica that answers: the 0.9 quantile of what was measured.
    objective_s : float
        How long a request may take from arrival to answer.
    forecast : DemandForecast, optional
        What somebody else expects.  It is one voice among others: how much it counts is learnt.

    Examples
    --------
    >>> Observation(30.0, (4.0, 6.0), 15.0).arrived(0.0, 30.0)
    10.0
    """

    at: float
    arrivals: Tuple[float, ...] = ()
    step_s: float = 15.0
    queued: float = 0.0
    running: int = 0
    ready: int = 0
    starting: int = 0
    service_s: Optional[float] = None
    service_p90_s: Optional[float] = None
    batch_size: float = 1.0
    cold_start_s: float = 0.0
    objective_s: float = 10.0
    forecast: Optional[DemandForecast] = None

    def __post_init__(self) -> None:
        check_number("at", self.at)
        for name in ("step_s", "objective_s"):
            check_number(name, getattr(self, name), minimum=1e-9)
        for name in ("queued", "running", "ready", "starting", "cold_start_s"):
            check_number(name, getattr(self, name), minimum=0)
        check_number("batch_size", self.batch_size, minimum=1)
        for name in ("service_s", "service_p90_s"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), minimum=0)
        for count in self.arrivals:
            check_number("arrivals", count, minimum=0)

    @property
    def since(self) -> float:
        """Where the first step of `arrivals` begins."""
        return self.at - self.step_s * len(self.arrivals)

    def arrived(self, start: float, end: float) -> float:
        """Return how many requests are known to have come from `start` to `end`."""
        return overlap_sum(self.arrivals, self.since, self.step_s, start, end)

    def recent_per_s(self, window_s: float) -> float:
        """Return the mean rate of the last `window_s`, or of as much of it as is known."""
        known = min(window_s, self.step_s * len(self.arrivals))
        return self.arrived(self.at - known, self.at) / known if known > 0 else 0.0
