"""How many replicas a load needs: Erlang's delay formula, as call centres staff by it.

With requests at rate λ and a mean service time s, the offered load is a = λs.  With c replicas the share
of requests that have to wait at all is Erlang C(c, a), and of those the wait is exponential:
P(wait > t) = C(c, a)·exp(-(c - a)·t/s)  (A. K. Erlang 1917; L. Kleinrock, "Queueing Systems" I, 1975,
section 3.8).  The smallest c that keeps P(wait > t) small grows as a + β·√a: the square-root staffing rule (S. Halfin,
W. Whitt 1981).  Service times are taken as exponential, which is the careful side for times that vary
less; for a heavier tail the exponential with the measured 0.9 quantile is taken.
"""

from __future__ import annotations

import math

_LN_10 = math.log(10.0)


def waits(servers: int, load: float, service_s: float, wait_s: float) -> float:
    """Return the share of requests that wait longer than `wait_s`; 1.0 where the load is too much.

    Parameters
    ----------
    servers : int
        Replicas.
    load : float
        Offered load in Erlang: requests a second times seconds each.
    service_s : float
        Mean seconds of one request on one replica.
    wait_s : float
        The wait that is still good.

    Examples
    --------
    >>> round(waits(1, 0.5, 1.0, 0.0), 3), round(waits(2, 1.0, 1.0, 0.0), 3), waits(2, 2.0, 1.0, 5.0)
    (0.5, 0.333, 1.0)
    """
    if load >= servers:
        return 1.0
    return _delayed(servers, load, _blocking(servers, load), service_s, wait_s)


def replicas_for(
    rate: float,
    service_s: float,
    wait_s: float,
    *,
    p90_s: float | None = None,
    on_time: float = 0.95,
    max_utilisation: float = 0.9,
    limit: int = 1000,
) -> int:
    """Return the fewest replicas that start `on_time` of the requests within `wait_s`.

    Never fewer for a higher rate, a longer service or a shorter wait.  O(result).

    Parameters
    ----------
    rate : float
        Requests a second.
    service_s : float
        Mean seconds of one request on one replica.
    wait_s : float
        The wait that is still good.
    p90_s : float, optional
        The 0.9 quantile of the service time.
    on_time : float
        Share of requests that shall start in time.
    max_utilisation : float
        Highest share of a replica's time that may be busy.
    limit : int
        The most that is ever returned.

    Examples
    --------
    >>> replicas_for(0.0, 1.0, 1.0), replicas_for(4.0, 1.0, 1.0), replicas_for(100.0, 1.0, 1.0)
    (0, 6, 112)
    """
    mean_s = max(service_s, (p90_s or 0.0) / _LN_10)
    load = rate * mean_s
    if load <= 0:
        return 0
    if load >= limit * max_utilisation:
        return limit
    servers = max(1, math.ceil(load / max_utilisation - 1e-9))
    # Even if everybody had to wait: most of the time this says enough, and Erlang's recursion is not needed.
    if servers > load and math.exp(-(servers - load) * wait_s / mean_s) <= 1.0 - on_time:
        return min(limit, servers)
    blocking = _blocking(servers, load)
    while servers < limit and _delayed(servers, load, blocking, mean_s, wait_s) > 1.0 - on_time:
        servers += 1
        blocking = load * blocking / (servers + load * blocking)
    return servers


def _blocking(servers: int, load: float) -> float:
    """Return Erlang B by its stable recursion."""
    blocking = 1.0
    for n in range(1, servers + 1):
        blocking = load * blocking / (n + load * blocking)
    return blocking


def _delayed(servers: int, load: float, blocking: float, service_s: float, wait_s: float) -> float:
    spare = servers - load
    delayed = servers * blocking / (spare + load * blocking)
    return delayed * math.exp(-spare * wait_s / service_s) if service_s > 0 else 0.0
