"""Requests for models, from a driver's call through the topics and the executors to the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balance.errors import Conflict, InvalidValue, UnknownId
from balance.planning import Situation, explain

pytestmark = pytest.mark.cluster


def counting_model(log: str, data_id: str) -> Any:
    """Return a small model that notes how often it ran; its class travels by value."""

    class Counting:
        def needs(self, request: dict[str, Any]) -> list[str]:
            return [] if request["text"] == "no data" else [request.get("data_id", data_id)]

        def run(self, requests: list[dict[str, Any]], data: dict[str, Any]) -> list[Any]:
            from pathlib import Path

            with Path(log).open("a") as handle:
                handle.writelines(request["text"] + "\n" for request in requests)
            answers: list[Any] = []
            for request in requests:
                match request["text"]:
                    case "raise":
                        answers.append(ValueError("this one is bad"))
                    case "raise all":
                        raise RuntimeError("the whole batch is bad")
                    case "too many":
                        answers += [1, 2]
                    case "a set":
                        answers.append({1, 2})
                    case text:
                        answers.append({"said": text, "data": next(iter(data.values()), None)})
            return answers

    return Counting()


@pytest.fixture
def served(balance_cluster: Any, unique: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A model in service, fed by a reader; called with a list of texts, it submits them as one call."""
    ask, model, data, reader = balance_cluster.ask, unique("model"), unique("data"), unique("reader")
    log = tmp_path / "runs"
    log.touch()
    ask("data_coordinator", "register_reader", reader, lambda: [3, 1, 2])
    ask("data_coordinator", "register_data_source", data, 100, f"reader:{reader}")
    ask("model_coordinator", "register_model", model, 0.25, 0, 2)
    ask("batches", "deploy_model", model, counting_model(str(log), data), batch_max=4, max_age_s={data: 3600.0})

    def submit(*texts: str, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = ask(
            "batches", "submit_requests", [{"model_id": model, "text": text, **fields} for text in texts]
        )
        return answer

    submit.model, submit.data, submit.log = model, data, log  # type: ignore[attr-defined]
    yield submit
    ask("batches", "undeploy_model", model)
    ask("model_coordinator", "release_resources", model)


def _answers(balance_cluster: Any, accepted: dict[str, Any]) -> list[dict[str, Any]]:
    calls = [balance_cluster.start("batches", "answer", each, 50.0) for each in accepted["request_ids"]]
    answers: list[dict[str, Any]] = balance_cluster.get(calls)
    return answers


def test_a_request_is_answered_with_data_that_came_over_the_topics(balance_cluster: Any, served: Any) -> None:
    """Accepted, data asked for over the topics and collected, run on an executor, answered; the account holds."""
    before = balance_cluster.ask("messaging", "stats")["counters"]
    accepted = served("hello")
    assert (accepted["accepted"], accepted["rejected"]) == (1, [])
    [answer] = _answers(balance_cluster, accepted)
    assert (answer["status"], answer["result"]) == ("completed", {"said": "hello", "data": [3, 1, 2]})
    stats = balance_cluster.ask("messaging", "stats")
    assert any(served.model in topic for topic in stats["topics"]), "the model has its results topic"
    assert stats["counters"]["delivered"] > before["delivered"], "the model service has handled the request"
    assert balance_cluster.ask("data_coordinator", "stats")["counts"][served.data]["fetched"] == 1
    assert balance_cluster.ask("data_coordinator", "status", served.data)["references"] == 0
    store = balance_cluster.store()
    assert store.conservation()["holds"]
    store.close()


def test_equal_requests_run_once_and_are_all_answered(balance_cluster: Any, served: Any) -> None:
    """Requests for the same, however written, are merged; each requester gets the answer."""
    accepted = served("Cats  and dogs", "cats and DOGS", "cats and dogs ", "birds")
    answers = _answers(balance_cluster, accepted)
    assert [answer["status"] for answer in answers] == ["completed"] * 4
    assert answers[0]["result"] == answers[1]["result"] == answers[2]["result"] != answers[3]["result"]
    assert len(served.log.read_text().split("\n")) - 1 == 2
    stats = balance_cluster.ask("batches", "stats_only")["models"][served.model]
    assert (stats["completed"], stats["executed"]) == (4, 2)


def test_an_accepted_id_is_accepted_once(balance_cluster: Any, served: Any, unique: Any) -> None:
    """The same request id again, at once or later, changes nothing and has the same answer."""
    request_id = unique("request")
    first = served("one", "two", request_id=request_id)
    assert (first["accepted"], first["request_ids"]) == (1, [request_id, request_id])
    [answer, same] = _answers(balance_cluster, first)
    assert answer == same and answer["result"]["said"] == "one"
    assert served("three", request_id=request_id)["accepted"] == 0
    assert balance_cluster.ask("batches", "answer", request_id) == answer


def test_malformed_requests_are_rejected_one_by_one(balance_cluster: Any, served: Any) -> None:
    """Each request that makes no sense is named with its reason; its neighbours are served."""
    good = {"model_id": served.model, "text": "good"}
    bad = [
        "no dict",
        {"text": "no model"},
        {"model_id": "nobody", "text": "unknown model"},
        {"model_id": served.model, "words": "what needs() raises on"},
        {**good, "priority": 0},
        {**good, "request_id": 7},
        {**good, "number": float("nan")},
        {**good, "stuff": {1, 2}},
        {**good, "name": "caf\udce9"},
    ]
    mixed = [bad[0], good, *bad[1:]]
    answer = balance_cluster.ask("batches", "submit_requests", mixed)
    assert [entry["index"] for entry in answer["rejected"]] == [0, *range(2, 10)]
    errors = [entry["error"] for entry in answer["rejected"]]
    assert errors == ["InvalidValue", "InvalidValue", "UnknownId", *["InvalidValue"] * 6]
    assert answer["accepted"] == 1
    assert [each["status"] for each in _answers(balance_cluster, answer)] == ["completed"]


def test_the_failure_of_one_request_is_its_own(balance_cluster: Any, served: Any) -> None:
    """A model may answer one request with an exception; the others in the batch are answered."""
    answers = _answers(balance_cluster, served("fine", "raise"))
    assert [answer["status"] for answer in answers] == ["completed", "failed"]
    assert "this one is bad" in answers[1]["error"]["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise all", "the whole batch is bad"),
        ("too many", "one for each request"),
        ("a set", "JSON"),
    ],
)
def test_a_batch_that_fails_fails_its_requests(balance_cluster: Any, served: Any, text: str, said: str) -> None:
    """What raises, answers too many or what can't be written down ends as ``failed`` with the reason, at once."""
    [answer] = _answers(balance_cluster, served(text))
    assert answer["status"] == "failed" and said in answer["error"]["message"]
    assert any(said in failure["message"] for failure in balance_cluster.ask("batches", "failures"))


def test_a_request_whose_data_nobody_has_is_dead_lettered(balance_cluster: Any, served: Any, unique: Any) -> None:
    """The collector's error comes back over the topic; the request ends as ``dead_lettered`` and says why."""
    [answer] = _answers(balance_cluster, served("lost", data_id=unique("nowhere")))
    assert answer["status"] == "dead_lettered" and "nowhere" in answer["error"]["message"]


def test_mistakes_with_models_raise(balance_cluster: Any, served: Any, unique: Any) -> None:
    """A model that can't serve, one that nobody registered, an answer that nobody asked for."""
    with pytest.raises(UnknownId):
        balance_cluster.ask("batches", "answer", unique("request"))
    with pytest.raises(InvalidValue, match="needs"):
        balance_cluster.ask("batches", "deploy_model", served.model, object())
    with pytest.raises(UnknownId):
        balance_cluster.ask("batches", "deploy_model", unique("model"), counting_model("", ""))
    with pytest.raises(InvalidValue):
        balance_cluster.ask("batches", "deploy_model", served.model, counting_model("", ""), objective_s=0)


def test_a_busy_model_stays_in_service(balance_cluster: Any, served: Any) -> None:
    """A model is not taken out of service while somebody waits for it; its requests are not lost."""
    balance_cluster.ask("batches", "set_parallelism", served.model, 0)
    accepted = served("waiting", "no data")
    with pytest.raises(Conflict, match="waiting"):
        balance_cluster.ask("batches", "undeploy_model", served.model)
    balance_cluster.ask("batches", "set_parallelism", served.model, 1)
    assert [each["status"] for each in _answers(balance_cluster, accepted)] == ["completed"] * 2


def test_the_balancer_tells_what_it_saw(balance_cluster: Any, served: Any, eventually: Any) -> None:
    """What the last plan was made from can be asked for, and gives the same plan again elsewhere."""
    found = eventually(lambda: balance_cluster.ask("balancer", "situation"))
    situation = Situation.from_dict(json.loads(json.dumps(found)))
    assert situation.snapshot.total.cpu > 0
    plan = situation.plan()

    def told() -> Any:
        return [each for each in balance_cluster.ask("balancer", "decisions", 20) if each["tick"] == plan.tick]

    assert eventually(told)[0]["summary"] == explain(plan)[0]


def test_the_balancer_explains_its_decisions(balance_cluster: Any, served: Any, eventually: Any) -> None:
    """Every tick leaves a plan with its reasons in words, and the model that is asked for gets its reservation."""
    _answers(balance_cluster, served(*(f"text {number}" for number in range(8))))

    def decided() -> Any:
        return [
            plan
            for plan in balance_cluster.ask("balancer", "decisions", 20)
            if any(action.get("model_id") == served.model for action in plan["actions"])
        ]

    plan = eventually(decided)[0]
    assert plan["tick"] > 0 and plan["summary"] and plan["failed"] == []
    assert any(served.model in reason for reason in plan["reasons"])


def test_monitoring_keeps_histories(balance_cluster: Any, served: Any, eventually: Any) -> None:
    """Arrivals per model, the cluster's use and start latencies are recorded second by second."""
    _answers(balance_cluster, served("one", "two", "three"))

    def seen() -> Any:
        recorded = balance_cluster.ask("monitoring", "recorded", 0.0)
        points = recorded["arrivals"].get(served.model, [])
        return recorded if sum(count for _at, count in points) == 3 else None

    recorded = eventually(seen)
    assert recorded["records"] and recorded["records"][-1]["cluster"]["total"]["cpu"] > 0
    assert recorded["start_latency"][2]
    observed = balance_cluster.ask("monitoring", "observe", 1.0, 30)
    assert sum(count or 0 for count in observed["arrivals"][served.model]) == 3


def test_a_model_that_leaves_service_keeps_nothing(balance_cluster: Any, served: Any, eventually: Any) -> None:
    """What the balancer has reserved for a model is given back when the model is taken out of service."""
    _answers(balance_cluster, served(*(f"text {number}" for number in range(8))))
    mine = lambda: [name for name in balance_cluster.places() if served.model in name]  # noqa: E731
    eventually(mine)
    balance_cluster.ask("batches", "undeploy_model", served.model)
    eventually(lambda: not mine())
    assert served.model not in balance_cluster.ask("batches", "stats_only")["models"]
