"""The way to the web, against a real server on this machine."""

from __future__ import annotations

import gzip
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.host_gate import HostGate
from balance.adapters.collect.web_client import WebClient
from balance.adapters.sources import addresses
from balance.clock import FakeClock
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable


def test_the_same_address_is_fetched_once(site, client, made):
    """A fresh copy is the answer, also for the next client on the same folder."""
    site.page("/a", "salam")
    assert [client.get(f"{site.url}/a").from_cache for _ in range(3)] == [False, True, True]
    assert made().get(f"{site.url}/a").body == b"salam"
    assert site.asked["/a"] == 1


def test_callers_at_a_time_share_one_fetch(site, client):
    """Threads that want one address at the same time: one asks, the others get its copy."""
    site.page("/a", "salam")
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda _: client.get(f"{site.url}/a").body, range(20)))
    assert bodies == [b"salam"] * 20
    assert site.asked["/a"] == 1


def test_an_old_copy_is_asked_about_and_not_sent_again(site, client):
    """With an ETag, a 304 makes the copy fresh again; only a change is transferred."""
    etag = ['"1"']

    def reply(_query, headers):
        if headers.get("If-None-Match") == etag[0]:
            return 304, {"ETag": etag[0]}, b""
        return 200, {"ETag": etag[0]}, f"version {etag[0]}".encode()

    site.pages["/a"] = reply
    first = client.get(f"{site.url}/a")
    again = client.get(f"{site.url}/a", max_age_s=0)
    assert (first.from_cache, again.from_cache, again.body, again.wire_bytes) == (False, True, first.body, 0)
    assert again.fetched_at >= first.fetched_at
    etag[0] = '"2"'
    assert client.get(f"{site.url}/a", max_age_s=0).body == b'version "2"'


def test_last_modified_is_asked_about(site, client):
    """A server that has dates instead of tags is asked by date."""
    site.page("/a", "x", Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
    client.get(f"{site.url}/a")
    client.get(f"{site.url}/a", max_age_s=0)
    assert site.heard["/a"]["If-Modified-Since"] == "Mon, 01 Jan 2024 00:00:00 GMT"


def test_what_may_not_be_stored_is_not(site, client):
    """Cache-Control: no-store is honoured."""
    site.page("/a", "x", Cache_Control="private, no-store")
    assert [client.get(f"{site.url}/a").from_cache for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/a", "http://", "http://user:pw@127.0.0.1/", "gopher:x"]
)
def test_only_web_addresses_are_followed(client, url):
    """A file: or anything else that is no web address is refused before anything is opened."""
    with pytest.raises((AccessRefused, InvalidValue)):
        client.get(url)


def test_a_private_host_is_refused(site, made):
    """Loopback and private networks are out of reach unless allowed, or the operator's own."""
    site.page("/a", "x")
    client = made(allow_private=False)
    with pytest.raises(AccessRefused, match="BALANCE_ALLOW_PRIVATE_URLS"):
        client.get(f"{site.url}/a")
    assert site.asked["/a"] == 0
    assert client.get(f"{site.url}/a", trusted=True).body == b"x"


def test_a_redirect_to_a_private_host_is_refused(site, made, monkeypatch):
    """Each hop is checked: a public page can't send the collector to this machine."""
    site.page("/to", b"", 302, Location=f"http://127.0.0.2:{site.url.rpartition(':')[2]}/secret")
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    with pytest.raises(AccessRefused, match=r"127\.0\.0\.2"):
        made(allow_private=False).get(f"{site.url}/to")
    assert site.asked["/secret"] == 0


def test_redirects_are_followed_to_a_limit(site, client):
    """A redirect leads to the page; a circle ends."""
    site.page("/to", b"", 301, Location="/a")
    site.page("/a", "there")
    site.page("/round", b"", 302, Location="/round")
    assert client.get(f"{site.url}/to").url == f"{site.url}/a"
    with pytest.raises(SourceUnavailable, match="redirects more than 5 times"):
        client.get(f"{site.url}/round")
    assert site.asked["/round"] == 6


def test_a_redirect_to_a_file_is_refused(site, client):
    """A redirect can't leave the web."""
    site.page("/to", b"", 302, Location="file:///etc/passwd")
    with pytest.raises(AccessRefused):
        client.get(f"{site.url}/to")


def test_credentials_stay_with_their_host(site, client):
    """A redirect to another origin does not get them."""
    port = site.url.rpartition(":")[2]
    site.page("/to", b"", 302, Location=f"http://localhost:{port}/other")
    site.page("/other", "x")
    client.get(f"{site.url}/to", secret_headers={"Authorization": "Bearer s3cret"})
    assert site.heard["/to"]["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in site.heard["/other"]


def test_a_secret_in_the_address_is_in_no_error_and_not_on_disk(site, client, tmp_path):
    """What errors and the cache show of an address leaves the token out."""
    site.page("/bots3cret/ok", "{}")
    with pytest.raises(SourceUnavailable, match="404") as error:
        client.get(f"{site.url}/bots3cret/no", secret="s3cret")
    assert "s3cret" not in str(error.value) + str(error.value.details)
    assert "s3cret" not in client.get(f"{site.url}/bots3cret/ok", secret="s3cret").url
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept and not any(b"s3cret" in content for content in kept)


def test_too_much_is_refused(site, client):
    """A body that is larger than the limit is not taken, however it is announced; an endless one ends."""
    site.page("/large", b"x" * 10_001)
    for path in ("/large", "/endless"):
        with pytest.raises(AccessRefused, match="more than the 10000 bytes"):
            client.get(f"{site.url}{path}", max_bytes=10_000)


def test_a_bomb_is_refused(site, client, bomb):
    """Thirty megabytes of zeros in thirty kilobytes: the limit is on what comes out, and no more is ever made of it."""
    site.page("/bomb", bomb, Content_Encoding="gzip")
    tracemalloc.start()
    try:
        with pytest.raises(AccessRefused, match="more than the 1000000 bytes"):
            client.get(f"{site.url}/bomb", max_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_gzip_is_read(site, client):
    """A compressed body is decompressed; a damaged or unasked-for one is an error of the source."""
    site.page("/a", gzip.compress(b"salam" * 100), Content_Encoding="gzip")
    site.page("/cut", gzip.compress(b"salam" * 100)[:-12], Content_Encoding="gzip")
    site.page("/bad", b"no gzip", Content_Encoding="gzip")
    site.page("/br", b"x", Content_Encoding="br")
    page = client.get(f"{site.url}/a")
    assert page.body == b"salam" * 100 and page.wire_bytes < 100
    for path, why in (("/cut", "broke off"), ("/bad", "damaged"), ("/br", "not asked for")):
        with pytest.raises(SourceUnavailable, match=why):
            client.get(site.url + path)


@pytest.mark.parametrize("path", ["/slow", "/slow-headers"])
def test_a_slow_answer_ends_in_time(site, made, path):
    """A byte now and then, in the body or in the headers, does not hold the collector beyond the limit."""
    began = time.monotonic()
    with pytest.raises(SourceUnavailable):
        made(timeout_s=0.2).get(site.url + path)
    assert time.monotonic() - began < 2.0


def test_huge_headers_are_refused(site, client):
    """Headers have a limit of their own."""
    site.page("/a", "x", X_Long="x" * 200_000)
    with pytest.raises(SourceUnavailable, match="did not deliver"):
        client.get(f"{site.url}/a")


def test_a_host_that_says_later_is_asked_later(site, made, tmp_path):
    """A 429 with Retry-After: the host is left alone for so long by everybody, then the request goes on."""
    clock = FakeClock()
    asked = []

    def reply(_query, _headers):
        asked.append(clock.now())
        return (429, {"Retry-After": "7"}, b"") if len(asked) == 1 else (200, {}, b"now")

    site.pages["/a"] = reply
    client = made(clock=clock, timeout_s=30.0)
    assert client.get(f"{site.url}/a").body == b"now"
    assert asked == [0.0, 7.0]


def test_a_wait_that_is_too_long_is_said(site, made):
    """Where the host wants more patience than there is, the error says how much; nothing is asked meanwhile."""
    clock = FakeClock()
    site.page("/a", b"", 503, Retry_After=formatdate(clock.wall() + 600, usegmt=True))
    site.page("/b", "x")
    client = made(clock=clock, timeout_s=30.0)
    with pytest.raises(SourceUnavailable) as error:
        client.get(f"{site.url}/a")
    assert error.value.details["retry_after_s"] == 600.0
    with pytest.raises(SourceUnavailable, match="may be asked again in 600"):
        client.get(f"{site.url}/b")
    assert (site.asked["/a"], site.asked["/b"]) == (1, 0)


def test_a_host_is_asked_at_its_pace(site, made):
    """Requests to one host start an interval apart; another host is not held up."""
    clock = FakeClock()
    site.page("/a", "x")
    client = made(clock=clock, interval_s=2.0, timeout_s=60.0)
    for number in range(4):
        client.get(f"{site.url}/a", params={"n": number})
    assert clock.now() == 6.0
    client.get(f"{site.url.replace('127.0.0.1', 'localhost')}/a")
    assert clock.now() == 6.0


def test_only_so_many_at_a_time(site):
    """One host has at most two requests under way."""
    gate = HostGate(clock=FakeClock(), interval_s=0.0)
    inside, most = [0], [0]
    both = threading.Barrier(2, timeout=5)
    lock = threading.Lock()

    def visit(number):
        with gate.turn("h", float("inf")):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            if number < 2:
                both.wait()
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(visit, range(6)))
    assert most[0] == 2


def test_no_server_is_an_error_of_the_source(client):
    """Nobody listens, or the name is unknown: try again later."""
    for url in ("http://127.0.0.1:9/", "http://no-such-host.invalid/"):
        with pytest.raises(SourceUnavailable):
            client.get(url)


def test_a_client_without_a_cache_fetches_each_time(site):
    """The cache is optional."""
    site.page("/a", "x")
    clock = FakeClock()
    client = WebClient(clock=clock, gate=HostGate(clock=clock, interval_s=0.0), allow_private=True)
    assert [client.get(f"{site.url}/a").body for _ in range(2)] == [b"x", b"x"]
    assert site.asked["/a"] == 2


def test_the_cache_is_bounded_and_forgets_the_oldest(tmp_path):
    """More than fits: what was not used for longest goes, on disk too; a damaged body counts as missing."""
    cache = BlobCache(tmp_path, max_bytes=10_000)
    for number in range(10):
        cache.put(f"k{number}", bytes([number]) * 2_000, {})
        cache.get("k0")
    assert cache.held_bytes <= 10_000
    assert cache.get("k0") is not None and cache.get("k1") is None and cache.get("k9") is not None
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10_000
    again = BlobCache(tmp_path, max_bytes=10_000)
    assert again.get("k9") == ({}, b"\x09" * 2_000)
    for path in (tmp_path / "blobs").iterdir():
        path.write_bytes(b"damaged")
    assert again.get("k9") is None
    assert again.blob("../entries/x") is None
