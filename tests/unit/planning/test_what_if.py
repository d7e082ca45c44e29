"""Questions to the balancing decision: what would it do if something were different."""

from __future__ import annotations

import json

import pytest

from actors import cli
from balance.errors import BalanceError, Conflict, InvalidValue, UnknownId
from balance.planning import DemandForecast, ModelState, Situation, Snapshot, differences, suppose
from balance.types import Resources

EIGHT = Resources.capacity(cpu=8, memory=16 * 2**30)


@pytest.fixture
def seen():
    """Two models on eight cores; what is asked of `whisper` is forecast."""
    forecast = DemandForecast(60.0, 10.0, (20.0,) * 6, (40.0,) * 6, (60.0,) * 6)
    common = {"demand": Resources.demand(cpu=1), "objective_s": 5.0, "cold_start_s": 1.0}
    whisper = ModelState("whisper", arrivals=(4.0,) * 60, forecast=forecast, service_s=0.5, service_p90_s=1.0, **common)
    small = ModelState("small", arrivals=(1.0,) * 60, service_s=0.1, queued=4, oldest_wait_s=2.0, **common)
    return Snapshot(1, 60.0, EIGHT, EIGHT, (whisper, small))


@pytest.mark.parametrize(
    ("hypothesis", "of", "expected"),
    [
        ("demand:whisper=x2", lambda s: (s.models[0].arrivals[0], s.models[1].arrivals[0]), (8.0, 1.0)),
        ("demand=x2", lambda s: (s.models[0].arrivals[0], s.models[1].arrivals[0]), (8.0, 2.0)),
        (
            "demand:whisper=x2",
            lambda s: [q[0] for q in (s.models[0].forecast.q10, s.models[0].forecast.q90)],
            [40, 120],
        ),
        ("demand:whisper=10", lambda s: (s.models[0].arrivals[0], s.models[0].forecast.q50[0]), (10.0, 100.0)),
        ("demand:whisper=+1", lambda s: s.models[0].forecast.q50[0], 50.0),
        ("queued:small=0", lambda s: (s.models[1].queued, s.models[1].oldest_wait_s), (0, 0.0)),
        ("service:whisper=x2", lambda s: (s.models[0].service_s, s.models[0].service_p90_s), (1.0, 2.0)),
        ("cold-start=300", lambda s: {model.cold_start_s for model in s.models}, {300.0}),
        ("objective:small=-4", lambda s: s.models[1].objective_s, 1.0),
        ("priority:small=1", lambda s: s.models[1].priority, 1),
        ("cpu=+4", lambda s: (s.total.cpu, s.free.cpu), (12.0, 12.0)),
        ("memory=x0.5", lambda s: s.total.memory_bytes, 8 * 2**30),
        ("memory=+1GiB", lambda s: s.total.memory_bytes, 17 * 2**30),
        ("gpu=2", lambda s: (s.total.gpu, s.total.cpu), (2.0, 8.0)),
        ("cluster=x2", lambda s: (s.total.cpu, s.total.memory_bytes), (16.0, 32 * 2**30)),
        ("without=small", lambda s: [model.model_id for model in s.models], ["whisper"]),
        ("add:third=whisper", lambda s: [(m.model_id, m.replicas) for m in s.models][2:], [("third", 0)]),
    ],
)
def test_what_is_supposed_is_so_and_the_rest_as_it_was(seen, hypothesis, of, expected):
    """Each hypothesis changes what it names; the snapshot that was seen stays."""
    before = seen.to_dict()
    assert of(suppose(seen, [hypothesis])) == expected
    assert seen.to_dict() == before


@pytest.mark.parametrize(
    ("hypothesis", "error"),
    [
        ("", InvalidValue),
        ("demand", InvalidValue),
        ("demand=", InvalidValue),
        ("demand=twice", InvalidValue),
        ("demand=nan", InvalidValue),
        ("demand=x1e999", InvalidValue),
        ("demand=--3", InvalidValue),
        ("weather=x2", InvalidValue),
        ("cpu:whisper=2", InvalidValue),
        ("cluster=3", InvalidValue),
        ("priority:small=0", InvalidValue),
        ("objective:small=0", InvalidValue),
        ("demand:whispr=x2", UnknownId),
        ("without=whispr", UnknownId),
        ("add:third=whispr", UnknownId),
        ("add:small=whisper", Conflict),
    ],
)
def test_a_hypothesis_that_makes_no_sense_is_refused(seen, hypothesis, error):
    """It is named with what was expected; an unknown model with the nearest known one."""
    with pytest.raises(error) as refused:
        suppose(seen, [hypothesis])
    assert isinstance(refused.value, BalanceError)
    if error is UnknownId:
        assert "whisper" in str(refused.value)


def test_the_same_is_no_difference_and_more_demand_is_told(seen):
    """The answer is the planner's own: nothing changed, nothing said; a model out, a model in, room or none."""
    now = Situation(seen).plan()
    assert differences(now, Situation(suppose(seen, ["demand=x1"])).plan()) == []
    more = differences(now, Situation(suppose(seen, ["demand:whisper=x10"])).plan())
    assert any(sentence.startswith("whisper would want") for sentence in more)
    assert "There would no longer be room for all that the models want." in more
    fewer = differences(now, Situation(suppose(seen, ["without=small", "add:third=whisper"])).plan())
    assert any(sentence.startswith("small would not be there") for sentence in fewer)
    assert any(sentence.startswith("third would want") for sentence in fewer)


def test_a_saved_situation_is_asked_without_a_cluster(seen, tmp_path, capsys):
    """`balance plan --from` needs no cluster and answers the same each time; `--json` is for programs."""
    saved = tmp_path / "situation.json"
    saved.write_text(json.dumps(Situation(seen).to_dict()))
    assert cli.main(["plan", "--from", str(saved), "--what-if", "demand:whisper=x10", "--save", str(saved)]) == 0
    said = capsys.readouterr().out
    assert "whisper would want" in said
    assert "With demand:whisper=x10" in said
    assert cli.main(["plan", "--from", str(saved), "--what-if", "cpu=+8", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["now"] == json.loads(json.dumps(Situation(seen).plan().to_dict()))
    assert answer["what_if"] == ["cpu=+8"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"snapshot": 3}', '{"snapshot": {"tick": 1, "at": "x"}}'])
def test_a_file_that_holds_no_situation_is_one_line(tmp_path, capsys, content):
    """Missing, empty, of another kind: an error that names the file or the value, and exit code 1."""
    source = tmp_path / "other.json"
    if content is not None:
        source.write_text(content)
    assert cli.main(["plan", "--from", str(source)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
