"""Invariants of what is collected over the web: nothing twice, nothing too often, nothing beyond the limits."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.collectors import Collectors
from balance.adapters.collect.host_gate import HostGate
from balance.adapters.collect.inflater import Inflater
from balance.clock import FakeClock
from balance.config import Settings
from balance.errors import AccessRefused, SourceUnavailable


@pytest.fixture(scope="module")
def counted():
    """A server that answers each address with itself and counts what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.path.encode()
            asked = self.server.asked
            asked[self.path] = asked.get(self.path, 0) + 1
            self.send_response(404 if self.path == "/robots.txt" else 200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["web", "file"]), st.integers(0, 4), st.booleans()), max_size=12))
def test_the_same_data_is_never_fetched_twice(counted, requests):
    """However often and under whichever kind it is asked for, also over restarts: one fetch for each address."""
    counted.asked = {}
    folder = tempfile.mkdtemp()
    given_settings = Settings(state_dir=folder, allow_private_urls=True, collect_interval_s=0.0)
    try:
        collectors = Collectors(settings=given_settings, clock=FakeClock())
        for source, number, restarts in requests:
            if restarts:
                collectors = Collectors(settings=given_settings, clock=FakeClock())
            found = collectors.collect(source, f"http://127.0.0.1:{counted.server_port}/{number}")
            assert found.items[0]["text"] == f"/{number}"
    finally:
        shutil.rmtree(folder)
    asked = {path: count for path, count in counted.asked.items() if path != "/robots.txt"}
    assert asked == {f"/{number}": 1 for _source, number, _restarts in requests}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5), st.none() | st.floats(0, 20)), max_size=30),
    st.floats(0.1, 3),
)
def test_a_host_is_never_asked_too_early(visits, interval_s):
    """Starts at one host are an interval apart, and none is before the moment the host asked for."""
    clock = FakeClock()
    gate = HostGate(clock=clock, interval_s=interval_s)
    last: dict[str, float] = {}
    not_before: dict[str, float] = {}
    for host, passes_s, hold_s in visits:
        clock.advance(passes_s)
        deadline_s = clock.now() + 10.0
        try:
            with gate.turn(host, deadline_s):
                assert clock.now() >= last.get(host, -interval_s) + interval_s - 1e-9
                assert clock.now() >= not_before.get(host, 0.0) - 1e-9
                assert clock.now() <= deadline_s + 1e-9
                last[host] = clock.now()
        except SourceUnavailable as error:
            assert clock.now() + error.details["retry_after_s"] > deadline_s
        if hold_s is not None:
            gate.hold(host, hold_s)
            not_before[host] = max(not_before.get(host, 0.0), clock.now() + hold_s)


@given(st.binary(max_size=5_000), st.integers(0, 6_000), st.integers(1, 500), st.booleans())
def test_what_comes_out_is_the_content_or_refused(content, max_bytes, piece_bytes, compressed):
    """Whatever the pieces: the very content if it fits the limit, else a refusal; never one byte more."""
    body = gzip.compress(content) if compressed else content
    inflater = Inflater("gzip" if compressed else "", max_bytes, "x")
    pieces = [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)]
    if len(content) > max_bytes:
        with pytest.raises(AccessRefused):
            for piece in pieces:
                inflater.add(piece)
    else:
        assert b"".join(inflater.add(piece) for piece in pieces) == content
        inflater.end()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "get", "restart"]), st.integers(0, 5), st.integers(0, 3)), max_size=25),
    st.integers(0, 4_000),
)
def test_the_cache_gives_what_was_put_and_stays_within_its_bound(steps, max_bytes):
    """A hit is the last body that was put there; never more bytes than the bound; a restart changes nothing."""
    put: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = BlobCache(folder, max_bytes=max_bytes)
        for what, key, value in steps:
            if what == "put":
                put[f"k{key}"] = bytes([value]) * 700
                cache.put(f"k{key}", put[f"k{key}"], {"value": value})
            elif what == "get":
                found = cache.get(f"k{key}")
                assert found is None or found[1] == put[f"k{key}"] == bytes([found[0]["value"]]) * 700
            else:
                held = cache.held_bytes
                cache = BlobCache(folder, max_bytes=max_bytes)
                assert cache.held_bytes == held
            on_disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            assert on_disk <= cache.held_bytes <= max_bytes
