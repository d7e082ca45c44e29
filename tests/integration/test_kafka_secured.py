"""A Kafka that asks who comes, over TLS: the options of the broker URL reach every client, and refusals are told."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest

from balance.config import Settings
from balance.errors import ConfigurationError
from balance.messaging import KafkaService


def url_of(server, **changed):
    """Return the broker URL of a secured server, with properties of librdkafka changed (``_`` for ``.``)."""
    given = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "balance",
        "sasl.password": "of-these-tests",
        "ssl.ca.location": str(server.certificate),
        **{name.replace("_", "."): value for name, value in changed.items()},
    }
    return f"kafka://{server.address}?{urlencode({name: value for name, value in given.items() if value})}"


def send_and_read(url):
    """Create topics, send, read in a group, answer in a transaction: every kind of client that there is."""

    async def main():
        service = KafkaService(settings=Settings(broker_url=url))
        await service.connect()
        try:
            for topic in ("t", "answers"):
                await service.create_topic(topic)
            heard = asyncio.get_running_loop().create_future()

            async def answer(message):
                return [service.sending("answers", message.value)]

            async def hear(message):
                heard.set_result(message.value)

            await service.subscribe("t", "g", answer)
            await service.subscribe("answers", "g", hear)
            await service.send_message("t", {"n": 1})
            value = await asyncio.wait_for(heard, 30)
            return value, await service.topics()
        finally:
            await service.close()

    return asyncio.run(main())


def test_only_who_may_comes_in_and_nothing_secret_is_told(secured_kafka):
    """The right secrets come in; wrong ones, or a certificate of nobody's, are an error that holds no password."""
    value, topics = send_and_read(url_of(secured_kafka))
    assert value["n"] == 1
    assert "t" in topics
    for changed in ({"sasl_password": "guessed-wrong"}, {"ssl_ca_location": ""}):
        with pytest.raises(ConfigurationError, match="see the options of the broker URL") as refused:
            send_and_read(url_of(secured_kafka, **changed))
        said = str(refused.value)
        assert secured_kafka.address in said
        assert "of-these-tests" not in said
        assert "guessed-wrong" not in said
