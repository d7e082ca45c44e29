"""The way to files and databases, against real ones: what was read is not read again while it is the same."""

from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import fsspec
import pytest

from balance.adapters.collect.document import DocumentSource
from balance.adapters.collect.table import TableSource
from balance.adapters.collect.wanted import Wanted
from balance.adapters.sources.files import FileSource
from balance.adapters.sources.sql import SqlSource
from balance.clock import FakeClock
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable


@pytest.fixture
def reads(monkeypatch):
    """What is read of files and databases, call by call."""
    read = []
    for source in (FileSource, SqlSource):

        def spy(self, address, max_bytes, *, real=source.read):
            read.append(address)
            return real(self, address, max_bytes)

        monkeypatch.setattr(source, "read", spy)
    return read


@pytest.fixture
def bucket(monkeypatch):
    """A folder of fsspec's store in memory, which stands for a store of objects that any message may name."""
    monkeypatch.setattr("balance.adapters.sources.files._OPEN_TO_ALL", frozenset({"memory"}))
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/bucket", recursive=True)


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE items (n INTEGER)")
        connection.execute("INSERT INTO items VALUES (1)")
    return path


def blobs(tmp_path):
    return sorted((tmp_path / "stored" / "blobs").iterdir())


def test_a_file_that_is_the_same_is_read_once(stored, tmp_path, reads):
    """Whoever asks, in whichever spelling, also after a restart: until it has changed."""
    path = tmp_path / "a.txt"
    path.write_text("salam")
    client = stored(tmp_path)
    pages = [client.file(address) for address in (str(path), f"file://{path}", f"{tmp_path}/../{tmp_path.name}/a.txt")]
    pages.append(stored(tmp_path).file(str(path)))
    assert [page.body for page in pages] == [b"salam"] * 4
    assert [page.from_cache for page in pages] == [False, True, True, True]
    assert [page.wire_bytes for page in pages] == [5, 0, 0, 0]
    assert len(reads) == 1


def test_a_file_that_has_changed_is_read_again(stored, tmp_path, reads):
    """Of the same size, with its time set back, replaced by another, and on its way from one to the other."""
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("salam")
    client = stored(tmp_path)
    before = path.stat()
    client.file(str(path))
    path.write_text("SALAM")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert client.file(str(path)).body == b"SALAM"
    other.write_text("other")
    other.replace(path)
    assert client.file(str(path)).body == b"other"
    assert len(reads) == 3


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_is_now(stored, tmp_path, monkeypatch):
    """The copy is of before the change, its look of after it: that would hide the change for ever."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    real = FileSource.read

    def changing(self, address, max_bytes):
        body = real(self, address, max_bytes)
        path.write_text("the new one")
        return body

    monkeypatch.setattr(FileSource, "read", changing)
    client = stored(tmp_path)
    assert client.file(str(path)).body == b"old"
    monkeypatch.setattr(FileSource, "read", real)
    assert client.file(str(path)).body == b"the new one"


def test_a_file_that_was_written_this_moment_is_read_again(stored, tmp_path, reads):
    """Two changes within a tick of the system's clock look alike, so such a look proves nothing."""
    path = tmp_path / "a.txt"
    path.write_text("salam")
    clock = FakeClock(epoch=path.stat().st_ctime_ns / 1e9 + 0.001)
    client = stored(tmp_path, clock=clock)
    assert [client.file(str(path)).from_cache for _ in range(2)] == [False, False]
    clock.advance(1.0)
    assert [client.file(str(path)).from_cache for _ in range(2)] == [False, True]
    assert len(reads) == 3


def test_an_object_that_is_the_same_is_read_once(stored, bucket, reads, monkeypatch):
    """What its store says of it tells; where a store says no more than a size, it is read each time."""
    bucket.pipe_file("/bucket/a", b"salam")
    client = stored()
    assert [client.file("memory://bucket/a").from_cache for _ in range(3)] == [False, True, True]
    bucket.pipe_file("/bucket/a", b"SALAM")
    assert client.file("memory://bucket/a").body == b"SALAM"
    assert len(reads) == 2
    monkeypatch.setattr("balance.adapters.copying.place._MARKS", ())
    assert [client.file("memory://bucket/a").from_cache for _ in range(2)] == [False, False]


def test_an_age_that_is_allowed_saves_even_the_look(stored, bucket, reads):
    """Within it a copy is the answer though the file has changed, or is gone; after it the file counts."""
    bucket.pipe_file("/bucket/a", b"old")
    clock = FakeClock()
    client = stored(clock=clock)
    client.file("memory://bucket/a")
    bucket.pipe_file("/bucket/a", b"new")
    clock.advance(59.0)
    assert client.file("memory://bucket/a", max_age_s=60.0).body == b"old"
    clock.advance(1.0)
    page = client.file("memory://bucket/a", max_age_s=60.0)
    assert (page.body, page.fetched_at, len(reads)) == (b"new", clock.wall(), 2)
    clock.advance(60.0)
    assert client.file("memory://bucket/a", max_age_s=60.0).fetched_at == clock.wall()  # looked at: confirmed now
    clock.advance(59.0)
    bucket.pipe_file("/bucket/a", b"newer")
    assert client.file("memory://bucket/a", max_age_s=60.0).body == b"new"
    assert len(reads) == 2


def test_a_copy_is_given_to_none_who_may_not_have_it(stored, tmp_path):
    """Folders that are not allowed any more, sizes, and a name that leads elsewhere now: all are checked each time."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("salam")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "a")
    client = stored(tmp_path / "in")
    assert client.file(f"{tmp_path}/in/link").body == b"salam"
    with pytest.raises(AccessRefused, match="more than the 4 bytes"):
        client.file(f"{tmp_path}/in/a", max_bytes=4)
    with pytest.raises(AccessRefused):
        stored(tmp_path / "other").file(f"{tmp_path}/in/a", max_age_s=1e9)
    (tmp_path / "in" / "link").unlink()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(AccessRefused):
        client.file(f"{tmp_path}/in/link", max_age_s=1e9)


def test_a_pipe_is_not_waited_for(stored, tmp_path):
    """What is no regular file is refused at once, and what is not there is not there."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", ""):
        with pytest.raises(SourceUnavailable, match="no regular file"):
            stored(tmp_path).file(f"{tmp_path}/{name}")


def test_callers_at_a_time_share_one_read(stored, tmp_path, reads, monkeypatch):
    """The first reads, and the others, who came meanwhile, get its copy; who may wait no longer is told."""
    path = tmp_path / "a.txt"
    path.write_text("salam")
    clock = FakeClock(epoch=4e9)
    client = stored(tmp_path, clock=clock)
    reading, go_on, real = threading.Event(), threading.Event(), FileSource.read

    def waits(self, address, max_bytes):
        reading.set()
        assert go_on.wait(10)
        return real(self, address, max_bytes)

    monkeypatch.setattr(FileSource, "read", waits)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(client.file, str(path))
        assert reading.wait(10)
        others = [pool.submit(client.file, str(path)) for _ in range(3)]
        late = pool.submit(client.file, str(path), deadline_s=clock.now() + 1.0)
        clock.advance(2.0)
        go_on.set()
        assert [each.result(10).body for each in (first, *others)] == [b"salam"] * 4
        with pytest.raises(SourceUnavailable, match="not read in time"):
            late.result(10)
    assert len(reads) == 1


def test_a_database_is_asked_unless_an_age_is_allowed(stored, shop, tmp_path, reads):
    """Nothing tells from outside whether it has changed, so only who allows an age gets an answer again."""
    clock = FakeClock()
    client = stored(tmp_path, clock=clock)
    address = f"sqlite:///{shop}?query=SELECT n FROM items"
    assert [client.rows(address).json() for _ in range(2)] == [[{"n": 1}]] * 2
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("UPDATE items SET n = 2")
    clock.advance(10.0)
    old = client.rows(address, max_age_s=11.0)
    assert (old.json(), old.from_cache, old.wire_bytes, old.fetched_at) == ([{"n": 1}], True, 0, clock.wall() - 10.0)
    assert client.rows(address, max_age_s=10.0).json() == [{"n": 2}]
    assert len(reads) == 3


def test_equal_answers_lie_there_once(stored, shop, tmp_path):
    """Of two queries, of one query asked twice, and of a file that holds the same: one copy."""
    client = stored(tmp_path)
    for query in ("SELECT n FROM items", "SELECT 1 AS n", "SELECT n FROM items"):
        client.rows(f"sqlite:///{shop}?query={query}")
    (tmp_path / "a.json").write_text('[{"n":1}]')
    client.file(f"{tmp_path}/a.json")
    assert [path.read_bytes() for path in blobs(tmp_path)] == [b'[{"n":1}]']


def test_a_database_that_may_not_be_asked_is_not_answered_for(stored, shop, tmp_path):
    """Neither from the cache: folders, servers, and what is no query are checked each time."""
    address = f"sqlite:///{shop}?query=SELECT n FROM items"
    stored(tmp_path).rows(address)
    with pytest.raises(AccessRefused):
        stored(tmp_path / "other").rows(address, max_age_s=1e9)
    with pytest.raises(AccessRefused, match="trusted"):
        stored(tmp_path).rows("postgresql+psycopg://u@127.0.0.1/d?query=SELECT 1")
    with pytest.raises(InvalidValue):
        stored(tmp_path).rows(f"sqlite:///{shop}")
    with pytest.raises(SourceUnavailable, match="did not deliver"):
        stored(tmp_path).rows(f"sqlite:///{shop}?query=SELECT nonsense")


def test_a_query_ends_when_the_request_does(stored, shop, tmp_path):
    """What is left of the request's time is all that it gets."""
    clock = FakeClock()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    ticking = stored(tmp_path, clock=Ticking(clock))
    with pytest.raises(SourceUnavailable, match="interrupted"):
        ticking.rows(f"sqlite:///{shop}?query={endless}", deadline_s=3.0)
    assert 3.0 < clock.now() < 10.0


class Ticking:
    """A clock of which each look takes half a second."""

    def __init__(self, clock):
        self._clock = clock
        self.wall = clock.wall

    def now(self):
        self._clock.advance(0.5)
        return self._clock.now()


def test_requests_tell_what_came_from_the_cache(client, stored, shop, tmp_path, reads):
    """FILE and DATABASE: items as before, nothing fetched the second time, and the age is the request's."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    read = stored(tmp_path)
    documents, tables = DocumentSource(client, read), TableSource(read)
    files = [documents.collect(Wanted(f"{tmp_path}/a.csv", parameters)) for parameters in ({}, {}, {"limit": 1})]
    assert [found.items for found in files] == [[{"a": "1"}]] * 3
    assert [(found.from_cache, found.fetched_bytes) for found in files] == [(False, 4), (True, 0), (True, 0)]
    query = {"url": f"sqlite:///{shop}"}
    asked = [tables.collect(Wanted("SELECT n FROM items", {**query, "max_age_s": age})) for age in (None, 60, 0)]
    assert [found.items for found in asked] == [[{"n": 1}]] * 3
    assert [(found.from_cache, found.fetched_bytes) for found in asked] == [(False, 9), (True, 0), (False, 9)]
    assert len(reads) == 3


def test_a_copy_that_was_dropped_is_read_again(stored, tmp_path):
    """The cache is bounded and may be emptied: the file is there all the same."""
    (tmp_path / "a").write_text("salam")
    client = stored(tmp_path)
    client.file(f"{tmp_path}/a")
    for path in blobs(tmp_path):
        path.unlink()
    assert client.file(f"{tmp_path}/a").body == b"salam"


def test_without_a_cache_it_reads_each_time(tmp_path, reads):
    """The cache is a collaborator, not a condition."""
    from balance.adapters.collect.store_client import StoreClient
    from balance.adapters.sources.paths import PathPolicy

    (tmp_path / "a").write_text("salam")
    client = StoreClient(clock=FakeClock(epoch=4e9), paths=PathPolicy(roots=[str(tmp_path)]))
    assert [client.file(f"{tmp_path}/a").body for _ in range(2)] == [b"salam"] * 2
    assert len(reads) == 2
