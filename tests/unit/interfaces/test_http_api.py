"""`HttpAPI` against a real server on loopback: what is tried again, what is not, and when the circuit opens."""

from __future__ import annotations

import json
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from balance.adapters.external.circuit_breaker import CircuitBreaker
from balance.adapters.external.http_api import HttpAPI
from balance.adapters.model.http_model import HttpModel
from balance.adapters.model.responses import ModelResponses
from balance.clock import FakeClock
from balance.errors import AccessRefused, InvalidValue, SourceUnavailable


class Service(ThreadingHTTPServer):
    """Answers as it is told: a list of (status, headers, body), the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, dict[str, str], bytes]] = [(200, {}, b"{}")]
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        script = self.server.script
        status, headers, said = script.pop(0) if len(script) > 1 else script[0]
        if status == 0:  # hang up without a word
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def service():
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def api(service, clock):
    with HttpAPI(base_url=service.url, allow_private=True, clock=clock) as made:
        yield made


OK = (200, {}, b'{"text": "\xd8\xb3\xd9\x84\xd8\xa7\xd9\x85"}')
BUSY = (503, {}, b"")


def test_json_goes_out_and_comes_back(service, api):
    """The payload is JSON in UTF-8 below the base URL, and the answer's JSON is the body."""
    service.script = [OK]
    said = api.send_request("models/a%20b?x=1", {"query": "زبان"})
    method, path, headers, body = service.seen[0]
    assert (method, path, json.loads(body)) == ("POST", "/v1/models/a%20b?x=1", {"query": "زبان"})
    assert headers["Host"] == f"127.0.0.1:{service.server_port}"
    assert (said["status"], said["http_status"], said["body"], said["attempts"]) == ("ok", 200, {"text": "سلام"}, 1)


def test_what_is_busy_is_asked_again_with_the_same_key(service, api, clock):
    """All attempts of a request carry one Idempotency-Key; between them the clock moves."""
    service.script = [BUSY, (0, {}, b""), OK]
    assert api.send_request("x", {})["attempts"] == 3
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in service.seen]
    assert len(set(keys)) == 1
    assert 0 < clock.now() < 2


def test_a_post_without_a_key_is_never_repeated(service, api):
    """Neither after a 503 nor after a lost answer: it may have been done."""
    for first in (BUSY, (0, {}, b"")):
        service.script, service.seen = [first, OK], []
        with pytest.raises(SourceUnavailable):
            api.request("POST", "x", {})
        assert len(service.seen) == 1


def test_what_never_arrived_is_repeated_whatever_it_is(clock):
    """A connection that is refused carried nothing, so even a POST without a key is tried again."""
    with (
        HttpAPI(base_url="http://127.0.0.1:9", allow_private=True, attempts=3, clock=clock) as api,
        pytest.raises(SourceUnavailable, match="did not answer") as caught,
    ):
        api.request("POST", "x", {})
    assert clock.now() > 0
    assert type(caught.value) is SourceUnavailable


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(service, api, clock, form):
    """The service says when to come again, in seconds or as a date, and not before that it is asked."""
    said = "7" if form == "seconds" else formatdate(clock.wall() + 7, usegmt=True)
    service.script = [(429, {"Retry-After": said}, b""), OK]
    api.request("GET", "x")
    assert 7 <= clock.now() < 8


def test_a_wait_beyond_the_deadline_is_not_begun(service, api, clock):
    """Where the service wants more time than there is, the caller is told at once, and when to come again."""
    service.script = [(503, {"Retry-After": "3600"}, b"")]
    with pytest.raises(SourceUnavailable) as caught:
        api.request("GET", "x")
    assert caught.value.details["retry_in_s"] == 3600.0
    assert (clock.now(), len(service.seen)) == (0.0, 1)


def test_no_is_an_answer(service, api):
    """4xx and redirects are results, are not tried again, and do not open the circuit."""
    service.script = [(404, {}, b"<html>"), (302, {"Location": "http://10.0.0.1/"}, b"")]
    assert api.send_request("x", {}) | {"elapsed_s": 0, "idempotency_key": ""} == {
        "status": "rejected",
        "http_status": 404,
        "body": "<html>",
        "location": None,
        "attempts": 1,
        "elapsed_s": 0,
        "idempotency_key": "",
    }
    moved = api.send_request("x", {})
    assert (moved["status"], moved["location"], len(service.seen)) == ("rejected", "http://10.0.0.1/", 2)


def test_answers_that_are_no_json_or_too_large(service, clock):
    """Nonsense is `SourceUnavailable`; more than is read is `AccessRefused`."""
    with HttpAPI(base_url=service.url, allow_private=True, max_bytes=10, clock=clock) as api:
        service.script = [(200, {}, b"hello"), (200, {}, b'{"a":NaN}'), (200, {}, b'"' + b"x" * 10 + b'"')]
        for expected in (SourceUnavailable, SourceUnavailable, AccessRefused):
            with pytest.raises(expected):
                api.request("GET", "x")


def test_the_circuit_opens_and_one_probe_closes_it(service, clock):
    """After failures in a row nobody is asked until the time is over; then one is, and a good answer closes it."""
    breaker = CircuitBreaker(failures=2, open_s=30, clock=clock)
    with HttpAPI(base_url=service.url, allow_private=True, attempts=1, breaker=breaker, clock=clock) as api:
        service.script = [BUSY, BUSY, OK]
        for _ in range(4):
            with pytest.raises(SourceUnavailable):
                api.request("GET", "x")
        assert (breaker.state, len(service.seen)) == ("open", 2)
        clock.advance(30)
        assert api.request("GET", "x")["status"] == "ok"
        assert breaker.state == "closed"


def test_a_failed_probe_opens_the_circuit_again(clock):
    """Half open is one failure away from open, whatever the limit was."""
    breaker = CircuitBreaker(failures=3, open_s=10, clock=clock)
    for _ in range(3):
        breaker.failed()
    clock.advance(10)
    assert breaker.allow()
    breaker.failed()
    assert (breaker.state, breaker.retry_in_s) == ("open", 10.0)


def test_a_probe_that_is_never_heard_of_blocks_nobody(clock):
    """A caller that died between the question and its outcome costs one more period, not the service for ever."""
    breaker = CircuitBreaker(failures=1, open_s=10, clock=clock)
    breaker.failed()
    clock.advance(10)
    assert breaker.allow()
    assert not breaker.allow()
    clock.advance(10)
    assert breaker.allow()


def test_private_places_are_refused_unless_allowed(service, monkeypatch):
    """Loopback is reached with the setting and not without, and a refusal says nothing of the service's health."""
    with HttpAPI(base_url=service.url) as api:
        for _ in range(6):
            with pytest.raises(AccessRefused):
                api.send_request("x", {})
        assert api.breaker.state == "closed"
    monkeypatch.setenv("BALANCE_ALLOW_PRIVATE_URLS", "true")
    with HttpAPI(base_url=service.url) as api:
        assert api.send_request("x", {})["status"] == "ok"


@pytest.mark.parametrize(
    "endpoint", ["../admin", "a/%2e%2e/b", "//evil.example/x", "http://evil.example", "a\\b", "a\nb", "a#b", 7]
)
def test_an_endpoint_stays_below_the_base(api, service, endpoint):
    """What would lead elsewhere is a caller's mistake, and nothing is sent."""
    with pytest.raises(InvalidValue):
        api.send_request(endpoint, {})
    assert not service.seen


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://user:secret@a", "http://a?x=1", "nonsense", 7])
def test_a_base_url_is_checked(url):
    """It is http(s) with a host; a password in it is not repeated in the message."""
    with pytest.raises(InvalidValue) as caught:
        HttpAPI(base_url=url)
    assert "secret" not in str(caught.value)


def test_mistakes_in_a_request_send_nothing(api, service):
    """A payload that JSON has no words for, a method that is none, a key that no header takes."""
    for arguments, key in ((("POST", "x", {"a": float("nan")}), None), (("BREW", "x"), None), (("GET", "x"), "کلید")):
        with pytest.raises(InvalidValue):
            api.request(*arguments, idempotency_key=key)
    assert not service.seen


def test_what_the_service_sends_of_its_own_accord(service, clock):
    """A webhook's object goes to the callback and is counted; anything else is refused."""
    heard: list[dict] = []
    with HttpAPI(base_url=service.url, on_response=heard.append, clock=clock) as api:
        api.receive_response({"done": True})
        with pytest.raises(InvalidValue):
            api.receive_response(["done"])
        assert (heard, api.received) == ([{"done": True}], 1)


def test_a_model_over_http(service, api):
    """The id goes into the path, the request's id is the key, and every answer has the same keys."""
    responses = ModelResponses()
    model = HttpModel(api=api, responses=responses)
    service.script = [
        (200, {}, b'{"result": [1, 2], "run_s": 0.5}'),
        (200, {}, b"[3]"),
        (422, {}, b'{"detail": "no"}'),
        (200, {}, b'{"status": "strange"}'),
        (500, {}, b""),
    ]
    first = model.send_request("whisper/v3 مدل", {"text": "hello", "request_id": "درخواست"})
    _, path, headers, body = service.seen[0]
    assert path == "/v1/models/whisper%2Fv3%20%D9%85%D8%AF%D9%84"
    assert headers["Idempotency-Key"].startswith("%D8%AF")
    assert json.loads(body) == {"text": "hello", "model_id": "whisper/v3 مدل", "request_id": "درخواست"}
    assert (first["status"], first["result"], first["run_s"], first["request_id"]) == (
        "completed",
        [1, 2],
        0.5,
        "درخواست",
    )
    others = [model.send_request("m", {}) for _ in range(4)]
    assert [each["status"] for each in others] == ["completed", "rejected", "failed", "failed"]
    assert others[0]["result"] == [3]
    assert others[1]["error"]["details"]["body"] == {"detail": "no"}
    assert all(each.keys() == first.keys() for each in others)
    model.receive_response("m", {"status": "ok"})
    assert responses.counts()["m"] == {"completed": 2, "failed": 2, "rejected": 1}
    with pytest.raises(InvalidValue):
        model.send_request("m", "text")
