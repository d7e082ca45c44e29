"""Balance's actors on a real Kafka: a model's request from its topic to its answer, with and without ``kill -9``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import uuid

import pytest

from actors.system import find_actors, start_actors, stop_actors
from balance.config import Settings
from balance.messaging import MODELS_REQUESTS_TOPIC, KafkaService, Outgoing, results_topic

pytestmark = pytest.mark.cluster
TIMEOUT_S = 60.0


@pytest.fixture
def balance_on_kafka(ray_cluster, own_kafka, tmp_path):
    """Give a function that asks an actor of a Balance whose broker is a Kafka of its own."""
    if find_actors():
        stop_actors(drain_s=0)  # those that run are on another broker; the next test that needs them starts them
    settings = Settings.from_env(
        {"BALANCE_BROKER_URL": f"kafka://{own_kafka.address}", "BALANCE_STATE_DIR": str(tmp_path)},
        allow_file_roots=str(tmp_path),
    )
    start_actors(settings)

    def ask(name, method, *args, **how):
        actor = ray_cluster.get_actor(name, namespace="balance")
        return ray_cluster.get(getattr(actor, method).remote(*args, **how), timeout=TIMEOUT_S)

    yield ask, settings
    stop_actors(drain_s=0)


def eventually(condition):
    until = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < until, f"still {found!r}"
        time.sleep(0.1)
    return found


def test_a_request_travels_over_kafka(balance_on_kafka, tmp_path):
    """Model's topic, data service, collector, results topic: once for each request, whoever is killed on the way.

    A program outside of Ray that speaks to Kafka itself sees the same messages.
    """
    ask, settings = balance_on_kafka
    (tmp_path / "words.txt").write_text("one two three")

    def request(model, request_id):
        body = {
            "model_id": model,
            "query": str(tmp_path / "words.txt"),
            "source_type": "file",
            "request_id": request_id,
        }
        return Outgoing(model.encode(), json.dumps(body).encode(), {})

    async def answers(model, count):
        heard, done = [], asyncio.Event()

        async def hear(message):
            heard.append(message.value)
            if len(heard) == count:
                done.set()

        async with KafkaService(settings=settings) as service:
            await service.create_topic(results_topic(model))
            await service.subscribe(results_topic(model), f"outside-{uuid.uuid4().hex}", hear)
            await asyncio.wait_for(done.wait(), TIMEOUT_S)
        return heard

    eventually(lambda: MODELS_REQUESTS_TOPIC in ask("messaging", "broker_topics"))
    ask(
        "messaging", "broker_append", MODELS_REQUESTS_TOPIC, [request("whisper", "r-1"), Outgoing(None, b"no json", {})]
    )
    [first] = asyncio.run(answers("whisper", 1))
    assert (first["status"], first["data"]["items"]) == ("ok", [{"text": "one two three"}])
    assert first["metadata"]["request_id"] == "r-1"

    for name in ("collector-1", "messaging"):
        os.kill(ask(name, "ping")["pid"], signal.SIGKILL)
    ask("messaging", "broker_append", MODELS_REQUESTS_TOPIC, [request("whisper", f"r-{n}") for n in range(2, 8)])
    all_of_them = asyncio.run(answers("whisper", 7))
    assert sorted(answer["metadata"]["request_id"] for answer in all_of_them) == [f"r-{n}" for n in range(1, 8)]
    assert {answer["status"] for answer in all_of_them} == {"ok"}

    assert ask("messaging", "list_dead_letters")["topics"] == {MODELS_REQUESTS_TOPIC: 1}
    [letter] = ask("messaging", "show_dead_letters", MODELS_REQUESTS_TOPIC)["letters"]
    assert letter["text"] == "no json"
    assert ask("messaging", "replay_dead_letters", MODELS_REQUESTS_TOPIC)["replayed"] == 1
    eventually(lambda: ask("messaging", "list_dead_letters")["open"] == 1)
