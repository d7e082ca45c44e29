"""Peer: how long a task of priority 1 waits through ``balance.Client``, idle and behind tasks of priority 5."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from harness.latency import Sample, take
from harness.visits import options, tell

WAVES_MAX = 200


def work(seconds: float) -> float:
    """Say when this began, and take so long."""
    begun = time.time()
    if seconds:
        time.sleep(seconds)
    return begun


def urgent(client: Any, given: dict[str, Any], count: int, waits: Any = None) -> list[Sample]:
    """Take samples of priority 1, while the task `waits`, if there is one, is not done."""
    submitter = client.options(priority=1)
    return take(
        lambda: submitter.submit(work, 0.0),
        lambda future: float(future.result()),
        count=count,
        every_s=given["every_s"],
        goes_on=lambda: waits is None or not waits.done(),
    )


def behind(client: Any, given: dict[str, Any], nap_s: float) -> list[Sample]:
    """Take samples while tasks of priority 5 wait; as many waves of these as it takes for the samples."""
    samples: list[Sample] = []
    for _ in range(WAVES_MAX):
        backlog = client.options(priority=5).map(work, [nap_s] * given["backlog"])
        samples += urgent(client, given, given["samples"] - len(samples), backlog[-1])
        client.cancel(backlog)
        client.wait(backlog)
        if len(samples) >= given["samples"]:
            break
    return samples


def main() -> None:
    """Measure on an idle system, then behind a backlog of each kind."""
    from actors.system import System
    from balance import Client
    from balance.config import Settings

    given = options()
    with tempfile.TemporaryDirectory(prefix="bal-") as folder:
        system = System.launch(Settings(state_dir=folder), dashboard=False)
        try:
            with Client() as client:
                client.gather(client.map(work, [0.0] * 500))
                urgent(client, given, 50)
                for nap_s in [None, *given["naps_s"]]:
                    idle = nap_s is None
                    samples = urgent(client, given, given["samples"]) if idle else behind(client, given, nap_s)
                    tell(
                        row="Balance",
                        nap_s=nap_s,
                        begun_s=[sample.begun_s for sample in samples],
                        answered_s=[sample.answered_s for sample in samples],
                    )
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
