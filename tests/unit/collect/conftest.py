from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.host_gate import HostGate
from balance.adapters.collect.store_client import StoreClient
from balance.adapters.collect.web_client import WebClient
from balance.adapters.sources.paths import PathPolicy
from balance.clock import FakeClock, SystemClock

ARTICLE = """<html lang="fa"><head><title>گربه ایرانی</title><meta charset="utf-8">{more}</head><body>
<nav><a href="/a">home</a> <a href="/b">about</a></nav>
<article><h1>گربه ایرانی</h1><p>{text}</p><p>{text}</p></article><footer>all rights reserved</footer></body></html>"""
SENTENCE = "گربه ایرانی یکی از نژادهای گربه است که موهای بلند و صورت پهن دارد و در جهان بسیار محبوب است. " * 3


class Site:
    """What the server of these tests answers with, by path; `asked` counts, `heard` keeps the last headers."""

    def __init__(self):
        self.asked = Counter()
        self.heard = {}
        self.pages = {}
        self.stop = threading.Event()

    def page(self, path, body=b"", status=200, **headers):
        """Answer a path with the same each time; a callable gets the query and the headers."""
        body = body.encode() if isinstance(body, str) else body
        self.pages[path] = body if callable(body) else lambda _query, _headers: (status, headers, body)

    def json(self, path, answer):
        """Answer with JSON; a callable gets the query's first values."""
        made = answer if callable(answer) else lambda _query: answer

        def reply(query, _headers):
            return 200, {"Content-Type": "application/json"}, json.dumps(made(query)).encode()

        self.pages[path] = reply


def handler_of(site):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            site.asked[parts.path] += 1
            site.heard[parts.path] = dict(self.headers)
            if parts.path in ("/endless", "/slow", "/slow-headers"):
                self.trickle(parts.path)
                return
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path in site.pages:
                status, headers, body = site.pages[parts.path](query, self.headers)
            else:
                status, headers, body = 404, {}, b"nothing here"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def trickle(self, path):
            if path != "/slow-headers":
                self.send_response(200)
                self.end_headers()
            piece = b"x" * 65_536 if path == "/endless" else b"x"
            try:
                if path == "/slow-headers":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not site.stop.is_set():
                    self.wfile.write(piece)
                    if path != "/endless":
                        site.stop.wait(0.01)
            except OSError:
                return

        def log_message(self, *_):
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that hangs up is what these tests are about


@pytest.fixture(scope="session")
def _server():
    server = _Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site(_server):
    site = Site()
    site.url = f"http://127.0.0.1:{_server.server_port}"
    _server.RequestHandlerClass = handler_of(site)
    yield site
    site.stop.set()


@pytest.fixture
def made(tmp_path):
    """Build a client; the cache lies in this test's folder."""

    def build(*, allow_private=True, interval_s=0.0, timeout_s=5.0, clock=None, **options):
        clock = clock or SystemClock()
        return WebClient(
            clock=clock,
            gate=HostGate(clock=clock, interval_s=interval_s),
            cache=BlobCache(tmp_path / "collected"),
            allow_private=allow_private,
            timeout_s=timeout_s,
            **options,
        )

    return build


@pytest.fixture
def client(made):
    return made()


@pytest.fixture
def stored(tmp_path):
    """Build a reader of files and databases below the folders given; the cache lies in this test's folder.

    Its clock runs years ahead of the files that a test writes: to it they are old, and what it reads twice in a moment
    can't be told from what it reads later.
    """

    def build(*roots, clock=None):
        return StoreClient(
            clock=clock or FakeClock(epoch=4e9),
            paths=PathPolicy(roots=map(str, roots)),
            cache=BlobCache(tmp_path / "stored"),
        )

    return build


@pytest.fixture
def article():
    def page(more=""):
        return ARTICLE.format(more=more, text=SENTENCE)

    return page


@pytest.fixture
def bomb():
    return gzip.compress(bytes(30_000_000))
