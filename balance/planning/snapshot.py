"""What the balancer sees at one moment: everything that a plan may depend on, and nothing else.

All moments are POSIX seconds of one clock.  The snapshot is the whole input of `plan` beside what was
learnt, so a recorded one gives the recorded plan again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from balance.errors import Conflict, InvalidValue
from balance.planning.record import Record
from balance.types import NOTHING, Resources, check_id, check_number, check_priority


@dataclass(frozen=True, slots=True)
class DemandForecast(Record):
    """How many requests are expected, step by step.

    Attributes
    ----------
    made_at : float
        Where the first step begins.
    step_s : float
        Length of one step.
    q10, q50, q90 : tuple of float
        Requests in each step at the 0.1, 0.5 and 0.9 quantile; as long as each other, never crossing.
    method, status : str
        What made it and whether it stands (``ok``) or is a fallback (any other word).

    Examples
    --------
    >>> forecast = DemandForecast(0.0, 10.0, (1.0, 2.0), (2.0, 4.0), (4.0, 8.0))
    >>> forecast.between(5.0, 20.0)
    (5.0, 10.0)
    """

    made_at: float
    step_s: float
    q10: Tuple[float, ...]
    q50: Tuple[float, ...]
    q90: Tuple[float, ...]
    method: str = ""
    status: str = "ok"

    def __post_init__(self) -> None:
        check_number("step_s", self.step_s, minimum=1e-9)
        if not len(self.q10) == len(self.q50) == len(self.q90):
            raise InvalidValue("quantiles", (len(self.q10), len(self.q50), len(self.q90)), "three of the same length")
        for low, middle, high in zip(self.q10, self.q50, self.q90, strict=True):
            check_number("q10", low, minimum=0)
            if not low <= check_number("q50", middle) <= check_number("q90", high):
                raise InvalidValue("quantiles", (low, middle, high), "q10 <= q50 <= q90")

    @property
    def until(self) -> float:
        """Where the last step ends."""
        return self.made_at + self.step_s * len(self.q50)

    def between(self, start: float, end: float) -> Optional[Tuple[float, float]]:
        """Return the requests expected from `start` to `end` at q50 and q90, or None if it does not reach so far.

        Adding up the 0.9 quantiles takes the steps to err together, which is the careful side.
        """
        if start < self.made_at - 1e-9 or end > self.until + 1e-9:
            return None
        return (
            overlap_sum(self.q50, self.made_at, self.step_s, start, end),
            overlap_sum(self.q90, self.made_at, self.step_s, start, end),
        )

    def reaches(self, requests: float, start: float) -> Optional[float]:
        """Return when so many requests will have come since `start`, at q50; None if it does not reach so far.

        Examples
        --------
        >>> forecast = DemandForecast(0.0, 10.0, (0.0, 1.0), (2.0, 4.0), (4.0, 8.0))
        >>> forecast.reaches(2.0, start=5.0), forecast.reaches(9.0, start=5.0)
        (12.5, None)
        """
        left = requests
        for number, count in enumerate(self.q50):
            begin, end = self.made_at + number * self.step_s, self.made_at + (number + 1) * self.step_s
            if end <= start:
                continue
            begin = max(begin, start)
            coming = count * (end - begin) / self.step_s
            if coming >= left:
                return begin + (end - begin) * left / coming if coming else begin
            left -= coming
        return None


@dataclass(frozen=True, slots=True)
class DataNeed(Record):
    """A piece of data that a model will ask for.

    Attributes
    ----------
    data_id : str
        Its id at the data coordinator.
    size_bytes : int
        How large it is.
    resident, fetching : bool
        Whether it is within reach of the model already, or on its way.
    next_use_at : float, optional
        When it is needed next by the gaps between its uses; None where these say nothing.
    fetch_s : float
        How long bringing it takes, measured or estimated.
    share : float
        How many of the model's batches use it, 0 to 1.
    max_age_s : float, optional
        How old a copy may be; None if age does not matter.
    """

    data_id: str
    size_bytes: int = 0
    resident: bool = False
    fetching: bool = False
    next_use_at: Optional[float] = None
    fetch_s: float = 0.0
    share: float = 0.0
    max_age_s: Optional[float] = None

    def __post_init__(self) -> None:
        check_id("data_id", self.data_id)
        check_number("size_bytes", self.size_bytes, minimum=0)
        check_number("share", self.share, minimum=0, maximum=1)


@dataclass(frozen=True, slots=True)
class ModelState(Record):
    """One model: what it needs, what waits for it, what it has.

    Attributes
    ----------
    model_id : str
        The model.
    priority : int
        Its own priority, 1 to 5 (smaller is more urgent).
    demand : Resources
        What one replica (one batch running) takes.
    objective_s : float
        How long a request may take from arrival to answer.
    queued, running : int
        Requests that wait; batches that run.
    oldest_wait_s : float
        How long the oldest of the queued has waited.
    arrivals : tuple of float
        Requests that came to intake in each step of `step_s` (before any throttling), oldest first; the last
        step ends at the snapshot.
    step_s : float
        Length of such a step.
    forecast : DemandForecast, optional
        What is expected.
    service_s, service_p90_s : float, optional
        Measured seconds of a replica per request (a batch's run time over its requests): mean and 0.9
        quantile; None before the first measurement.
    batch_size : float
        Requests that run together.
    cold_start_s : float
        Measured seconds from the decision to a replica that answers.
    replicas : int
        Replicas for which resources are reserved.
    starting : int
        How many of these have not loaded the model yet.
    parallelism : int
        How many batches of it may run at once.
    boosted_to : int, optional
        The priority it was lifted to, None if it runs at its own.
    batch_window_s : float
        How long intake waits for more requests before it closes a batch.
    admission_per_s : float, optional
        Requests a second that intake lets through; None for all.
    data : tuple of DataNeed
        Data it will ask for.
    """

    model_id: str
    priority: int = 3
    demand: Resources = NOTHING
    objective_s: float = 10.0
    queued: int = 0
    running: int = 0
    oldest_wait_s: float = 0.0
    arrivals: Tuple[float, ...] = ()
    step_s: float = 1.0
    forecast: Optional[DemandForecast] = None
    service_s: Optional[float] = None
    service_p90_s: Optional[float] = None
    batch_size: float = 1.0
    cold_start_s: float = 0.0
    replicas: int = 0
    starting: int = 0
    parallelism: int = 1
    boosted_to: Optional[int] = None
    batch_window_s: float = 0.0
    admission_per_s: Optional[float] = None
    data: Tuple[DataNeed, ...] = ()

    def __post_init__(self) -> None:
        check_id("model_id", self.model_id)
        check_priority(self.priority)
        check_number("objective_s", self.objective_s, minimum=1e-6)
        check_number("step_s", self.step_s, minimum=1e-9)
        check_number("batch_size", self.batch_size, minimum=1)
        for name in (
            "queued",
            "running",
            "oldest_wait_s",
            "cold_start_s",
            "replicas",
            "starting",
            "parallelism",
            "batch_window_s",
        ):
            check_number(name, getattr(self, name), minimum=0)
        for name in ("service_s", "service_p90_s", "admission_per_s"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), minimum=0)
        for count in self.arrivals:
            check_number("arrivals", count, minimum=0)

    def arrived(self, start: float, end: float, at: float) -> Optional[float]:
        """Return how many requests arrived from `start` to `end`, or None where the counts do not reach.

        Parameters
        ----------
        start, end : float
            The window.
        at : float
            The snapshot's moment, where the last step of `arrivals` ends.
        """
        first = at - self.step_s * len(self.arrivals)
        if start < first - 1e-6 or end > at + 1e-6:
            return None
        return overlap_sum(self.arrivals, first, self.step_s, start, end)


@dataclass(frozen=True, slots=True)
class SchedulerState(Record):
    """The scheduler's queue: ``by_priority`` holds (priority, queued, running)."""

    queued: int = 0
    running: int = 0
    oldest_wait_s: float = 0.0
    by_priority: Tuple[Tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class HostState(Record):
    """One host as measured: shares of its CPU and memory in use, 0 to 1."""

    host: str
    cpu_share: float = 0.0
    memory_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot(Record):
    """The cluster and every model at one moment.

    Attributes
    ----------
    tick : int
        Which turn of the loop this is.
    at : float
        When.
    total, free : Resources
        The cluster's resources, and what nobody holds (idle leases of the scheduler count as free); negative
        where a lost node leaves more held than there is.
    models : tuple of ModelState
        Each model once.
    scheduler : SchedulerState
        The queue.
    hosts : tuple of HostState
        Measured use.
    data_free_bytes : int
        Room left in the data coordinator's budget.
    autoscaling : bool
        Whether somebody listens when nodes are asked for.
    nodes_asked : tuple of (Resources, int)
        The bundles that were asked of the autoscaler last.
    """

    tick: int
    at: float
    total: Resources = NOTHING
    free: Resources = NOTHING
    models: Tuple[ModelState, ...] = ()
    scheduler: SchedulerState = SchedulerState()
    hosts: Tuple[HostState, ...] = ()
    data_free_bytes: int = 0
    autoscaling: bool = False
    nodes_asked: Tuple[Tuple[Resources, int], ...] = ()

    def __post_init__(self) -> None:
        check_number("at", self.at)
        ids = [model.model_id for model in self.models]
        if len(set(ids)) != len(ids):
            raise Conflict("a snapshot names a model twice", models=sorted(ids))

    def model(self, model_id: str) -> Optional[ModelState]:
        """Return the model of that id, or None."""
        return next((model for model in self.models if model.model_id == model_id), None)


def overlap_sum(counts: Tuple[float, ...], first: float, step_s: float, start: float, end: float) -> float:
    """Return the part of `counts` (steps from `first` on) that lies between `start` and `end`.

    Examples
    --------
    >>> overlap_sum((10.0, 20.0), 0.0, 1.0, 0.5, 1.5)
    15.0
    """
    low = max(0, int((start - first) // step_s))
    high = min(len(counts), int((end - first) // step_s) + 1)
    total = 0.0
    for index in range(low, high):
        begins = first + index * step_s
        share = (min(end, begins + step_s) - max(start, begins)) / step_s
        if share > 1e-9:
            total += counts[index] * min(1.0, share)
    return total
