"""`balance forecast` and `balance backtest` answer for every series of a file, whatever is in it.  No Ray here."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from actors import cli, series_work

HEADER = "series_id,timestamp_or_index,value\n"
HARD = {
    "constant": [7.0] * 60,
    "zero": [0.0] * 60,
    "one point": [42.0],
    "three": [1.0, 2.0, 3.0],
    "nothing": [math.nan] * 5,
    "gaps": [math.nan if at % 3 else float(at) for at in range(60)],
    "infinite": [math.inf if at == 30 else 5.0 + at % 2 for at in range(60)],
    "daily": [100.0 + 20 * math.sin(at * math.pi / 12) for at in range(24 * 8)],
}
Balance = Callable[..., tuple[int, str, str]]


@pytest.fixture
def balance(capsys: pytest.CaptureFixture[str]) -> Balance:
    """Run the command line in this process: returns its exit code, what it said and what it complained of."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    """A file with one series of each hard kind."""
    rows = (f"{name},{at},{value}\n" for name, values in HARD.items() for at, value in enumerate(values))
    file = tmp_path / "hard.csv"
    file.write_text(HEADER + "".join(rows))
    return file


def test_every_hard_series_has_an_answer(balance: Balance, hard: Path, tmp_path: Path) -> None:
    """Each series has all steps, finite and ordered, none negative that never was; the columns are as promised."""
    code, said, _ = balance(
        "forecast", hard, "--horizon", 70, "--budget", 0.05, "--jobs", 1, "--out", tmp_path / "o.csv"
    )
    assert code == 0
    with (tmp_path / "o.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["series_id", "step", "mean", "q10", "q50", "q90"]
    assert [(row["series_id"], int(row["step"])) for row in rows] == [
        (name, at) for name in HARD for at in range(1, 71)
    ]
    for row in rows:
        low, middle, high = (float(row[name]) for name in ("q10", "q50", "q90"))
        assert 0 <= low <= middle <= high < math.inf
        assert math.isfinite(float(row["mean"]))
    assert "insufficient_data" in said
    assert {float(row["mean"]) for row in rows if row["series_id"] == "one point"} == {42.0}
    assert {float(row["mean"]) for row in rows if row["series_id"] == "nothing"} == {0.0}


def test_json_says_what_was_wrong_and_why(balance: Balance, tmp_path: Path) -> None:
    """For programs: status, method, reason and the counted faults of each series."""
    (tmp_path / "s.csv").write_text(HEADER + "a,2,1\na,1,1\na,1,3\n" + "".join(f"a,{at},2\n" for at in range(3, 20)))
    code, said, complained = balance("forecast", tmp_path / "s.csv", "--json", "--budget", 0.05, "--horizon", 3)
    (one,) = json.loads(said)
    assert code == 0
    assert (one["series_id"], one["status"], one["steps_known"]) == ("a", "ok", 19)
    assert one["warnings"] == {"duplicates": 1, "unordered": 1}
    assert len(one["point"]) == 3
    assert one["reason"]
    assert "mean counts" in complained
    assert "sorted" in complained


def test_processes_beside_each_other_change_nothing(balance: Balance, hard: Path, tmp_path: Path) -> None:
    """Two processes answer as one does, in the order of the file."""
    for jobs in (1, 2):
        balance("forecast", hard, "--season", "0", "--budget", 0.001, "--jobs", jobs, "--out", tmp_path / f"{jobs}.csv")
    one, two = ((tmp_path / f"{jobs}.csv").read_text().splitlines() for jobs in (1, 2))
    assert [line.split(",")[:2] for line in one] == [line.split(",")[:2] for line in two]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_is_one(balance: Balance, tmp_path: Path, ending: str) -> None:
    """A picture of the wanted kind, whatever the series hold and are called."""
    daily = "".join(f"daily,{at},{value}\n" for at, value in enumerate(HARD["daily"]))
    (tmp_path / "s.csv").write_text(HEADER + daily + "$x_{<b>&" + "ä" * 60 + ",1,5\nnothing,1,nan\n")
    file = tmp_path / f"p.{ending}"
    assert balance("forecast", tmp_path / "s.csv", "--budget", 0.05, "--jobs", 1, "--plot", file)[0] == 0
    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])
    assert file.stat().st_size > 20_000


def test_backtest_compares_the_methods(balance: Balance, hard: Path, tmp_path: Path) -> None:
    """On a daily series the combination beats the last value; series that are too short are told of, not left out."""
    code, said, _ = balance(
        "backtest", hard, "--horizon", 24, "--origins", 2, "--budget", 0.05, "--jobs", 1, "--out", tmp_path / "b.csv"
    )
    assert code == 0
    assert "too short" in said
    with (tmp_path / "b.csv").open(newline="") as lines:
        rows = {(row["series_id"], row["method"]): row for row in csv.DictReader(lines)}
    assert {name for name, _ in rows} == set(HARD)
    best, naive = (rows["daily", method] for method in ("combination", "naive"))
    assert float(best["smape"]) < 0.3 * float(naive["smape"])
    assert best["origins"] == "2"
    assert rows["one point", "naive"]["status"] == "insufficient_data"
    assert rows["constant", "seasonal_naive"]["status"] == "not_applicable"
    assert "nan" not in (tmp_path / "b.csv").read_text()


def test_a_backtest_of_nothing_is_a_finding(balance: Balance, tmp_path: Path) -> None:
    """Where no series is long enough the exit code is 1."""
    (tmp_path / "s.csv").write_text(HEADER + "a,1,1\n")
    assert balance("backtest", tmp_path / "s.csv", "--json")[0] == 1


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("forecast none.csv", 1, "can't be read"),
        ("forecast empty.csv", 1, "is empty"),
        ("backtest lacking.csv", 1, "no column value"),
        ("forecast good.csv --season monthly", 1, "auto, or lengths"),
        ("forecast good.csv --season=-3", 1, "auto, or lengths"),
        ("forecast good.csv --horizon 0", 2, "balance forecast --help"),
        ("forecast good.csv --horizon 999999999", 2, "balance forecast --help"),
        ("forecast good.csv --budget 0", 2, "balance forecast --help"),
        ("forecast good.csv --plot p.docx", 1, ".png"),
        ("forecast good.csv --out nowhere/o.csv", 1, "directory that exists"),
        ("backtest good.csv --origins 0", 2, "balance backtest --help"),
        ("backtest", 2, "balance backtest --help"),
    ],
)
def test_a_mistake_is_one_line(  # noqa: PLR0917 (fixtures and parameters)
    balance: Balance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: int, says: str
) -> None:
    """Bad files and bad options: one line, the exit code of the README, before any work is done."""
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "lacking.csv").write_text("series_id,index\na,1\n")
    (tmp_path / "good.csv").write_text(HEADER + "a,1,1\n")
    monkeypatch.chdir(tmp_path)
    found, _, complained = balance(*line.split())
    assert found == code
    assert says in complained
    assert complained.strip().count("\n") == 0


def test_a_series_that_breaks_stays_alone() -> None:
    """What nobody foresaw in one series is its status, and the last value stands in."""
    made = series_work.forecast(series_work.Job("a", [1.0, 2.0, 3.0], 2, (-5,), 0.05))
    assert (made["status"], made["point"]) == ("failed", [3.0, 3.0])
    assert "season" in made["reason"]
    assert series_work.backtest(series_work.Job("a", [1.0] * 40, 2, (-5,), 0.05, 2))["error"]
