"""The message service on a real Kafka: delivery, a broker that goes away, memory."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from balance.messaging import KafkaService

_path = Path(__file__).parents[1] / "unit" / "messaging" / "delivery_suite.py"
_spec = importlib.util.spec_from_file_location("delivery_suite", _path)
delivery_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(delivery_suite)
Heard = delivery_suite.Heard


class TestDelivery(delivery_suite.DeliverySuite):
    """The suite on a real Kafka."""

    @pytest.fixture
    def run(self, run_on_kafka):
        def run(scenario):
            async def main(broker):
                service = KafkaService(broker=broker)
                await service.connect()
                await service.create_topic("t")
                try:
                    return await asyncio.wait_for(scenario(service), 30)
                finally:
                    await service.close()

            return run_on_kafka(main)

        return run
