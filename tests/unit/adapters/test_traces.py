"""Traces: every format, and what is wrong said with its line."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance.adapters.traces import Arrival, read_trace
from balance.errors import InvalidValue, TraceError


@pytest.fixture
def write(tmp_path):
    def to(text, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to


def test_azure_format(write):
    """Timestamps of seven decimals and token columns."""
    path = write(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
        "2023-11-16 18:17:03.9799600,4808,10\r\n"
        "2023-11-16 18:17:04.4799600,110,27\r\n"
    )
    trace = read_trace(path)
    assert list(trace) == [
        Arrival(0.0, 1, {"ContextTokens": 4808.0, "GeneratedTokens": 10.0}),
        Arrival(0.5, 1, {"ContextTokens": 110.0, "GeneratedTokens": 27.0}),
    ]
    assert (trace.format, trace.usable, trace.skipped) == ("csv", 2, 0)


def test_counts_per_minute(write):
    """A count stands for so many requests over the interval that begins there; minutes of none yield nothing."""
    path = write("timestamp,requests\n1998-05-01 00:00:00,841\n1998-05-01 00:01:00,0\n1998-05-01 00:02:00,3\n")
    assert list(read_trace(path)) == [
        Arrival(0.0, 841, span_s=60.0),
        Arrival(120.0, 3, span_s=60.0),
    ]
    assert read_trace(path).format == "counts"


def test_named_columns_blank_sizes_and_a_model(write):
    """The model column becomes the hint; a blank size is left out; text columns are ignored."""
    path = write(
        "gmt_create,predict_type,status,exec_time_seconds,steps\n"
        "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,30\n"
        '2024-11-15 16:57:51,"IMG,2",FAILED,1.5,\n'
    )
    assert list(read_trace(path)) == [
        Arrival(0.0, 1, {"exec_time_seconds": 32.0, "steps": 30.0}, "TXT_2_IMG"),
        Arrival(1.0, 1, {"exec_time_seconds": 1.5}, "IMG,2"),
    ]


@pytest.mark.parametrize(
    ("times", "want"),
    [
        ("1700000000\n1700000002.5", 2.5),
        ("1700000000000\n1700000002500", 2.5),
        ("1700000000000000\n1700000002500000", 2.5),
        ("0\n2.5", 2.5),
        ("2024-01-01T00:00:00Z\n2024-01-01T02:00:00+01:00", 3600.0),
    ],
)
def test_bare_timestamps_in_any_unit(write, times, want):
    """No header is needed for a column of times; numbers are taken by their size."""
    trace = read_trace(write(times))
    assert [arrival.t_s for arrival in trace] == [0.0, want]
    assert trace.format == "timestamps"


def test_access_logs(write):
    """Common and Combined Log Format, escaped quotes and odd requests included."""
    path = write(
        '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326\n'
        '::1 - - [10/Oct/2000:20:55:38 +0000] "POST /v1/chat?key=\\"x\\" HTTP/1.1" 503 - "http://r/" "agent \\"q\\""\n'
        '10.0.0.1 - - [10/Oct/2000:20:55:39 +0000] "-" 408 0 "-" "-"\n',
        "access.log",
    )
    assert list(read_trace(path)) == [
        Arrival(0.0, 1, {"bytes": 2326.0}, "/a.gif"),
        Arrival(2.0, 1, {}, "/v1/chat"),
        Arrival(3.0, 1, {"bytes": 0.0}, None),
    ]
    assert read_trace(path).format == "access_log"


BAD = (
    "timestamp,tokens\n"
    "2024-01-01 00:00:00,1\n"
    "yesterday,1\n"
    "2024-01-01 00:00:01\n"
    "2024-01-01 00:00:02,many\n"
    "2024-01-01 00:00:03,-5\n"
    "2024-01-01 00:00:04,nan\n"
    "2024-13-01 00:00:05,1\n"
    "\n"
    "2024-01-01 00:00:06,2\n"
)


def test_malformed_lines_are_skipped_and_counted(write):
    """The line number and the reason of the first five are kept, the rest is counted."""
    trace = read_trace(write(BAD))
    assert [arrival.t_s for arrival in trace] == [0.0, 6.0]
    assert (trace.usable, trace.skipped) == (2, 6)
    assert trace.errors == [
        (3, "timestamp is 'yesterday'; expected a time"),
        (4, "1 column; the header has 2"),
        (5, "tokens is 'many'; expected a number of 0 or more"),
        (6, "tokens is '-5'; expected a number of 0 or more"),
        (7, "tokens is 'nan'; expected a number of 0 or more"),
    ]
    assert trace.to_dict()["errors"][0] == {"line": 3, "reason": "timestamp is 'yesterday'; expected a time"}
    assert len(list(trace)) == 2
    assert trace.skipped == 6


def test_strict_names_the_line(write):
    """With strict the first malformed line ends it, after the arrivals before it could be read."""
    with pytest.raises(TraceError, match="line 3 of") as caught:
        list(read_trace(write(BAD), strict=True))
    assert caught.value.details["line"] == 3


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "hello world\nthis is no trace\n", "a,b\n1,x\n2,y\n", b"\x00\x01\xff" * 5000, "timestamp,requests\n"],
)
def test_no_usable_line_is_an_error(write, content):
    """A file that is no trace is refused with what was expected."""
    with pytest.raises(TraceError, match=r"no line of .* is usable"):
        read_trace(write(content))


def test_missing_file_and_folder(tmp_path):
    """What can't be opened is named."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(TraceError, match="can't be read"):
            read_trace(path)


def test_gzip(write):
    """A compressed trace reads as the plain one; a broken one is an error."""
    packed = gzip.compress(b"timestamp,requests\n2024-01-01,5\n2024-01-02,6\n")
    assert [a.count for a in read_trace(write(packed, "t.csv.gz"))] == [5, 6]
    with pytest.raises(TraceError):
        list(read_trace(write(packed[:-12], "half.csv.gz")))


def test_limit_is_in_requests(write):
    """So many requests and no more; the last count is cut."""
    path = write("timestamp,requests\n2024-01-01 00:00,5\n2024-01-01 00:01,6\n2024-01-01 00:02,7\n")
    assert [arrival.count for arrival in read_trace(path, limit=8)] == [5, 3]
    with pytest.raises(InvalidValue):
        read_trace(path, limit=0)


def test_small_disorder_is_put_right(write):
    """Logs are written when a request ends: what is a little out of order comes out in order."""
    trace = read_trace(write("\n".join(str(1_700_000_000 + n) for n in (4, 3, 2, 1, 0))))
    assert [arrival.t_s for arrival in trace] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_an_endless_line_is_one_malformed_line(write):
    """A line without end is not held in memory, and spoils nothing after it."""
    path = write("timestamp,n\n2024-01-01,1\n" + "x" * 300_000 + "\n2024-01-02,2\n")
    trace = read_trace(path)
    assert [arrival.count for arrival in trace] == [1, 2]
    assert [line for line, _ in trace.errors] == [3]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    """Whatever a file holds, the outcome is arrivals in order or a TraceError."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        arrivals = list(read_trace(path))
    except TraceError:
        return
    times = [arrival.t_s for arrival in arrivals]
    assert times == sorted(times)
    assert all(arrival.count > 0 for arrival in arrivals)
