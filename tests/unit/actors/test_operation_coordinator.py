"""What the operation coordinator makes of a function that came by pickle."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from ray import cloudpickle
from actors.operation_coordinator import settled
from balance.client.wire import Function

blob = cloudpickle.loads({blob!r})
twice = [cloudpickle.loads(blob) for _ in range(2)]
print(len({{Function.of(each).digest for each in twice}}), len({{Function.of(settled(each)).digest for each in twice}}))
print(Function.of(settled(twice[0])).digest)
"""

SENDER = """
from ray import cloudpickle

def act(wholly_uncommon_name: str, other_uncommon_name: float) -> str:
    return wholly_uncommon_name

print(cloudpickle.dumps(cloudpickle.dumps(act)))
"""


def run(script: str) -> str:
    """Run a script in a process that has interned nothing yet, and return what it printed."""
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def test_a_function_that_comes_again_is_the_same_call():
    """Ray makes a call again when the actor dies: here, and in the next process, it has the same hash."""
    blob = eval(run(SENDER))
    first, again = run(SCRIPT.format(blob=blob)).split("\n")[:2], run(SCRIPT.format(blob=blob)).split("\n")[:2]
    assert first == again
    assert first[0] == "2 1", "without settling it has two hashes, else this test shows nothing"
