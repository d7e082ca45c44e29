"""The ports of `balance.interfaces` that lead over topics, on a real Kafka."""

from __future__ import annotations

import threading
import uuid

from balance.adapters.external.kafka_messages import KafkaMessages
from balance.adapters.model.topic_model import TopicModel, requests_topic
from balance.config import Settings


def test_a_model_behind_topics_answers(kafka_address):
    """`TopicModel` asks over one topic and hears on another; `KafkaMessages` is the model's side of both."""
    settings = Settings(broker_url=f"kafka://{kafka_address}")
    name = uuid.uuid4().hex
    topic = requests_topic(name)

    def serve(messages):
        for _request in range(2):
            asked = messages.consume_message(topic)
            result = asked["request"]["text"].upper()
            answer = {"correlation_id": asked["correlation_id"], "result": result}
            messages.publish_message(asked["reply_to"], answer)

    with (
        KafkaMessages(settings=settings, group=f"balance-{name}", timeout_s=60) as messages,
        TopicModel(settings=settings, name=name, timeout_s=60) as model,
    ):
        messages.create_topic(topic)
        server = threading.Thread(target=serve, args=(messages,))
        server.start()
        answers = [model.send_request(name, {"text": text}) for text in ("hello", "سلام")]
        server.join()
    assert [(answer["status"], answer["result"]) for answer in answers] == [
        ("completed", "HELLO"),
        ("completed", "سلام"),
    ]
    assert model.unexpected == 0
