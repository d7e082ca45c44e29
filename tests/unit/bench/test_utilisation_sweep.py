"""The sweep that tunes the rival in hindsight runs by the simulator's rules."""

from __future__ import annotations

import numpy as np
import pytest
from harness.utilisation_sweep import Setting, sweep

from balance.simulation.scaling import Demand, Scene, TargetUtilisation, simulate

SETTINGS = [Setting(0.7, 0.0, 0.0, 0.0), Setting(0.95, 60.0, 300.0, 0.0), Setting(1.0, 0.0, 0.0, 120.0)]


def test_one_pass_gives_what_each_policy_alone_gives():
    """Costs and misses of every setting are those that the simulator counts for that policy."""
    rng = np.random.default_rng(5)
    load = np.maximum(0.5, 8 + np.cumsum(rng.normal(0, 0.3, 500)))
    found = sweep(load, SETTINGS, step_s=15.0, cold_start_s=120.0, objective_s=10.0, warm_up=40)
    scene = Scene(Demand(tuple((load / 0.1).tolist())), cold_start_s=120.0, warm_up_s=600.0)
    for setting, (cost, missed) in zip(SETTINGS, found, strict=True):
        alone = simulate(
            scene,
            TargetUtilisation(
                setting.target, smooth_s=setting.smooth_s, hold_s=setting.hold_s, drain_s=setting.drain_s
            ),
        )
        assert cost == pytest.approx(alone.cost, rel=1e-6)
        assert missed == pytest.approx(alone.miss_share, abs=1e-4)
