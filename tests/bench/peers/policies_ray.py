"""Peer: large tasks behind small ones on plain Ray."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness.visits import options, tell
from policies_common import hold, judged, order


def main() -> None:
    """Submit everything at once, as to Balance."""
    import ray

    given = options()
    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        asked = {need: ray.remote(num_cpus=0, num_gpus=need)(hold) for need in (1, 2)}
        ray.get([asked[need].remote(0.1) for need in (1, 1, 2, 1, 1, 2)])
        devices = order(given["large"], given["tail"])
        spans = ray.get([asked[need].remote(given["run_s"]) for need in devices], timeout=300)
        tell(row="Ray", what="large", **judged(devices, spans))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
