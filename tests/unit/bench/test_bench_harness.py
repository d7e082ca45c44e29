"""The benches' harness: a figure that it prints was measured, and nothing outlives a visit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psutil
import pytest
from harness import visits
from harness.gate import Gate
from harness.machine import Machine
from harness.table import Report, quantile, spread
from hypothesis import given
from hypothesis import strategies as st

HERE = Machine("cpu", 2, 8.0, 0.5, "3.11.7", {"ray": "2.60.0"}, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a peer's script and return its name."""
    monkeypatch.setattr(visits, "PEERS", tmp_path)

    def write(body: str) -> str:
        (tmp_path / "peer.py").write_text(body, encoding="utf-8")
        return "peer"

    return write


def test_a_visit_returns_what_the_peer_told(peer):
    """Options go in, figures come out, and other output is no figure."""
    name = peer("from harness.visits import options, tell\nprint('noise')\ntell(row='a', total_s=options()['n'] / 4)\n")
    assert visits.visit(name, {"n": 2}) == [{"row": "a", "total_s": 0.5}]


def test_a_peer_that_fails_or_measures_nothing_is_no_figure(peer):
    """A peer's error is the bench's error, with the peer's own words."""
    with pytest.raises(RuntimeError, match="no luck"):
        visits.visit(peer("raise SystemExit('no luck')\n"), {})
    with pytest.raises(RuntimeError, match="only noise"):
        visits.visit(peer("print('only noise')\n"), {})


def test_what_a_peer_leaves_behind_is_ended_with_its_visit(peer, tmp_path: Path):
    """A child that the peer forgot does not disturb the next visit."""
    left = tmp_path / "left"
    name = peer(
        "import subprocess, sys\n"
        "from harness.visits import tell\n"
        "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        f"open({str(left)!r}, 'w').write(str(child.pid))\n"
        "tell(row='a')\n"
    )
    visits.visit(name, {})
    pid = int(left.read_text(encoding="utf-8"))
    assert not psutil.pid_exists(pid)


def test_a_peer_that_hangs_is_ended(peer):
    """A visit has a limit; what was printed until then is in the message."""
    with pytest.raises(RuntimeError, match=r"more than 0\.5 s"):
        visits.visit(peer("import time\nprint('asleep', flush=True)\ntime.sleep(60)\n"), {}, timeout_s=0.5)


def test_a_report_says_the_same_to_people_and_programs():
    """Rows, bars and the machine are in both."""
    report = Report("T", ["who", "s"], HERE)
    report.add("Balance", 1.5)
    report.bar("at least 10x", "9.9x", met=False)
    assert not report.met and "bar at least 10x: 9.9x, MISSED" in str(report)
    kept = json.loads(report.to_json())
    assert kept["rows"] == [["Balance", 1.5]] and kept["machine"]["packages"] == {"ray": "2.60.0"}
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        report.add("alone")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0.0, 1.0))
def test_a_quantile_is_a_value_that_enough_do_not_exceed(values: list[float], q: float):
    """Nearest rank: one of the values, and the smallest of those that will do."""
    found = quantile(values, q)
    reached = sum(value <= found for value in values) / len(values)
    below = sum(value < found for value in values) / len(values)
    assert found in values and reached >= q and (below < q or found == min(values))


def test_one_round_has_no_spread():
    """A figure from one round does not look like a median of several."""
    assert spread([1.0]) == "1.000" and spread([1.0, 2.0]) == "1.500 (1.000-2.000)"


def test_a_gate_holds_its_own_play_only():
    """Who comes late for a play that is over neither waits nor counts: it would take a device from the next play."""

    async def plays() -> tuple[int, int, int]:
        gate = Gate()
        held = [asyncio.create_task(gate.hold(0)) for _ in range(2)]
        await asyncio.sleep(0)
        first = await gate.started()
        play = await gate.open()
        await asyncio.gather(*held)
        await gate.hold(0)
        late = await gate.started()
        held = [asyncio.create_task(gate.hold(play))]
        await asyncio.sleep(0)
        second = await gate.started()
        await gate.open()
        await asyncio.gather(*held)
        return first, late, second

    assert asyncio.run(asyncio.wait_for(plays(), 5)) == (2, 0, 1)
