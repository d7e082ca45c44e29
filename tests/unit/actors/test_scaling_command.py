"""``balance scaling``: a trace in, a table of policies out, mistakes told in a sentence."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from actors.cli import app
from actors.scaling_commands import demand_of
from balance.errors import InvalidValue


@pytest.fixture
def trace(tmp_path):
    """Twelve minutes of counts."""
    file = tmp_path / "counts.csv"
    rows = [f"2025-01-01 00:{minute:02d}:00,{600 + 60 * minute}" for minute in range(12)]
    file.write_text("timestamp,requests\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_counts_are_spread_over_the_steps_of_their_minute(trace):
    """A minute of 600 requests is four steps of ten a second; nothing is lost."""
    demand = demand_of(trace)
    assert demand.rates[:5] == pytest.approx((10.0, 10.0, 10.0, 10.0, 11.0))
    assert sum(demand.rates) * demand.step_s == pytest.approx(sum(600 + 60 * minute for minute in range(12)))


def test_policies_are_run_and_shown(trace):
    """Balance, the rival and the oracle, each with its cost and its misses; JSON for programs."""
    given = ["scaling", str(trace), "--cold-start", "60", "--coverage", "0.9", "--target", "0.8", "--load", "5"]
    shown = CliRunner().invoke(app, [*given, "--json"])
    assert shown.exit_code == 0, shown.output
    rows = {row["policy"]: row for row in json.loads(shown.stdout)}
    assert list(rows) == ["Balance, coverage 0.9", "target utilisation 0.8", "oracle"]
    assert all(row["work_s"] == pytest.approx(12 * 60 * 5.0) for row in rows.values())
    table = CliRunner().invoke(app, given)
    assert "oracle" in table.output and "replica-hours" in table.output


@pytest.mark.parametrize("wrong", [["--coverage", "2"], ["--coverage", "high"], ["--target", "0"]])
def test_a_setting_that_can_not_be_is_told(trace, wrong):
    """A mistake on the command line ends with the error that names the value, before anything is run."""
    made = CliRunner().invoke(app, ["scaling", str(trace), *wrong])
    assert made.exit_code != 0
    assert isinstance(made.exception, InvalidValue | SystemExit)
