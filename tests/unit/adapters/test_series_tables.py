"""Series files: whatever stands in the rows comes out as equal steps, and what was wrong is counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.adapters.series_tables import read_series
from balance.errors import TraceError

HEADER = "series_id,timestamp_or_index,value\n"


@pytest.fixture
def table(tmp_path: Path):
    """Write a file and read it."""

    def read(text: str, name: str = "s.csv"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return read_series(file)

    return read


def test_dates_and_gaps(table) -> None:
    """Hours as ISO 8601, one of them missing: the step is an hour and the missing one is a gap."""
    rows = "".join(f"a,2024-01-01T{hour:02d}:00:00Z,{hour}\n" for hour in range(12) if hour != 5)
    (one,) = table(HEADER + rows)
    assert (one.step, one.dated, len(one.values)) == (3600.0, True, 12)
    assert np.flatnonzero(np.isnan(one.values)).tolist() == [5]
    assert one.warnings() == {"gaps": 1}


def test_duplicates_are_averaged_and_order_is_restored(table) -> None:
    """Two readings of one moment count as their mean, wherever they stand; both are told of."""
    (one,) = table(HEADER + "a,4,8\na,1,1\na,2,2\na,2,4\na,3,3\n")
    assert one.values.tolist() == [1.0, 3.0, 3.0, 8.0]
    assert one.warnings() == {"duplicates": 1, "unordered": 1}


def test_bad_cells_cost_their_row_only(table) -> None:
    """NaN, infinity, emptiness and words are gaps; a row without a moment is left out; short rows do no harm."""
    (one,) = table(HEADER + "a,1,1\na,2,nan\na,3,inf\na,4,\na,5,five\na,soon,9\na,6,6\na\n")
    assert np.isnan(one.values).tolist() == [False, True, True, True, True, False]
    assert one.warnings() == {"gaps": 4, "unreadable": 4}


def test_months_are_equal_steps(table) -> None:
    """The months of ten years are 120 steps, though they are not equally long."""
    rows = "".join(f"a,{2010 + m // 12}-{m % 12 + 1:02d}-01,{m}\n" for m in range(120))
    (one,) = table(HEADER + rows)
    assert one.values.tolist() == list(range(120))
    assert one.warnings() == {}


def test_columns_are_known_by_their_names(table) -> None:
    """Order, case, a byte order mark and other columns do not matter; the files of others read as they are."""
    two = table("\ufeffy,extra,DS,Unique_ID\n1,x,2024-01-01,b\n2,x,2024-01-02,b\n5,x,1,a\n")
    assert [(one.series_id, one.values.tolist()) for one in two] == [("b", [1.0, 2.0]), ("a", [5.0])]


def test_gzip(tmp_path: Path) -> None:
    """A gzipped file reads as it is."""
    with gzip.open(tmp_path / "s.csv.gz", "wt") as lines:
        lines.write(HEADER + "a,1,1\n")
    assert read_series(tmp_path / "s.csv.gz")[0].values.tolist() == [1.0]


def test_a_year_of_silence_costs_nothing(table) -> None:
    """A huge gap does not make a huge series: the newest steps are kept."""
    rows = "".join(f"a,{at},1\n" for at in (0, 1, 2, 10**9, 10**9 + 1, 10**9 + 2))
    (one,) = table(HEADER + rows)
    assert len(one.values) <= 4032
    assert one.values[-3:].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (HEADER, "no row below"),
        ("series_id,value\na,1\n", "no column timestamp_or_index"),
        ("series_id,index\na,1\n", "no column value"),
        ("index,value\n1,1\n", "no column series_id"),
    ],
)
def test_a_file_that_is_no_table_is_an_error(table, text: str, says: str) -> None:
    """One sentence that says what is missing."""
    with pytest.raises(TraceError, match=says):
        table(text)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    """A missing file, a folder, binary data and a broken archive are told in one sentence."""
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x80")
    (tmp_path / "b.gz").write_bytes(b"no archive")
    for name in ("none.csv", ".", "b.csv", "b.gz"):
        with pytest.raises(TraceError, match="can't be read"):
            read_series(tmp_path / name)


CELLS = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-inf", "1e400", "x", "0", "1", "1e100", "2024-02-30", "2024-01-01", '"', "a\0b"]
    ),
    st.floats(-1e12, 1e12).map(str),
    st.integers(-50, 50).map(str),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", ""]), CELLS, CELLS), max_size=40))
def test_any_rows_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    """Whatever the cells hold: series in equal steps, finite or NaN, or one sentence."""
    file = tmp_path_factory.mktemp("rows") / "s.csv"
    file.write_text(HEADER + "".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    try:
        made = read_series(file)
    except TraceError:
        return
    for one in made:
        assert len(one.values) <= max(4032, len(rows))
        assert not np.isinf(one.values).any()
        assert one.step > 0
        assert min([0, *one.warnings().values()]) >= 0
