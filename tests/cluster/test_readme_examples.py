"""The README's examples run as they stand there, on real Ray; only the line that connects is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"

pytestmark = pytest.mark.cluster


def run_example(number: int) -> dict[str, Any]:
    """Run a Python block of the README in the driver that is connected already; return its names."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    source = blocks[number].replace('ray.init("auto")\n', "")
    names: dict[str, Any] = {"__name__": f"readme_example_{number}"}
    exec(compile(source, f"README.md, example {number}", "exec"), names)
    return names


def test_the_client_streams_results(balance_cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The client submits a function of the script itself and yields its results, each under its task's id."""
    run_example(0)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all(task_id.startswith("pi-") for task_id, _ in printed)
    assert sorted(float(value) for _, value in printed) == pytest.approx([3.0418, 3.1406, 3.1416], abs=1e-4)


def test_a_plain_driver_runs_a_function(balance_cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that imports Ray alone gets its function run, and a report that tells how it went."""
    report = run_example(1)["report"]
    assert (report["status"], report["result"]) == ("completed", 4950)
    assert capsys.readouterr().out == "completed 4950\n"


def test_a_model_of_ones_own_answers(balance_cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that the driver defines is deployed, gets its data, and answers every request."""
    names = run_example(2)
    assert [answer["status"] for answer in names["answers"]] == ["completed"] * 3
    assert capsys.readouterr().out == "[2, -2, 2]\n"
