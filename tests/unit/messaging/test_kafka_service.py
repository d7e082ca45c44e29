"""The message service on the embedded log: delivery, and what happens before anything is open."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from balance.config import Settings
from balance.errors import ConfigurationError, NotReady, StorageError
from balance.messaging import EmbeddedLog, KafkaService

_spec = importlib.util.spec_from_file_location("delivery_suite", Path(__file__).with_name("delivery_suite.py"))
delivery_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(delivery_suite)
Heard = delivery_suite.Heard


@pytest.fixture
def run_on_log(tmp_path):
    """Run a scenario on a service over an embedded log; the log is closed whatever happens."""

    def run(scenario):
        async def main():
            log = EmbeddedLog(tmp_path / "log")
            service = KafkaService(broker=log)
            await service.connect()
            await service.create_topic("t")
            try:
                return await asyncio.wait_for(scenario(service), 20)
            finally:
                await service.close()
                await log.close()

        return asyncio.run(main())

    return run


class TestDelivery(delivery_suite.DeliverySuite):
    """The suite on files."""

    @pytest.fixture
    def run(self, run_on_log):
        return run_on_log


def test_health_tells_what_is_wrong(run_on_log, monkeypatch):
    """A subscription whose broker fails is degraded, and well again when the broker is."""

    async def scenario(service):
        heard = Heard()
        monkeypatch.setattr("balance.messaging.subscription.BROKER_PAUSE_S", 0.001)
        await service.subscribe("t", "g", heard)
        assert (await service.health())["status"] == "ok"
        path = next((service._broker.directory / "topics" / "t" / "0").glob("*.log"))
        await service.send_message("t", {"n": 1})
        await heard.until(1)
        await service.unsubscribe("t", "g")
        sound = path.read_bytes()
        path.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
        await service.subscribe("t", "other", heard)
        while (await service.health())["status"] != "degraded":
            await asyncio.sleep(0.001)
        assert "damaged" in (await service.health())["subscriptions"][0]["problem"]
        path.write_bytes(sound)
        await heard.until(2)
        assert (await service.health())["status"] == "ok"

    run_on_log(scenario)


def test_default_broker_is_shared_in_a_process(tmp_path):
    """Two services of one state directory use one log; the last one to close lets go of it."""

    async def main():
        settings = Settings(state_dir=str(tmp_path))
        heard = Heard()
        async with KafkaService(settings=settings) as one:
            async with KafkaService(settings=settings) as two:
                await one.create_topic("t")
                await two.subscribe("t", "g", heard)
                await one.send_message("t", {"n": 1})
                await heard.until(1)
            await one.send_message("t", {"n": 2})
            with pytest.raises(StorageError, match="is open already"):
                EmbeddedLog(tmp_path / "log")
        await EmbeddedLog(tmp_path / "log").close()

    asyncio.run(main())


def test_clear_errors_before_anything_is_open(tmp_path):
    """Not connected, an unknown broker, an unwritable state directory: each says what to do."""

    async def main():
        with pytest.raises(NotReady, match="connect"):
            await KafkaService().send_message("t", {})
        with pytest.raises(ConfigurationError, match="embedded:///PATH"):
            await KafkaService(settings=Settings(broker_url="carrier-pigeon://roof")).connect()
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="state directory"):
            await KafkaService(settings=Settings(state_dir=str(tmp_path / "file" / "x"))).connect()

    asyncio.run(main())


def test_loop_that_ends_leaves_nothing_half_committed(tmp_path):
    """Ctrl-C ends the loop in the middle: what was handled is committed, the rest comes again."""
    handled = []

    async def interrupted():
        log = EmbeddedLog(tmp_path)
        service = KafkaService(broker=log)
        await service.connect()
        await service.create_topic("t")
        await service.send_batch("t", [{"n": n} for n in range(10)])
        enough = asyncio.Event()

        async def handler(message):
            if len(handled) == 3:
                enough.set()
                await asyncio.Event().wait()
            handled.append(message.value["n"])

        await service.subscribe("t", "g", handler)
        await enough.wait()
        return log  # and asyncio.run cancels the subscription

    log = asyncio.run(interrupted())

    async def again():
        lag = await log.lag("t", "g")
        await log.close()
        return lag

    assert asyncio.run(again()) == {0: 7}
