"""What comes to a model and from it: requests in one form, answers in one form, and the adapter that joins them."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from pydantic import BaseModel, ConfigDict

from balance.adapters.model import responses as module
from balance.adapters.model.actor_model import ActorModel
from balance.adapters.model.requests import ModelRequests
from balance.adapters.model.responses import ModelResponses
from balance.clock import FakeClock
from balance.errors import ClusterError, InvalidValue, UnknownId
from balance.messaging import OperationType


class Translate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str
    to: str = "fa"


# -- requests ------------------------------------------------------------------------------------------


def test_a_request_is_completed():
    """Defaults are filled in, an id is made up, and what was given stays as it was."""
    given = {"model_id": "m", "query": "زبان فارسی"}
    requests = ModelRequests()
    ready = requests.preprocess_request(given)
    assert given == {"model_id": "m", "query": "زبان فارسی"}
    assert (ready["data_type"], ready["source_type"], ready["operation"]) == ("text", "web", "fetch_data")
    assert requests.preprocess_request(ready) == ready
    assert requests.preprocess_request({**given, "request_id": "r"})["request_id"] == "r"


def test_texts_are_composed_and_otherwise_left_alone():
    """Alef with madda becomes one letter, in keys and in depth; joiners and Arabic letters stay."""
    decomposed = unicodedata.normalize("NFD", "آب")
    given = {"text": f"{decomposed} می\u200cروم كتاب", "to": "fa"}
    requests = ModelRequests(schemas={"translate": Translate}, operation="translate")
    assert requests.preprocess_request(given)["text"] == "آب می\u200cروم كتاب"
    ready = ModelRequests().preprocess_request(
        {"model_id": "m", "query": "q", "parameters": {decomposed: [decomposed]}}
    )
    assert ready["parameters"] == {"آب": ["آب"]}


def test_each_operation_has_its_schema():
    """The envelope travels beside a schema that does not know it."""
    requests = ModelRequests(schemas={"translate": Translate}, operation="translate")
    ready = requests.preprocess_request({"text": "hello", "request_id": "r"})
    assert ready == {"operation": "translate", "request_id": "r", "text": "hello", "to": "fa"}
    with pytest.raises(UnknownId, match="did you mean 'translate'"):
        requests.preprocess_request({"operation": "translat", "text": "hello"})
    with pytest.raises(UnknownId):
        ModelRequests(operation="none")
    assert all(
        ModelRequests().validate_request({"model_id": "m", "query": "q", "operation": each.value})
        for each in OperationType
    )


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"model_id": "m"},
        {"model_id": "m", "query": " "},
        {"model_id": "m", "query": "q", "priority": 0},
        {"model_id": "m", "query": "q", "priority": "1"},
        {"model_id": "m", "query": "q", "operation": 7},
        {"model_id": "m", "query": "q", "operation": "none"},
        {"model_id": "m", "query": "q", "more": 1},
        {"model_id": "m", "query": "q", "parameters": {"x": float("inf")}},
        {"model_id": "m", "query": "q", "parameters": {"x": object()}},
        {"model_id": "m", "query": "q", "parameters": {"x": "x" * 2**20}},
        {"model_id": "m", "query": "q\ud800"},
        {1: 2, "model_id": "m", "query": "q"},
    ],
)
def test_requests_that_make_no_sense(given):
    """They are False and never an error when asked about, and an error that says why when they are to be used."""
    requests = ModelRequests()
    assert requests.validate_request(given) is False
    with pytest.raises((InvalidValue, UnknownId)) as caught:
        requests.preprocess_request(given)
    assert requests.problem(given) == str(caught.value)


def test_a_nesting_without_end_is_refused():
    """Depth is bounded before anybody recurses into it."""
    deep: dict = {}
    for _ in range(10_000):
        deep = {"x": deep}
    assert not ModelRequests().validate_request({"model_id": "m", "query": "q", "parameters": deep})


# -- responses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "status", "result"),
    [
        ({"status": "completed", "result": [1], "request_id": "r"}, "completed", [1]),
        ({"status": "ok", "data": "text", "metadata": {"request_id": "r"}}, "completed", "text"),
        ({"text": "hello", "request_id": "r"}, "completed", {"text": "hello"}),
        ({"status": "error", "error": "no room", "error_type": "MemoryError", "request_id": "r"}, "failed", None),
        ({"error": {"error": "InvalidValue", "message": "no"}, "request_id": "r"}, "failed", None),
        ({"status": "pending", "request_id": "r"}, "pending", None),
        ({"status": "completed", "result": None, "request_id": "r"}, "completed", None),
    ],
)
def test_every_answer_has_the_same_keys(given, status, result):
    """Balance's own, those of topics, and a service's bare JSON; formatting twice changes nothing."""
    formatted = ModelResponses().format_response(given)
    assert (formatted["status"], formatted["result"], formatted["request_id"]) == (status, result, "r")
    assert list(formatted) == [
        *("status", "model_id", "request_id", "result", "error", "queued_s", "run_s", "elapsed_s"),
    ]
    assert ModelResponses().format_response(formatted) == formatted
    assert (formatted["error"] is None) == (status != "failed")
    json.dumps(formatted, allow_nan=False)


@pytest.mark.parametrize(
    "given",
    [None, [], {"status": "fine"}, {"status": 1}, {"x": float("nan")}, {"x": {1}}, {"run_s": -1}, {"run_s": "1"}],
)
def test_answers_that_make_no_sense(given):
    """Formatting raises; logging counts them, for who logs must not fail."""
    responses = ModelResponses()
    with pytest.raises(InvalidValue):
        responses.format_response(given)
    responses.log_response("m", given)
    assert responses.counts() == {"m": {"malformed": 1}}


def test_a_line_of_the_log_is_bounded_and_one_line(caplog):
    """However much a model says, and whatever it puts into it."""
    responses = ModelResponses(logged_chars=50)
    with caplog.at_level(logging.INFO):
        responses.log_response("m", {"result": "line\n" * 10_000})
        responses.log_response("m", {"error": "broken\nevent=forged"})
    good, bad = caplog.records
    assert (good.levelname, bad.levelname) == ("INFO", "WARNING")
    assert all(len(record.getMessage()) < 300 and "\n" not in record.getMessage() for record in (good, bad))
    assert good.getMessage().startswith("event=model_response model=m request=None status=completed")


def test_counts_are_bounded(monkeypatch):
    """Ids that never come again do not take memory for ever."""
    monkeypatch.setattr(module, "COUNTED_MODELS", 2)
    responses = ModelResponses()
    for model_id in "abcd":
        responses.log_response(model_id, {})
    assert responses.counts() == {"a": {"completed": 1}, "b": {"completed": 1}, "other": {"completed": 2}}


# -- the batches actor ---------------------------------------------------------------------------------


class Batches:
    """What the actor answers; remembers what it was asked."""

    def __init__(self, clock, answer=None, rejected=None):
        self.calls = []
        self._clock, self._answer, self._rejected = clock, answer, rejected

    def call(self, method, *arguments, timeout_s=None):
        self.calls.append((method, arguments, timeout_s))
        self._clock.advance(0.25)
        if method == "submit_requests":
            return {"accepted": 1, "request_ids": ["r"], "rejected": [self._rejected] if self._rejected else []}
        return {"request_id": arguments[0], **self._answer}


def test_a_deployed_model_is_asked():
    """The request is accepted, then its answer awaited, as long as the caller said and a little longer."""
    clock, responses = FakeClock(), ModelResponses()
    peer = Batches(clock, {"status": "completed", "result": {"text": "سلام"}})
    model = ActorModel(peer=peer, timeout_s=5, responses=responses, clock=clock)
    answer = model.send_request("whisper", {"audio": "a.wav", "request_id": "r"})
    assert (answer["status"], answer["result"], answer["elapsed_s"]) == ("completed", {"text": "سلام"}, 0.5)
    (submit, (asked,), _), (awaited, ids, patience_s) = peer.calls
    assert (submit, asked) == ("submit_requests", [{"audio": "a.wav", "request_id": "r", "model_id": "whisper"}])
    assert (awaited, ids) == ("answer", ("r", 5.0))
    assert patience_s > 5
    model.receive_response("whisper", {"status": "failed", "error": "late"})
    assert responses.counts() == {"whisper": {"completed": 1, "failed": 1}}


def test_what_the_actor_refuses():
    """A request that makes no sense is an answer; a model that is not there is the caller's mistake."""
    clock = FakeClock()
    refused = {"index": 0, **InvalidValue("text", 7, "a text").to_dict()}
    answer = ActorModel(peer=Batches(clock, rejected=refused), clock=clock).send_request("m", {"text": 7})
    assert (answer["status"], answer["error"]["error"]) == ("rejected", "InvalidValue")
    unknown = {"index": 0, **UnknownId("model", "whispr", ["whisper"]).to_dict()}
    with pytest.raises(UnknownId, match="did you mean 'whisper'"):
        ActorModel(peer=Batches(clock, rejected=unknown), clock=clock).send_request("whispr", {})


def test_requests_are_made_ready_where_a_handler_is_given():
    """The handler's mistakes are raised before anybody is asked."""
    clock = FakeClock()
    peer = Batches(clock, {"status": "completed", "result": 1})
    requests = ModelRequests(schemas={"translate": Translate}, operation="translate")
    model = ActorModel(peer=peer, requests=requests, clock=clock)
    model.send_request("m", {"text": "hello"})
    assert peer.calls[0][1][0][0]["to"] == "fa"
    for wrong in ({"text": 1}, "text", {"text": "x", "model_id": "other"}):
        with pytest.raises(InvalidValue):
            model.send_request("m", wrong)
    assert len(peer.calls) == 2


def test_without_ray_it_says_what_to_do():
    """No cluster is started behind the caller's back."""
    with pytest.raises(ClusterError, match=r"ray\.init"):
        ActorModel().send_request("m", {})
