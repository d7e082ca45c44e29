"""The command line on a real Ray, as its user meets it: through a process of its own, its output and exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from actors import processes
from actors.record import read_record
from actors.roles import ROLES
from balance.config import Settings

pytestmark = pytest.mark.cluster

COMMAND = (sys.executable, "-m", "actors.cli")
NAMES = [role.name for role in ROLES]


def environment() -> dict[str, str]:
    """Return the environment of a user who has set nothing: the suite's Ray has left its mode in ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "COLUMNS"))}


@pytest.fixture
def balance(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one command on a state directory of this test's own; whatever happens, no Ray warning is shown."""

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        line = [*COMMAND, *map(str, arguments)]
        env = {**environment(), "BALANCE_STATE_DIR": str(tmp_path / "state")}
        done = subprocess.run(line, check=False, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == code, done.stdout + done.stderr
        if code == 0:
            assert done.stderr == ""
        assert "WARNING" not in done.stdout
        return done

    return run


def actors_ready(table: str) -> list[str]:
    """Return the coordinators that a table lists as ready; every line of it fits into 80 columns."""
    lines = [line.split() for line in table.splitlines() if len(line.rstrip()) <= 80]
    return [words[0] for words in lines if words[1:2] == ["ready"] and words[0] in NAMES]


def left_of(state_dir: Path) -> list[str]:
    """Return the files in a state directory by which a running Balance is found."""
    return sorted(path.name for path in state_dir.iterdir() if path.name in {"cluster.json", "host.lock"})


def test_as_a_guest_on_a_cluster_that_runs(
    ray_cluster: ModuleType,
    balance: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    """`up --address` adds the actors, commands find them, and `down` takes away those and nothing else."""
    address = ray_cluster.get_runtime_context().gcs_address
    assert actors_ready(balance("up", "--address", address).stdout) == NAMES
    assert "runs already" in balance("up", "--address", address).stdout
    assert actors_ready(balance("status").stdout) == NAMES  # by the note in the state directory

    (tmp_path / "mine.py").write_text("def half(n):\n    return {'half': n / 2}\n")
    report = json.loads(balance("submit", "mine:half", "7").stdout)
    assert (report["status"], report["result"]) == ("completed", {"half": 3.5})
    denied = json.loads(balance("submit", "mine:half", "7", "--cpu", "9999", code=1).stdout)
    assert denied["status"] == "denied"
    balance("submit", "mine:half", "7", "--id", "same")
    conflict = balance("submit", "math:sqrt", "7", "--id", "same", code=1)
    assert conflict.stderr.startswith("error: ")
    assert "'same'" in conflict.stderr
    assert conflict.stderr.count("\n") == 1

    assert balance("explain", "--last", "1").stdout.strip()
    assert "still" not in balance("down", "--drain", "5").stdout
    assert not [a for a in ray_cluster.util.list_named_actors(all_namespaces=True) if a["namespace"] == "balance"]
    groups = ray_cluster.util.placement_group_table
    eventually(
        lambda: not [g for g in groups().values() if g["name"].startswith("balance:") and g["state"] != "REMOVED"]
    )
    assert left_of(tmp_path / "state") == []
    assert "balance up" in balance("status", code=1).stderr


def test_a_cluster_of_its_own_from_up_to_down(
    balance: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """`up` returns when all is ready, a second one attaches, `down` leaves no process, no note and no lock."""
    settings = Settings(state_dir=str(tmp_path / "state"))
    first = balance("up", "--no-dashboard", "--num-cpus", "1")
    assert actors_ready(first.stdout) == NAMES
    record = read_record(settings)
    assert record is not None
    try:
        second = balance("up")
        assert "runs already" in second.stdout
        assert actors_ready(second.stdout) == NAMES
        assert "balance down" in balance("up", "--block", code=1).stderr
        assert json.loads(balance("submit", "math:factorial", "5").stdout)["result"] == 120
        assert [a["role"] for a in json.loads(balance("status", "--json").stdout)["actors"]][: len(NAMES)] == NAMES
        family = [psutil.Process(pid) for pid, _ in record.processes if psutil.pid_exists(pid)]
        assert "is down" in balance("down").stdout
        assert processes.wait([psutil.Process(record.host_pid)] if record.host() else [], timeout_s=0)
        assert processes.wait(family, timeout_s=0)
        assert left_of(tmp_path / "state") == []
    finally:
        balance("down", "--drain", "0")


def test_the_demo_tells_what_it_did(balance: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """Six seconds of demand: exit code 0, nothing lost, a summary that fits, a report, nothing left in between."""
    done = balance("demo", "--seconds", "6", "--report", tmp_path / "report")
    lines = done.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("model "))
    table = lines[start : start + 4]
    assert [line.split()[0] for line in table[1:]] == ["anomaly", "forecaster", "indexer"]
    assert max(map(len, table)) <= 80
    assert any("accepted =" in line and line.endswith("nothing lost") for line in lines)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    terms = report["conservation"]
    assert terms["accepted"] > 100
    assert terms["holds"] is True
    assert terms["accepted"] == sum(terms[name] for name in ("completed", "failed", "dead_lettered", "in_flight"))
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


def test_ctrl_c_while_it_starts_leaves_nothing(eventually: Callable[..., Any]) -> None:
    """Interrupted in the middle of `ray.init`: exit code 130, one word, no process, no temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bal-", dir="/tmp") as folder:  # short: Unix socket paths end at 107 bytes
        line = [*COMMAND, "demo", "--seconds", "6", "--report", f"{folder}/report"]
        with subprocess.Popen(
            line,
            env={**environment(), "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as demo:
            me = psutil.Process(demo.pid)
            eventually(lambda: demo.poll() is not None or any(child.name() == "raylet" for child in me.children()))
            assert demo.poll() is None
            family = me.children(recursive=True)
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
            out, err = demo.communicate(timeout=30)
        assert (demo.returncode, out, err) == (130, "", "interrupted\n")
        assert processes.wait(family, timeout_s=5)
        assert not [path for path in Path(folder).iterdir() if path.name.startswith(("balance-", "report"))]
