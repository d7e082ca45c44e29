"""Peer: no-op tasks through ``balance.Client``, each with an id and a priority, durable before it is acknowledged."""

from __future__ import annotations

import tempfile
import time

from harness.visits import options, tell


def noop(number: int) -> int:
    """Do nothing."""
    return number


def main() -> None:
    """Measure rounds of ``map`` and ``gather`` on a Balance of this process, after a warm-up that is not measured."""
    from actors.system import System
    from balance import Client
    from balance.config import Settings

    given = options()
    count = given["tasks"]
    with tempfile.TemporaryDirectory(prefix="bal-") as folder:
        system = System.launch(Settings(state_dir=folder), dashboard=False)
        try:
            with Client() as client:
                client.gather(client.map(noop, range(2000)))
                for turn in range(given["rounds"]):
                    ids = [f"noop-{turn}-{number}" for number in range(count)]
                    priorities = [1 + number % 5 for number in range(count)]
                    began = time.perf_counter()
                    futures = client.map(noop, range(count), ids=ids, priorities=priorities)
                    acknowledged = time.perf_counter() - began
                    results = client.gather(futures)
                    took = time.perf_counter() - began
                    assert results == list(range(count))
                    tell(row="Balance", tasks=count, total_s=took, acknowledged_s=acknowledged)
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
