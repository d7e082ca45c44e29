"""Sizing and sharing against what is known about them."""

from __future__ import annotations

import math

import pytest

from balance.planning.sharing import Claim, fair_replicas, fits
from balance.planning.sizing import replicas_for, waits
from balance.types import Resources


@pytest.mark.parametrize(
    ("servers", "load", "want"),
    [(1, 0.9, 0.9), (2, 1.0, 1 / 3), (10, 8.0, 0.409), (5, 5.0, 1.0), (3, 9.0, 1.0)],
)
def test_erlang_c_has_its_published_values(servers, load, want):
    """P(wait) of M/M/c, from the tables; an overloaded system makes everybody wait."""
    assert waits(servers, load, 1.0, 0.0) == pytest.approx(want, abs=0.002)


def test_erlang_c_equals_its_definition():
    """The recursion gives what the sum of the textbook gives."""
    for servers in range(1, 30):
        load = 0.8 * servers
        terms = [load**n / math.factorial(n) for n in range(servers)]
        last = load**servers / math.factorial(servers) * servers / (servers - load)
        assert waits(servers, load, 2.0, 0.0) == pytest.approx(last / (sum(terms) + last))


@pytest.mark.parametrize("rate", [0.3, 4.0, 20.0, 150.0])
def test_fewest_replicas_that_keep_the_promise(rate):
    """The result keeps the share of late starts and the utilisation; one fewer would not."""
    count = replicas_for(rate, 1.0, 0.5)
    assert waits(count, rate, 1.0, 0.5) <= 0.05
    assert rate / count <= 0.9
    assert count == 1 or waits(count - 1, rate, 1.0, 0.5) > 0.05 or rate / (count - 1) > 0.9


def test_spare_grows_as_the_square_root():
    """Halfin and Whitt: a hundred times the load needs ten times the spare replicas."""
    spare = [replicas_for(load, 1.0, 0.0, max_utilisation=0.99, limit=9999) - load for load in (25.0, 2500.0)]
    assert spare[1] / spare[0] == pytest.approx(10.0, rel=0.25)


def test_a_heavy_tail_counts():
    """A service time with a high 0.9 quantile needs more replicas than its mean says."""
    assert replicas_for(10.0, 1.0, 1.0, p90_s=6.0) > replicas_for(10.0, 1.0, 1.0, p90_s=2.0)
    assert replicas_for(1e9, 1.0, 1.0, limit=50) == 50
    assert replicas_for(5.0, 0.0, 1.0) == 0


def test_dominant_resource_fairness_of_the_paper():
    """The example of the paper: 9 CPUs and 18 GB give A (1 CPU, 4 GB) three and B (3 CPUs, 1 GB) two."""
    claims = [
        Claim("A", Resources.demand(cpu=1, memory=4), 99, 1.0),
        Claim("B", Resources.demand(cpu=3, memory=1), 99, 1.0),
    ]
    assert fair_replicas(claims, Resources.capacity(cpu=9, memory=18)) == {"A": 3, "B": 2}


def test_what_the_cluster_does_not_have_is_not_granted():
    """A model that needs a device the cluster lacks gets nothing and stops nobody."""
    claims = [Claim("gpu", Resources.demand(gpu=1), 2, 9.0), Claim("cpu", Resources.demand(cpu=1), 2, 1.0)]
    assert fair_replicas(claims, Resources.capacity(cpu=4)) == {"gpu": 0, "cpu": 2}


def test_a_demand_of_nothing_always_fits():
    """Replicas that take nothing are granted as wanted."""
    assert fair_replicas([Claim("free", Resources(), 3, 1.0)], Resources()) == {"free": 3}
    assert fits(Resources(), Resources(), 7) == 7
    assert fits(Resources.demand(cpu=1), Resources() - Resources.demand(cpu=2), 7) == 0
