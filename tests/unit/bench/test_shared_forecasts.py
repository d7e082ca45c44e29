"""What many policies share is what each would have found alone."""

from __future__ import annotations

import numpy as np
from harness.shared_forecasts import shared_forecasts

from balance.planning.scaling import Expectations, Observation, ScalingPolicy
from balance.planning.scaling.state import FRESH
from balance.simulation.scaling import Balanced, Demand, Scene, simulate, simulate_all


def test_sharing_changes_nothing_but_the_work(monkeypatch):
    """Each coverage decides as it does alone, and what is expected is computed once for all of them."""
    rng = np.random.default_rng(3)
    load = 8 + np.abs(np.cumsum(rng.normal(0, 0.3, 300)))
    scene = Scene(Demand(tuple((load / 0.1).tolist())), cold_start_s=120.0, warm_up_s=600.0)
    policies = [ScalingPolicy(coverage=each, season_s=1800.0) for each in (0.5, 0.9, 0.99)]
    alone = [simulate(scene, Balanced(policy)) for policy in policies]
    assert len({made.replica_s for made in alone}) == 3

    original, computed = Expectations.after, []
    monkeypatch.setattr(Expectations, "after", lambda *given: computed.append(1) or original(*given))
    with shared_forecasts():
        together = simulate_all(scene, [Balanced(policy, FRESH) for policy in policies])
    assert together == alone
    assert len(computed) == 299


def test_nothing_is_shared_between_different_pasts():
    """The same count at the same moment says something else to whoever saw another past."""
    seen, policy = Observation(30.0, cold_start_s=60.0), ScalingPolicy()
    with shared_forecasts():
        busy = Expectations().after(40.0, 15.0, seen, policy)
        quiet = Expectations().after(10.0, 15.0, seen, policy)
        both = [past.after(20.0, 30.0, seen, policy) for past in (busy, quiet, quiet)]
    assert [each.rates.recent for each in both] == [(40.0, 20.0), (10.0, 20.0), (10.0, 20.0)]
    assert both[1] is both[2]
