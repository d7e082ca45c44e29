"""The pool of collectors on a real Ray, against a real server that counts: nothing twice, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from balance.messaging import DATA_REQUESTS_TOPIC, Outgoing, results_topic

pytestmark = pytest.mark.cluster


class Site:
    """A server on loopback that counts what it is asked for, and answers when the gate is open."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        site, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    site.asked[self.path] += 1
                site.gate.wait(30)
                body = json.dumps([{"path": self.path}]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    """A counting server."""
    made = Site()
    yield made
    made.close()


class Answers:
    """What lies on the results topic of a model: every message of it, read from the start."""

    def __init__(self, cluster: Any, model: str) -> None:
        self.cluster = cluster
        self.topic = results_topic(model)
        self.reader = ("test", 1)

    def all(self) -> list[dict[str, Any]]:
        """Return the answers that are there now."""
        ask, who = self.cluster.ask, (self.reader, self.topic, f"look-{os.urandom(4).hex()}", "m")
        joined = ask("messaging", "broker_poll", *who, generation=0, positions={})
        how = {"generation": joined.generation, "positions": joined.assigned, "max_records": 10_000}
        polled = ask("messaging", "broker_poll", *who, **how, wait_s=0.0)
        ask("messaging", "broker_leave", *who)
        return [json.loads(record.value) for record in polled.records]

    def of(self, request_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        """Wait until each of these requests is answered; return the answers by request."""

        def found() -> dict[str, list[dict[str, Any]]] | None:
            by_id: dict[str, list[dict[str, Any]]] = {}
            for answer in self.all():
                by_id.setdefault(answer["metadata"]["request_id"], []).append(answer)
            return by_id if set(request_ids) <= by_id.keys() else None

        answered: dict[str, list[dict[str, Any]]] = self.cluster.eventually(found, 60.0)
        return answered


def request(cluster: Any, model: str, url: str, request_id: str, source: str = "api", **parameters: Any) -> None:
    """Ask for an address on behalf of a model."""
    how = {"request_id": request_id, **parameters}
    taken = cluster.ask("messaging", "request_data", model, url, "structured", source, **how)
    assert taken["status"] == "sent"


def kill_all(cluster: Any) -> None:
    """End every collector with ``kill -9``."""
    for number in range(1, cluster.settings.collectors + 1):
        pid = cluster.ask(f"collector-{number}", "ping")["pid"]
        os.kill(pid, signal.SIGKILL)


def test_the_partitions_are_spread_and_taken_over(balance_cluster: Any, unique: Any, site: Site) -> None:
    """Both collectors answer; when one is killed, all requests are answered all the same."""
    model, ids = unique("model"), [unique(f"r{number}") for number in range(32)]

    def both(what: str) -> list[Any]:
        return [balance_cluster.ask(f"collector-{number}", "stats")[what] for number in (1, 2)]

    balance_cluster.eventually(lambda: [len(each) for each in both("partitions")] == [4, 4])
    for number, request_id in enumerate(ids[:16]):
        request(balance_cluster, model, f"{site.url}/{number}", request_id)
    answers = Answers(balance_cluster, model)
    assert all(answer["status"] == "ok" for of_one in answers.of(ids[:16]).values() for answer in of_one)
    assert all(both("fetched")), "the keys of 16 addresses lie in partitions of both"
    os.kill(balance_cluster.ask("collector-1", "ping")["pid"], signal.SIGKILL)
    for number, request_id in enumerate(ids[16:], 16):
        request(balance_cluster, model, f"{site.url}/{number}", request_id)
    answered = answers.of(ids)
    assert {answer["data"]["items"][0]["path"] for of_one in answered.values() for answer in of_one} == {
        f"/{number}" for number in range(32)
    }
    assert set(site.asked.values()) == {1}
    assert balance_cluster.ask("data_coordinator", "stats")["collected"]["api"]["collected"] > 0
    how = {"data_type": "structured", "source_type": "api"}

    def estimate() -> float:
        taken = balance_cluster.ask("messaging", "request_data", model, f"{site.url}/0", **how)
        return float(taken["estimated_time"])

    guess = 5.0  # before anything was measured, as documented
    balance_cluster.eventually(lambda: 0.0 < estimate() < guess)


def test_a_kill_between_fetch_and_answer_fetches_nothing_again(balance_cluster: Any, unique: Any, site: Site) -> None:
    """Every collector dies while the source is at it: what was asked for arrives, once, for all who wait for it."""
    model, ids = unique("model"), [unique("r") for _ in range(3)]
    site.gate.clear()
    for request_id in ids:  # three requests for the same
        request(balance_cluster, model, f"{site.url}/slow", request_id)
    balance_cluster.eventually(lambda: site.asked["/slow"])
    kill_all(balance_cluster)
    request(balance_cluster, model, f"{site.url}/slow", late := unique("late"))
    site.gate.set()
    answered = Answers(balance_cluster, model).of([*ids, late])
    assert all(answer["status"] == "ok" for of_one in answered.values() for answer in of_one)
    assert site.asked == {"/slow": 1}


def test_files_and_databases_are_read_once_for_the_whole_pool(balance_cluster: Any, unique: Any) -> None:
    """Two questions about one file, and one to a database asked twice with an age: read once, whoever answers."""
    model, ids = unique("model"), [unique("r") for _ in range(4)]
    folder = Path(balance_cluster.settings.allow_file_roots)
    (folder / "a.csv").write_text("n\n1\n2\n")
    with closing(sqlite3.connect(folder / "a.db")) as connection, connection:
        connection.execute("CREATE TABLE items (n INTEGER)")
        connection.execute("INSERT INTO items VALUES (3)")
    answers = Answers(balance_cluster, model)
    found = []
    for request_id, source, query, parameters in (
        (ids[0], "file", f"{folder}/a.csv", {}),
        (ids[1], "file", f"{folder}/a.csv", {"limit": 1}),
        (ids[2], "database", f"sqlite:///{folder}/a.db?query=SELECT n FROM items", {}),
        (ids[3], "database", f"sqlite:///{folder}/a.db?query=SELECT n FROM items", {"max_age_s": 600}),
    ):
        request(balance_cluster, model, query, request_id, source, **parameters)
        [answer] = answers.of([request_id])[request_id]
        assert answer["status"] == "ok", answer
        found.append((answer["data"]["items"], answer["data"]["from_cache"]))
    assert found == [
        ([{"n": "1"}, {"n": "2"}], False),
        ([{"n": "1"}], True),
        ([{"n": 3}], False),
        ([{"n": 3}], True),
    ]


def test_a_request_that_comes_again_finds_its_outcome(balance_cluster: Any, unique: Any, site: Site) -> None:
    """The same message once more, after every collector has died: the stored answer, whoever gets it."""
    model, request_id = unique("model"), unique("r")
    request(balance_cluster, model, f"{site.url}/once", request_id)
    answers = Answers(balance_cluster, model)
    [first] = answers.of([request_id])[request_id]
    kill_all(balance_cluster)
    message = {
        "metadata": {**first["metadata"], "created_at": "2020-01-01T00:00:00+00:00"},
        "model_id": model,
        "query": f"{site.url}/elsewhere",
        "data_type": "structured",
        "data_source": "api",
        "response_topic": answers.topic,
    }
    again = Outgoing(b"k", json.dumps(message).encode(), {})
    balance_cluster.ask("messaging", "broker_append", DATA_REQUESTS_TOPIC, [again])
    balance_cluster.eventually(lambda: len(answers.all()) == 2, 60.0)
    assert answers.all()[1] == first
    assert site.asked == {"/once": 1}
