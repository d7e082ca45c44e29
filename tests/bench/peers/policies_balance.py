"""Peer: large tasks behind small ones, and tenants with weights, through a running Balance."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from harness.visits import options, tell
from policies_common import hold, judged, order

WEIGHTS = {"a": 1, "b": 2, "c": 4}


def behind_small_ones(client: Any, given: dict[str, Any]) -> None:
    """Submit everything at once: the small ones that come later are there from the beginning."""
    devices = order(given["large"], given["tail"])
    submitters = {need: client.options(cpu=0, gpu=need, name=f"holds-{need}") for need in (1, 2)}
    futures = [submitters[need].submit(hold, given["run_s"]) for need in devices]
    tell(row="Balance", what="large", **judged(devices, client.gather(futures, timeout=300)))


def side_by_side(client: Any, given: dict[str, Any]) -> None:
    """Let three tenants ask for more than there is; look at what they held while all of them still waited."""
    futures = {
        tenant: client.options(cpu=0, gpu=1, tenant=tenant, name="share").map(hold, [given["share_s"]] * given["each"])
        for tenant in WEIGHTS
    }
    spans = {tenant: client.gather(list(each), timeout=300) for tenant, each in futures.items()}
    until = min(max(start for start, _ in each) for each in spans.values())
    since = min(start for each in spans.values() for start, _ in each) + given["settle_s"]
    held = {
        tenant: sum(max(0.0, min(end, until) - max(start, since)) for start, end in each)
        for tenant, each in spans.items()
    }
    total = sum(held.values())
    in_use = total / (2 * (until - since))
    tell(row="Balance", what="shares", shares={t: part / total for t, part in held.items()}, in_use=in_use)


def main() -> None:
    """Start Balance on two logical devices and measure both."""
    from actors.system import System
    from balance import Client
    from balance.config import Settings

    given = options()
    with tempfile.TemporaryDirectory(prefix="bal-") as folder:
        tenants = ",".join(f"{tenant}={weight}" for tenant, weight in WEIGHTS.items())
        settings = Settings(state_dir=folder, tenants=tenants)
        system = System.launch(settings, num_cpus=2, num_gpus=2, dashboard=False)
        try:
            with Client() as client:
                warm = {need: client.options(cpu=0, gpu=need) for need in (1, 2)}
                client.gather([warm[need].submit(hold, 0.1) for need in (1, 1, 2, 1, 1, 2)])
                behind_small_ones(client, given)
                side_by_side(client, given)
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
