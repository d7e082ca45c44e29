"""Kafka, a real one: the promises of every broker, and those of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_path = Path(__file__).parents[1] / "unit" / "messaging" / "broker_suite.py"
_spec = importlib.util.spec_from_file_location("broker_suite", _path)
broker_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(broker_suite)


class TestKafka(broker_suite.BrokerSuite):
    """The suite on a real Kafka."""

    @pytest.fixture
    def run(self, run_on_kafka):
        return run_on_kafka
