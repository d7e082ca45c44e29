"""Replicas that are there and on their way, and the line of requests before them, as a fluid.

The same few rules carry the guard's what-ifs, the projection of the queue to the horizon, and the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from balance.planning.record import Record


@dataclass(frozen=True, slots=True)
class Fleet(Record):
    """Replicas of one model, real or imagined.

    Attributes
    ----------
    ready : int
        Replicas that answer.
    orders : tuple of (float, int)
        When how many more will, soonest first.

    Examples
    --------
    >>> fleet = Fleet(2).towards(5, now=0.0, cold_start_s=60.0)
    >>> fleet.ready, fleet.starting, fleet.at(60.0).ready
    (2, 3, 5)
    >>> fleet.towards(3, now=15.0, cold_start_s=60.0), fleet.towards(1, now=15.0, cold_start_s=60.0)
    (Fleet(ready=2, orders=((60.0, 1),)), Fleet(ready=1, orders=()))
    """

    ready: int = 0
    orders: Tuple[Tuple[float, int], ...] = ()

    @property
    def starting(self) -> int:
        """How many are on their way."""
        return sum(count for _, count in self.orders)

    def at(self, moment: float) -> Fleet:
        """Return the fleet after the orders that are due by then have come."""
        if not self.orders or self.orders[0][0] > moment + 1e-9:
            return self
        due = sum(count for ready_at, count in self.orders if ready_at <= moment + 1e-9)
        return Fleet(self.ready + due, tuple(order for order in self.orders if order[0] > moment + 1e-9))

    def towards(self, target: int, now: float, cold_start_s: float) -> Fleet:
        """Return the fleet that is told to be of that size: more are started; the newest are the first to go."""
        more = target - self.ready - self.starting
        if more > 0:
            if cold_start_s <= 0:
                return Fleet(self.ready + more, self.orders)
            return Fleet(self.ready, tuple(sorted((*self.orders, (now + cold_start_s, more)))))
        orders = list(self.orders)
        while more < 0 and orders:
            ready_at, count = orders.pop()
            if count + more > 0:
                orders.append((ready_at, count + more))
            more += min(count, -more)
        return Fleet(self.ready + more, tuple(orders))

    def seen(self, ready: int, starting: int, now: float, cold_start_s: float) -> Fleet:
        """Return the fleet as it was observed, with the best guess of when those on their way will answer."""
        orders = list(self.at(now).orders)
        surplus = sum(count for _, count in orders) - starting
        while surplus > 0:  # they came early, or were called off: the oldest are the likeliest to be ready
            ready_at, count = orders.pop(0)
            if count > surplus:
                orders.insert(0, (ready_at, count - surplus))
            surplus -= count
        if surplus < 0:
            orders = sorted([*orders, (now + cold_start_s, -surplus)])
        return Fleet(ready, tuple(orders))


def served(queued: float, arrived: float, replicas: int, service_s: float, span_s: float) -> float:
    """Return how many requests wait after a span in which they came evenly.

    Examples
    --------
    >>> served(0.0, 300.0, 10, 1.0, 15.0), served(10.0, 30.0, 10, 1.0, 15.0)
    (150.0, 0.0)
    """
    return max(0.0, queued + arrived - (replicas * span_s / service_s if service_s > 0 else queued + arrived))


def late_share(before: float, after: float, replicas: int, service_s: float, objective_s: float) -> float:
    """Return the share of those who came while the queue went from `before` to `after` that wait too long.

    Examples
    --------
    >>> late_share(0.0, 200.0, 10, 1.0, 10.0), late_share(0.0, 50.0, 10, 1.0, 10.0), late_share(1.0, 2.0, 0, 1.0, 10.0)
    (0.5, 0.0, 1.0)
    """
    limit = objective_s * replicas / service_s if service_s > 0 else float("inf")
    low, high = min(before, after), max(before, after)
    if high <= limit:
        return 0.0
    if low >= limit:
        return 1.0
    return (high - limit) / (high - low)


def queue_ahead(
    fleet: Fleet, queued: float, rates: tuple[float, float], *, now: float, horizon_s: float, service_s: float
) -> float:
    """Return how many requests will wait after `horizon_s` if the fleet is left as it is.

    The arrivals go evenly from the first to the second of `rates`.

    Examples
    --------
    >>> queue_ahead(Fleet(10, ((60.0, 10),)), 0.0, (20.0, 20.0), now=0.0, horizon_s=90.0, service_s=1.0)
    600.0
    """
    if horizon_s <= 0 or service_s <= 0:
        return queued
    if queued <= 0 and max(rates) * service_s <= fleet.ready:
        return 0.0
    ready, start, slope = fleet.ready, 0.0, (rates[1] - rates[0]) / horizon_s
    for ready_at, count in (*fleet.orders, (now + horizon_s, 0)):
        end = min(max(ready_at - now, start), horizon_s)
        if end > start:
            arrived = (end - start) * (rates[0] + slope * (start + end) / 2)
            queued = served(queued, arrived, ready, service_s, end - start)
            start = end
        ready += count
    return queued
