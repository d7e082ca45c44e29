"""How long ``balance up`` takes until every actor has answered, against a bare Ray with as many empty actors.

Both run in processes of their own, in turn, so that both meet the same machine.  The bar is a ratio of 3.
Run it as a script for the figures, or with ``make bench``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

import pytest

ROUNDS = 3
BAR = 3.0

BARE = """
import logging, ray
from actors.roles import ROLES
from actors.system import LOOPBACK

@ray.remote(num_cpus=0)
class Empty:
    def ping(self):
        return True

ray.init("local", include_dashboard=True, _node_ip_address=LOOPBACK, logging_level=logging.ERROR, log_to_driver=False)
ray.get([actor.ping.remote() for actor in [Empty.remote() for _ in ROLES]])
print("ready", flush=True)
ray.shutdown()
"""


def seconds_until_ready(command: list[str], env: dict[str, str]) -> float:
    """Return the time from starting `command` until it says something, and wait for its end."""
    began = time.monotonic()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        took = time.monotonic() - began
        process.stdout.read()
    assert process.returncode == 0 and said, said
    return took


def rounds() -> tuple[list[float], list[float]]:
    """Return the seconds of each round: of ``balance up``, and of the bare Ray."""
    up: list[float] = []
    bare: list[float] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "BALANCE_STATE_DIR": folder}
            balance = [sys.executable, "-m", "actors.cli"]
            up.append(seconds_until_ready([*balance, "up"], env))
            subprocess.run([*balance, "down", "--drain", "0"], env=env, check=True, stdout=subprocess.DEVNULL)
            bare.append(seconds_until_ready([sys.executable, "-c", BARE], env))
    return up, bare


def report(up: list[float], bare: list[float]) -> float:
    """Print the figures and return the ratio of the medians."""
    ratio = statistics.median(up) / statistics.median(bare)
    for name, values in (("balance up", up), ("bare Ray", bare)):
        print(f"{name:10}  " + "  ".join(f"{value:5.1f} s" for value in values))
    print(f"ratio of the medians {ratio:.2f} (bar: at most {BAR:g})")
    return ratio


@pytest.mark.cluster
@pytest.mark.benchmark(group="up")
def test_up_takes_at_most_three_times_a_bare_ray(benchmark: pytest.FixtureRequest) -> None:
    """The bar of three, on whatever machine this runs."""
    up, bare = benchmark.pedantic(rounds, rounds=1)  # type: ignore[attr-defined]
    assert report(up, bare) <= BAR


if __name__ == "__main__":
    report(*rounds())
