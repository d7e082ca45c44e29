"""Peer: how long a task of priority 1 waits through ``balance.Client``, idle and behind tasks of priority 5."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
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


class Backlog:
    """The other program, and whether its tasks still wait."""

    def __init__(self, backlog: int) -> None:
        import ray

        address = ray.get_runtime_context().gcs_address
        script = Path(__file__).with_name("backlog_balance.py")
        self._program = subprocess.Popen(
            [sys.executable, str(script), json.dumps({"address": address, "backlog": backlog})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[str] = queue.Queue()
        self.waits = False
        threading.Thread(target=self._listen, daemon=True).start()
        self._expect("ready")

    def _listen(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            if line.strip() == "over":
                self.waits = False
            else:
                self._said.put(line.strip())

    def _expect(self, word: str) -> None:
        while self._said.get(timeout=60.0) != word:
            pass

    def wave(self, nap_s: float) -> None:
        """Have it submit its tasks, and return when they are accepted."""
        assert self._program.stdin is not None
        self.waits = True
        self._program.stdin.write(f"{nap_s}\n")
        self._program.stdin.flush()
        self._expect("waiting")

    def end(self) -> None:
        """End it, whatever still waits."""
        self._program.kill()
        self._program.communicate()


def urgent(client: Any, given: dict[str, Any], count: int, goes_on: Callable[[], bool] = lambda: True) -> list[Sample]:
    """Take samples of priority 1, while it `goes_on`."""
    submitter = client.options(priority=1)
    return take(
        lambda: submitter.submit(work, 0.0),
        lambda future: float(future.result()),
        count=count,
        every_s=given["every_s"],
        goes_on=goes_on,
    )


def behind(client: Any, given: dict[str, Any], nap_s: float) -> list[Sample]:
    """Take samples while tasks of priority 5 wait; as many waves of these as it takes for the samples."""
    samples: list[Sample] = []
    backlog = Backlog(given["backlog"])
    try:
        for _ in range(WAVES_MAX):
            backlog.wave(nap_s)
            samples += urgent(client, given, given["samples"] - len(samples), lambda: backlog.waits)
            if len(samples) >= given["samples"]:
                break
            while backlog.waits:
                time.sleep(0.01)
    finally:
        backlog.end()
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
