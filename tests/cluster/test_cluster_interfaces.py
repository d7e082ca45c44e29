"""The adapters of the ports that need a Ray: a deployed model is asked, figures of the cluster are collected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from balance.adapters.external.ray_metrics import RayMetrics
from balance.adapters.model.actor_model import ActorModel
from balance.adapters.model.responses import ModelResponses
from balance.errors import UnknownId

pytestmark = pytest.mark.cluster


def shouting() -> Any:
    """Return a small model that says its text louder; its class travels by value."""

    class Shouting:
        def needs(self, request: dict[str, Any]) -> list[str]:
            return []

        def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[Any]:
            return [request["text"].upper() if request["text"] else ValueError("no text") for request in requests]

    return Shouting()


@pytest.fixture
def deployed(balance_cluster: Any, unique: Any) -> Iterator[str]:
    """A model in service."""
    model_id = unique("model")
    balance_cluster.ask("model_coordinator", "register_model", model_id, 0.25, 0, 2)
    balance_cluster.ask("batches", "deploy_model", model_id, shouting())
    yield model_id
    balance_cluster.ask("batches", "undeploy_model", model_id)
    balance_cluster.ask("model_coordinator", "release_resources", model_id)


def test_a_deployed_model_answers_through_the_port(balance_cluster: Any, deployed: str, unique: Any) -> None:
    """An answer, the same answer for the same request, a failure, and a model that is not there."""
    responses = ModelResponses()
    model = ActorModel(responses=responses)
    asked = {"text": "hello", "request_id": unique("request")}
    first, again = model.send_request(deployed, asked), model.send_request(deployed, asked)
    assert (first["status"], first["result"], again["result"]) == ("completed", "HELLO", "HELLO")
    assert (first["model_id"], first["request_id"]) == (deployed, asked["request_id"])
    failed = model.send_request(deployed, {"text": ""})
    assert (failed["status"], failed["result"]) == ("failed", None)
    assert "no text" in failed["error"]["message"]
    with pytest.raises(UnknownId):
        model.send_request(unique("nobody"), {"text": "hello"})
    assert responses.counts() == {deployed: {"completed": 2, "failed": 1}}


def test_figures_of_the_cluster_are_collected(balance_cluster: Any) -> None:
    """Beside what was reported there is what Ray says of its nodes."""
    metrics = RayMetrics()
    metrics.report_metrics({"test_queued": 3, "test_done": {"value": 1, "kind": "counter"}})
    found = metrics.collect_metrics()
    assert [each["value"] for each in found["test_queued"]] == [3.0]
    total = {each["tags"]["resource"]: each["value"] for each in found["ray_cluster_total"]}
    assert total["CPU"] == balance_cluster.ray.cluster_resources()["CPU"]
