"""Real services for the tests of this folder: Kafka, from an address in the environment or started here."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from balance.messaging.broker import Broker


def load(path: Path) -> ModuleType:
    """Import a file that is no test module, under its own name."""
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[path.stem])
    return sys.modules[path.stem]


kafka_server = load(Path(__file__).with_name("kafka_server.py"))


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """``host:port`` of a real Kafka that the whole run shares."""
    if given := os.environ.get("BALANCE_TEST_KAFKA"):
        yield given
        return
    yield from _started(lambda server: server.address)


@pytest.fixture
def own_kafka() -> Iterator[Any]:
    """A Kafka of the test's own, to be stopped and started: a `KafkaServer` that runs."""
    yield from _started(lambda server: server)


@pytest.fixture
def secured_kafka() -> Iterator[Any]:
    """A `KafkaServer` that asks for TLS and SASL."""
    yield from _started(lambda server: server, secured=True)


def _started(give: Callable[[Any], Any], secured: bool = False) -> Iterator[Any]:
    folder = kafka_server.short_folder()
    try:
        server = kafka_server.KafkaServer(folder, secured)
        server.start()
        try:
            yield give(server)
        finally:
            server.stop()
    except kafka_server.NoKafka as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Namespaced:
    """A broker whose topics carry a prefix that nobody else uses: tests that share a Kafka do not meet."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.prefix = f"test-{uuid.uuid4().hex[:12]}-"

    async def topics(self) -> dict[str, int]:
        found = await self.broker.topics()
        return {name.removeprefix(self.prefix): n for name, n in found.items() if name.startswith(self.prefix)}

    async def commit(self, topic: str, *args: Any, sends: Any = (), **how: Any) -> Any:
        ours = [send._replace(topic=self.prefix + send.topic) for send in sends]
        return await self.broker.commit(self.prefix + topic, *args, sends=ours, **how)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.broker, name)

        async def in_namespace(topic: str, *args: Any, **kwargs: Any) -> Any:
            return await call(self.prefix + topic, *args, **kwargs)

        return call if name == "close" else in_namespace


@pytest.fixture
def namespaced() -> Callable[[Broker], Namespaced]:
    """Give a broker a namespace of its own."""
    return Namespaced


@pytest.fixture
def run_on_kafka(kafka_address: str) -> Callable[[Callable[[Any], Awaitable[Any]]], Any]:
    """Run a scenario on a real Kafka, in a namespace of its own; called again, on a new connection to the same."""
    from balance.messaging.kafka import KafkaBroker

    prefixes: list[str] = []

    def run(scenario: Callable[[Any], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            broker = Namespaced(KafkaBroker(f"kafka://{kafka_address}"))
            prefixes.append(broker.prefix)
            broker.prefix = prefixes[0]
            try:
                return await asyncio.wait_for(scenario(broker), 60)
            finally:
                await broker.close()

        return asyncio.run(main())

    return run
