"""Dead letters of a running Balance, as ``balance dlq`` asks for them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from balance.errors import UnknownId
from balance.messaging import MODELS_REQUESTS_TOPIC, Outgoing

pytestmark = pytest.mark.cluster


def test_a_malformed_request_is_listed_shown_and_replayed(balance_cluster: Any, unique: Any) -> None:
    """What no service can read is kept with its reason; sent again, it fails again and is a new letter."""
    text = unique("not json")
    lost = Outgoing(None, text.encode(), {})
    before = balance_cluster.ask("messaging", "list_dead_letters")["topics"].get(MODELS_REQUESTS_TOPIC, 0)
    balance_cluster.ask("messaging", "broker_append", MODELS_REQUESTS_TOPIC, [lost])

    def is_open(more: int) -> bool:
        found = balance_cluster.ask("messaging", "list_dead_letters")["topics"].get(MODELS_REQUESTS_TOPIC, 0)
        return bool(found == before + more)

    balance_cluster.eventually(lambda: is_open(1))
    shown = balance_cluster.ask("messaging", "show_dead_letters", MODELS_REQUESTS_TOPIC, before + 1)
    letter = shown["letters"][-1]
    assert letter["text"] == text
    assert base64.b64decode(letter["original"]["value"]).decode() == text
    assert "not JSON" in letter["reason"]
    answer = balance_cluster.ask("messaging", "replay_dead_letters", MODELS_REQUESTS_TOPIC)
    assert (answer["status"], answer["replayed"]) == ("replayed", before + 1)
    balance_cluster.eventually(lambda: is_open(1))
    with pytest.raises(UnknownId, match="dead-lettered topic"):
        balance_cluster.ask("messaging", "replay_dead_letters", "never.heard.of")
