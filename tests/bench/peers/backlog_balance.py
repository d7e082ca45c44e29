"""Another program beside the one that is measured: whose many tasks of priority 5 the urgent ones wait behind."""

from __future__ import annotations

import sys
import time

from harness.visits import options


def work(seconds: float) -> float:
    """Say when this began, and take so long."""
    begun = time.time()
    if seconds:
        time.sleep(seconds)
    return begun


def main() -> None:
    """Submit a wave for each line of the input; say when its tasks wait, and when the last of them is over."""
    from balance import Client

    given = options()
    with Client(given["address"]) as client:
        submitter = client.options(priority=5)
        print("ready", flush=True)
        for line in sys.stdin:
            futures = submitter.map(work, [float(line)] * given["backlog"])
            print("waiting", flush=True)
            client.gather(futures)
            print("over", flush=True)


if __name__ == "__main__":
    main()
