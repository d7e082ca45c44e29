"""A small soak: requests for data while collectors and the log's own actor are killed (the large one is a bench)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from data_soak.killer import end
from data_soak.run import soak
from data_soak.source import Source

pytestmark = pytest.mark.cluster


def test_each_request_is_answered_once_whoever_is_killed(balance_cluster: Any) -> None:
    """Duplicates, malformed messages, ``kill -9`` all the time, the log restarted: the account has no mistake."""

    def restart() -> None:
        end(balance_cluster.ask("messaging", "ping")["pid"])

    given = {"requests": 300, "seed": 2, "kill_every_s": 1.5}
    with Source() as source:
        found = asyncio.run(soak(given, balance_cluster.settings, source, restart))
    account = found["account"]
    assert {name: count for name, count in account["wrong"].items() if count} == {}, account["examples"]
    assert account["fetches"] == account["distinct"]
    assert account["malformed"] == account["letters"] == 6
    assert found["kills"]
