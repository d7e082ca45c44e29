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
    assert blocks[number].count('ray.init("auto")\n') == 1
    source = blocks[number].replace('ray.init("auto")\n', "")
    names: dict[str, Any] = {"__name__": f"readme_example_{number}"}
    exec(compile(source, f"README.md, example {number}", "exec"), names)
    return names


def test_a_plain_driver_runs_a_function(balance_cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that imports Ray alone gets its function run, and a report that tells how it went."""
    report = run_example(0)["report"]
    assert report["status"] == "completed"
    assert report["result"] == pytest.approx(3.14159, abs=1e-4)
    assert capsys.readouterr().out.startswith("completed 3.14158")


def test_a_model_of_ones_own_answers(balance_cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that the driver defines is deployed, gets its data, and answers every request."""
    names = run_example(1)
    assert [answer["status"] for answer in names["answers"]] == ["completed"] * 3
    assert capsys.readouterr().out == "[2, -2, 2]\n"
