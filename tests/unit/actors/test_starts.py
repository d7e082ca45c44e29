"""What was measured of starts, and what follows from it."""

from __future__ import annotations

import json

from actors.starts import Starts


def test_a_replica_takes_as_long_as_nine_tenths_did() -> None:
    """The 0.9 quantile of what was seen; the last known where nothing was lately; any executor's where nothing is."""
    starts = Starts()
    assert starts.replica_s("m", [], None) == 0.0
    assert starts.replica_s("m", [], 0.5) == 0.5
    assert starts.replica_s("m", [float(n) for n in range(1, 11)], 0.5) == 9.0
    assert starts.replica_s("m", [], 0.5) == 9.0
    assert starts.replica_s("other", [], 0.5) == 0.5


def test_only_nodes_that_were_asked_for_count() -> None:
    """A node that comes by itself says nothing; of several that were asked for each counts when it comes."""
    starts = Starts()
    starts.look(0.0, 2.0)
    starts.look(5.0, 4.0)
    assert starts.node_s == 0.0
    starts.asked(10.0, 6.0)
    starts.asked(11.0, 6.0)
    starts.asked(12.0, 8.0)
    starts.look(14.0, 6.0)
    assert starts.node_s == 4.0
    starts.look(15.0, 4.0)
    starts.look(20.0, 8.0)
    assert starts.node_s == 8.0


def test_nodes_are_measured_though_the_cluster_never_becomes_as_large_as_was_wished() -> None:
    """More is wished for than the autoscaler may start: those that come tell how long one takes, all the same."""
    starts = Starts()
    starts.look(0.0, 2.0)
    starts.asked(1.0, 7.0)
    starts.look(4.0, 2.0)
    assert starts.node_s == 0.0
    starts.look(8.0, 4.0)
    assert starts.node_s == 7.0
    starts.look(9.0, 6.0)
    assert starts.node_s == 8.0


def test_a_wish_that_was_taken_back_is_not_awaited() -> None:
    """A cluster that grows long after nobody wants it to has not taken so long to start; nor has one that is there."""
    starts = Starts()
    starts.look(0.0, 4.0)
    starts.asked(1.0, 3.0)
    starts.look(1.5, 4.0)
    starts.asked(2.0, 8.0)
    starts.asked(3.0, 0.0)
    starts.look(100.0, 8.0)
    assert starts.node_s == 0.0


def test_it_survives_a_restart() -> None:
    """What is remembered is JSON, and gives the same answers."""
    starts = Starts()
    starts.look(0.0, 2.0)
    starts.asked(1.0, 4.0)
    starts.look(4.0, 4.0)
    starts.replica_s("m", [2.5], None)
    again = Starts.from_dict(json.loads(json.dumps(starts.to_dict())))
    assert (again.node_s, again.replica_s("m", [], 0.5)) == (3.0, 2.5)
