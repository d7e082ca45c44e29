from __future__ import annotations

import os
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from balance.adapters.readers import Readers
from balance.adapters.sources import addresses
from balance.config import Settings
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable, UnknownId

LIMIT = 10_000
PRIVATE = Settings(allow_private_urls=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.path.partition("?")[0]
        if kind == "/ok":
            self.reply(200, b"hello from " + self.headers["Host"].encode())
        elif kind == "/to":
            self.reply(302, b"", Location=self.path.partition("?")[2])
        elif kind == "/large":
            self.reply(200, b"x" * (LIMIT + 1))
        elif kind == "/endless":
            self.send_response(200)
            self.end_headers()
            while not self.server.stopping:
                try:
                    self.wfile.write(b"x" * 4096)
                except OSError:
                    return
        elif kind in ("/slow", "/slow-headers"):
            if kind == "/slow":
                self.send_response(200)
                self.end_headers()
            else:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.server.stopping:
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
                self.server.stop.wait(0.02)
        else:
            self.reply(404, b"nothing here")

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    stop = threading.Event()
    daemon_threads = True

    @property
    def stopping(self):
        return self.stop.is_set()


@pytest.fixture(scope="module")
def web():
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE items (id INTEGER, name TEXT, image BLOB)")
    connection.executemany("INSERT INTO items VALUES (?, ?, ?)", [(1, "نان", b"\x00"), (2, "tea", None)])
    connection.commit()
    connection.close()
    return path


def test_a_function_is_read_by_name():
    """Its arguments come from the URL; JSON stays JSON, bytes stay bytes."""
    readers = Readers()
    readers.register("make", lambda kind="bytes": b"\xff" if kind == "bytes" else {"kind": kind})
    assert readers.read("reader:make", LIMIT).value() == b"\xff"
    assert readers.read("reader:make?kind=a%20b", LIMIT).value() == {"kind": "a b"}


def test_what_a_function_may_not_do():
    """Unknown names and arguments, values that are no data, too much data and errors are each told apart."""
    readers = Readers()
    readers.register("large", lambda: b"x" * (LIMIT + 1))
    readers.register("object", object)
    readers.register("raises", lambda: 1 / 0)
    for source, error in {
        "reader:lrage": UnknownId,
        "reader:large?x=1": InvalidValue,
        "reader:large": AccessRefused,
        "reader:object": InvalidValue,
        "reader:raises": SourceUnavailable,
    }.items():
        with pytest.raises(error):
            readers.read(source, LIMIT)
    with pytest.raises(Conflict):
        readers.register("object", int)
    with pytest.raises(InvalidValue):
        readers.register("a?b", int)


def test_files_for_a_trusted_caller(tmp_path):
    """A path, a file URL and any other fsspec place are read as bytes."""
    import fsspec

    (tmp_path / "a.txt").write_bytes(b"text")
    with fsspec.open("memory://readers-test/a", "wb") as file:
        file.write(b"memory")
    readers = Readers(trusted=True)
    assert readers.read(str(tmp_path / "a.txt"), LIMIT).data == b"text"
    assert readers.read(f"file://{tmp_path}/a.txt", LIMIT).data == b"text"
    assert readers.read("memory://readers-test/a", LIMIT).data == b"memory"
    with pytest.raises(SourceUnavailable, match="no regular file"):
        readers.read(str(tmp_path / "none"), LIMIT)
    with pytest.raises(AccessRefused, match="more than the 3 bytes"):
        readers.read(str(tmp_path / "a.txt"), 3)


def test_files_for_everyone_else_stay_in_their_folders(tmp_path):
    """Neither ``..`` nor a link nor another spelling gets out; other kinds of places are refused."""
    inside, outside = tmp_path / "in", tmp_path / "in-not"
    inside.mkdir()
    outside.mkdir()
    (inside / "a").write_bytes(b"yes")
    (outside / "secret").write_bytes(b"no")
    (inside / "link").symlink_to(outside / "secret")
    (inside / "dir").symlink_to(outside)
    readers = Readers(settings=Settings(allow_file_roots=str(inside)))
    assert readers.read(str(inside / "a"), LIMIT).data == b"yes"
    for source in (
        str(outside / "secret"),
        f"{inside}/../in-not/secret",
        f"file://{inside}/../in-not/secret",
        f"local://{inside}/link",
        f"{inside}/dir/secret",
        f"simplecache::file://{outside}/secret",
        f"zip://secret::file://{outside}/a.zip",
        "memory://readers-test/a",
        "ftp://127.0.0.1/x",
        "sqlite:////etc/shop.db?query=SELECT 1",
        "postgresql://u@127.0.0.1/d?query=SELECT 1",
    ):
        with pytest.raises(AccessRefused):
            readers.check(source)
        with pytest.raises(AccessRefused):
            readers.read(source, LIMIT)


def test_a_pipe_is_not_waited_for(tmp_path):
    """What is no regular file is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceUnavailable, match="no regular file"):
        Readers(trusted=True).read(str(tmp_path / "pipe"), LIMIT)


def test_rows_of_a_database(shop):
    """Each row is a record in JSON values, in the order of the query."""
    payload = Readers(trusted=True).read(f"sqlite:///{shop}?query=SELECT * FROM items ORDER BY id DESC", LIMIT)
    assert payload.value() == [{"id": 2, "name": "tea", "image": None}, {"id": 1, "name": "نان", "image": "AA=="}]


def test_a_query_stands_in_the_url_as_it_is_written(shop):
    """Plus, ampersand, hash and colon are SQL's; only the percent sign is the URL's."""
    query = "SELECT id + 1 AS n, 6 & 3 AS bits, '#:x' AS mark FROM items WHERE name LIKE '%25ea'"
    assert Readers(trusted=True).read(f"sqlite:///{shop}?query={query}", LIMIT).value() == [
        {"n": 3, "bits": 2, "mark": "#:x"}
    ]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("DELETE FROM items", SourceUnavailable),
        ("ATTACH '/etc/other.db' AS other", SourceUnavailable),
        ("SELECT nonsense FROM items", SourceUnavailable),
        ("SELECT randomblob(20000)", AccessRefused),
        ("SELECT zeroblob(900000000)", AccessRefused),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT zeroblob(5000) FROM n", AccessRefused),
        ("PRAGMA user_version = 3", SourceUnavailable),
    ],
)
def test_a_query_only_reads(shop, query, error):
    """Nothing is written, no other file opened, no more delivered than allowed."""
    before = shop.read_bytes()
    with pytest.raises(error):
        Readers(trusted=True).read(f"sqlite:///{shop}?query={query}", LIMIT)
    assert shop.read_bytes() == before


def test_a_query_without_end_is_stopped(shop):
    """The time limit holds inside the database, too."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(SourceUnavailable, match="interrupted"):
        Readers(trusted=True, timeout_s=0.05).read(f"sqlite:///{shop}?query={endless}", LIMIT)


@pytest.mark.parametrize("source", ["sqlite:///x.db", "sqlite://?query=SELECT 1", "sqlite:///x.db?query=", "http://"])
def test_sources_that_are_none(source):
    """The message says what form is expected."""
    with pytest.raises((InvalidValue, AccessRefused), match=r"expected|is not an http"):
        Readers(trusted=True).check(source)


def test_the_web(web):
    """A body comes whole, over redirects, with the host's own name in the request."""
    readers = Readers(settings=PRIVATE)
    assert readers.read(f"{web}/ok", LIMIT).data == b"hello from " + web.removeprefix("http://").encode()
    assert readers.read(f"{web}/to?/ok", LIMIT).data.startswith(b"hello")
    assert readers.read(f"{web.replace('127.0.0.1', 'localhost')}/ok", LIMIT).data.startswith(b"hello from localhost:")


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("/none", SourceUnavailable, "404"),
        ("/large", AccessRefused, "more than"),
        ("/endless", AccessRefused, "more than"),
        ("/to?/to?/none", SourceUnavailable, "404"),
        ("/to?file:///etc/passwd", AccessRefused, "not an http"),
        ("/to?http://nowhere.invalid/", SourceUnavailable, "can't be found"),
    ],
)
def test_the_web_within_limits(web, path, error, says):
    """What is missing, too large, endless or leads elsewhere ends with the reason."""
    with pytest.raises(error, match=says):
        Readers(settings=PRIVATE).read(web + path, LIMIT)


def test_redirects_in_a_circle_end(web):
    """After a few hops the source counts as unavailable."""
    path = "/to?" + "/to?" * 9 + "/ok"
    with pytest.raises(SourceUnavailable, match="redirects more than"):
        Readers(settings=PRIVATE).read(web + path, LIMIT)


@pytest.mark.parametrize("path", ["/slow", "/slow-headers"])
def test_a_server_that_drips_is_left(web, path):
    """The time limit is for the whole exchange, not for each byte, of its headers neither."""
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="took longer"):
        Readers(settings=PRIVATE, timeout_s=0.2).read(web + path, LIMIT)
    assert time.monotonic() - began < 5


def test_private_places_are_refused(web):
    """By address, by name, in other spellings: unless the settings allow it, even for a trusted caller."""
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254"):
        with pytest.raises(AccessRefused, match="BALANCE_ALLOW_PRIVATE_URLS"):
            Readers(trusted=True).read(f"http://{host}:{web.rpartition(':')[2]}/ok", LIMIT)


def test_a_redirect_to_a_private_place_is_refused(web, monkeypatch):
    """Each hop is checked: a public server can't send us home."""
    real = addresses.is_public
    answers = iter([True])
    monkeypatch.setattr(addresses, "is_public", lambda address: next(answers, None) or real(address))
    with pytest.raises(AccessRefused, match="not on the public internet"):
        Readers().read(f"{web}/to?/ok", LIMIT)


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    """A name that also points inside is refused, whichever address comes first."""
    entries = [(2, 1, 6, "", ("93.184.215.14", 80)), (2, 1, 6, "", ("10.0.0.7", 80))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_a, **_k: entries)
    with pytest.raises(AccessRefused, match=r"10\.0\.0\.7"):
        addresses.pinned_address("rebind.example", 80, allow_private=False)
    assert addresses.pinned_address("rebind.example", 80, allow_private=True) == "93.184.215.14"


@pytest.mark.parametrize(
    "address",
    ["192.168.0.1", "100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1", "64:ff9b::7f00:1", "2002:7f00:1::"],
)
def test_addresses_that_are_not_public(address):
    """Also those that wrap a private IPv4 address in an IPv6 one."""
    assert addresses.is_public(address) is False
