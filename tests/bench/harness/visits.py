"""Peers, each measured in fresh processes, in turn: whatever disturbs the machine disturbs all of them.

A peer is a script that takes its options as one JSON argument and says what it measured with `tell`.  A
*visit* is one run of it.  The processes that a visit leaves behind are ended with it: its children, theirs,
and whoever belongs to the session that it leads.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

MARK = "@measured "
"""What a line of figures begins with; a peer's libraries print whatever else they like."""

END_S = 5.0
"""How long what was ended may take to be gone."""

PEERS = Path(__file__).parents[1] / "peers"


def options() -> dict[str, Any]:
    """Return, in a peer's process, what it was asked to do."""
    given: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    return given


def tell(**figures: Any) -> None:
    """Say, in a peer's process, what was measured."""
    print(MARK + json.dumps(figures), flush=True)


def read(output: str) -> list[dict[str, Any]]:
    """Return the figures in what a peer printed.

    Examples
    --------
    >>> read('hello' + chr(10) + '@measured {"s": 1.5}' + chr(10))
    [{'s': 1.5}]
    """
    return [json.loads(line.removeprefix(MARK)) for line in output.splitlines() if line.startswith(MARK)]


def visit(peer: str, given: Mapping[str, Any], *, timeout_s: float = 600.0) -> list[dict[str, Any]]:
    """Run one peer in a process of its own and return what it measured.

    Parameters
    ----------
    peer : str
        The script's name in ``tests/bench/peers``, without ``.py``.
    given : mapping
        Its options, JSON values.
    timeout_s : float
        After so many seconds it is ended.

    Raises
    ------
    RuntimeError
        It failed, measured nothing or took too long; the message has the end of what it printed.
    """
    script = PEERS / f"{peer}.py"
    process = subprocess.Popen(
        [sys.executable, str(script), json.dumps(dict(given))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment()},
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        end_family(process.pid)
        output, _ = process.communicate()
        raise RuntimeError(f"{peer} took more than {timeout_s:g} s; it had printed:\n{output[-2000:]}") from None
    finally:
        end_family(process.pid)
        process.wait()
    figures = read(output)
    if process.returncode != 0 or not figures:
        raise RuntimeError(f"{peer} ended with {process.returncode}; it had printed:\n{output[-4000:]}")
    return figures


def environment() -> dict[str, str]:
    """Return the variables that a peer's process needs beyond its parent's."""
    here = str(Path(__file__).parents[1])
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or each worker builds an environment of its own
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def end_family(leader: int) -> None:
    """End a process, its descendants, and what is left of the session that it leads."""
    family = {leader}
    with contextlib.suppress(psutil.NoSuchProcess):
        family |= {child.pid for child in psutil.Process(leader).children(recursive=True)}
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                family.add(pid)
    ended = []
    for pid in sorted(family - {os.getpid()}):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            ended.append(psutil.Process(pid))
            os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([each for each in ended if each.pid != leader], timeout=END_S)
