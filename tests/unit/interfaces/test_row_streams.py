"""`RowStreams`: rows of real files and topics in bounded memory, and ends that let go of everything."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import psutil
import pytest

from balance.adapters.data import formats
from balance.adapters.data.formats import encode
from balance.adapters.data.row_streams import MAX_OPEN, RowStreams
from balance.adapters.external.kafka_messages import KafkaMessages
from balance.config import Settings
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable

ROWS = [{"n": str(n), "text": "سلام"} for n in range(5)]


@pytest.fixture
def streams():
    made = RowStreams()
    yield made
    made.close_stream()


def is_open(path):
    return str(path) in {file.path for file in psutil.Process().open_files()}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_come_as_they_lie(streams, tmp_path, kind):
    """Each format of rows gives its rows in order, and the file is closed after the last."""
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encode(kind, rows=ROWS))
    assert list(streams.open_stream({"source": str(path)})) == ROWS
    assert list(streams.open_stream({"source": f"file://{path}", "limit": 2})) == ROWS[:2]
    assert (streams.open_streams, is_open(path)) == (0, False)


def test_lines_of_a_text_and_rows_in_memory(streams, tmp_path):
    """A text's lines are rows; so is whatever gives dicts."""
    (tmp_path / "a.log").write_bytes(b"\xef\xbb\xbfone\r\n\ntwo")
    assert [row["text"] for row in streams.open_stream({"source": str(tmp_path / "a.log")})] == ["one", "", "two"]
    assert list(streams.open_stream({"rows": iter(ROWS)})) == ROWS
    with pytest.raises(SourceUnavailable, match="row 2 is a int"):
        list(streams.open_stream({"rows": [{}, 1]}))


def test_closing_ends_every_stream(streams, tmp_path):
    """Also one that was not begun; files are closed at once, and closing twice is harmless."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode("jsonl", rows=ROWS))
    begun, fresh = (streams.open_stream({"source": str(path)}) for _ in range(2))
    next(begun)
    assert (streams.open_streams, is_open(path)) == (2, True)
    streams.close_stream()
    streams.close_stream()
    assert (streams.open_streams, is_open(path)) == (0, False)
    assert (list(begun), list(fresh)) == ([], [])


def test_a_stream_that_is_dropped_lets_go(streams, tmp_path):
    """Nobody has to close what nobody holds any more."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode("jsonl", rows=ROWS))
    stream = streams.open_stream({"source": str(path)})
    next(stream)
    del stream
    gc.collect()
    assert (streams.open_streams, is_open(path)) == (0, False)


def test_closing_from_another_thread_while_a_row_is_made(streams):
    """The thread that is inside gets out after the row at hand, and the source is told."""
    inside, go_on, told = threading.Event(), threading.Event(), []

    def slow():
        try:
            yield {"n": 0}
            inside.set()
            go_on.wait(5)
            yield {"n": 1}
        finally:
            told.append("closed")

    stream, got = streams.open_stream({"rows": slow()}), []
    reader = threading.Thread(target=lambda: got.extend(stream))
    reader.start()
    inside.wait(5)
    streams.close_stream()
    go_on.set()
    reader.join(5)
    assert (got, told, streams.open_streams) == ([{"n": 0}], ["closed"], 0)


def test_no_more_streams_than_the_bound(streams):
    """One more is refused; when one has ended there is room again."""
    held = [streams.open_stream({"rows": []}) for _ in range(MAX_OPEN)]
    with pytest.raises(Conflict):
        streams.open_stream({"rows": []})
    assert list(held[0]) == []
    streams.open_stream({"rows": []})


def test_memory_does_not_grow_with_the_file(streams, tmp_path):
    """A file of megabytes takes a small part of that, whatever else the process does meanwhile."""
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"text": "0123456789"}\n' * 100_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in streams.open_stream({"source": str(path)})) == 100_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"a": 1}\n[2]\n'),
        ("a.jsonl", b'{"a": NaN}\n'),
        ("a.jsonl", b"\xff\n"),
        ("a.jsonl", b'{"a": "' + b"x" * 300 + b'"}\n'),
        ("a.csv", b"a,b\n1\n"),
        ("a.csv", b"a,a\n1,2\n"),
        ("a.csv", b'a\n"1\n'),
        ("a.parquet", b"PAR1"),
    ],
)
def test_what_is_not_in_the_format(streams, tmp_path, monkeypatch, name, content):
    """The stream raises where it breaks, says where, and lets go of the file."""
    monkeypatch.setattr(formats, "MAX_LINE_BYTES", 200)
    path = tmp_path / name
    path.write_bytes(content)
    stream = streams.open_stream({"source": str(path)})
    with pytest.raises(SourceUnavailable):
        list(stream)
    assert (streams.open_streams, is_open(path)) == (0, False)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({}, InvalidValue),
        ("a.csv", InvalidValue),
        ({"source": "a.csv", "rows": []}, InvalidValue),
        ({"rows": "text"}, InvalidValue),
        ({"rows": [], "limit": -1}, InvalidValue),
        ({"source": "a.csv", "format": "bytes"}, InvalidValue),
        ({"source": "/nowhere/a.csv"}, SourceUnavailable),
        ({"source": "nokind://a.csv"}, InvalidValue),
        ({"topic": "t"}, InvalidValue),
        ({"rows": [], "more": 1}, InvalidValue),
    ],
)
def test_mistakes_raise_when_the_stream_is_opened(streams, query, error):
    """Not at the first row, and no stream is open afterwards."""
    with pytest.raises(error):
        streams.open_stream(query)
    assert streams.open_streams == 0


def test_who_is_not_trusted_reads_what_the_settings_allow(tmp_path):
    """Files of the allowed folders, and no private web page."""
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        (folder / "a.csv").write_text("a\n1\n")
    streams = RowStreams(trusted=False, settings=Settings(allow_file_roots=str(tmp_path / "in")))
    assert list(streams.open_stream({"source": str(tmp_path / "in" / "a.csv")})) == [{"a": "1"}]
    with pytest.raises(AccessRefused):
        streams.open_stream({"source": str(tmp_path / "in" / ".." / "a.csv")})
    with pytest.raises(AccessRefused):
        list(streams.open_stream({"source": "http://127.0.0.1:9/a.csv"}))


def test_a_topic_is_a_stream(tmp_path):
    """Its messages come as rows; it ends when none came for a while, and what was read is committed."""
    settings = Settings(state_dir=str(tmp_path))
    with KafkaMessages(settings=settings) as messages:
        messages.create_topic("t")
        for n in range(3):
            messages.publish_message("t", {"n": n})
        streams = RowStreams(messages=messages)
        assert list(streams.open_stream({"topic": "t", "idle_s": 5, "limit": 2})) == [{"n": 0}, {"n": 1}]
        assert list(streams.open_stream({"topic": "t", "idle_s": 0.05})) == [{"n": 2}]
