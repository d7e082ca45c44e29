"""Nodes that are there before the load: a cluster with Ray's autoscaler, led by the forecast and by the reactive rule.

    python tests/bench/bench_autoscaling.py [--periods 2] [--period 42] [--coverage 0.6] [--json FILE]

A head and up to two more nodes, each a real raylet with two logical cores that takes seconds to start (Ray's fake
multi-node provider, on this machine).  A model's load rises from 0.6 to 6 requests a second, half a second of work
each, for two fifths of every period; ten periods have been recorded before.  The balancer asks Ray's autoscaler
for nodes (`request_resources`); how long one takes was measured before the first play, and each play begins with
all nodes there.  The same requests come in both; one misses when its answer takes more than three seconds.
Node-seconds are those of the nodes beside the head.

Which coverage: see `bench_scaling_ray`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from harness.machine import Machine
from harness.periods import Given, against, command_line, paid, waits
from harness.table import Report

PEER, USUAL = "autoscaling_balance", Given(periods=2, period_s=42, coverage=0.6)
OWN, EACH, ENOUGH = 2.0, 2.0, 6.0
"""The cores of the head and of each other node, and how many the high load needs."""


def ahead_s(cores: list[list[float]], since: float, rise: float) -> float | None:
    """Return how many seconds before a rise of the load there were cores enough, and stayed.

    Parameters
    ----------
    cores : list of [float, float]
        Moments and cores there.
    since, rise : float
        When the load last fell, and when it rises.

    Returns
    -------
    float or None
        Negative: so long after it.  Infinite: they had been there ever since the fall.  None: they never came.

    Examples
    --------
    >>> cores = [[0.0, 6.0], [9.0, 2.0], [20.0, 6.0], [45.0, 2.0], [70.0, 4.0], [80.0, 6.0]]
    >>> ahead_s(cores, since=0.0, rise=27.0), ahead_s(cores, since=45.0, rise=72.0)
    (7.0, -8.0)
    >>> ahead_s([[0.0, 6.0], [27.0, 6.0]], since=0.0, rise=27.0), ahead_s([[0.0, 2.0]], since=0.0, rise=27.0)
    (inf, None)
    """
    before = [(at, there) for at, there in cores if at <= rise]
    if before and before[-1][1] >= ENOUGH:
        lacked = max((number for number, (_, there) in enumerate(before) if there < ENOUGH), default=-1)
        came = before[lacked + 1][0]
        return rise - came if lacked >= 0 and came > since else math.inf
    return next((rise - at for at, there in cores if at > rise and there >= ENOUGH), None)


def in_words(ahead: float | None) -> str:
    """Return how far ahead nodes were there.

    Examples
    --------
    >>> [in_words(each) for each in (7.0, -8.0, math.inf, None)]
    ['+7.0', '-8.0', 'kept', 'never']
    """
    if ahead is None:
        return "never"
    return "kept" if math.isinf(ahead) else f"{ahead:+.1f}"


def report(found: list[dict[str, Any]], given: Given, machine: Machine) -> Report:
    """Make the table, and look whether the forecast had the nodes there in time."""
    table = Report(
        f"A cluster that grows: nodes before the load, coverage {given.coverage:g}",
        ["led by", "requests", "missed", "p50 s", "p95 s", "node-seconds", "nodes there before each rise, s"],
        machine,
    )
    points, aheads = {}, {}
    for each in found:
        who, rises = each["who"], each["rises"]
        cost = paid([[at, (there - OWN) / EACH] for at, there in each["cores"]])
        points[who] = each["missed"], cost
        falls = [0.0, *each["falls"]]
        aheads[who] = [ahead_s(each["cores"], fall, rise) for fall, rise in zip(falls, rises, strict=False)]
        shown = ", ".join(map(in_words, aheads[who]))
        table.add(who, each["sent"], each["missed"], *waits(each["latency_s"]), round(cost), shown)
    table.facts = {
        "measured start of a node, s": [round(each["node_start_s"], 1) for each in found],
        "actions that failed": sum(each["failures"] for each in found),
        "requests that failed": sum(each["failed"] for each in found),
    }
    table.bar(
        "forecast-led, the nodes are there before each rise of the load",
        ", ".join(map(in_words, aheads["forecast"])) + " s",
        met=all(ahead is not None and ahead >= 0 for ahead in aheads["forecast"]),
    )
    against(table, "the reactive rule", "node-seconds", points["forecast"], points["reactive"])
    return table


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.benchmark(group="autoscaling")
def test_nodes_are_there_before_the_load(benchmark: Any) -> None:
    """Both bars."""
    found = benchmark.pedantic(USUAL.measure, args=(PEER,), rounds=1)
    table = report(found, USUAL, Machine.here("ray"))
    print(f"\n{table}")
    assert table.met


if __name__ == "__main__":
    command_line(__doc__, PEER, USUAL, report)
