"""The demo's models answer really, contain failures, and pickle as references."""

from __future__ import annotations

import json
import math
import pickle

import pytest

from actors.demo.models import MODELS
from actors.demo.models.bm25 import PassageIndex
from actors.demo.models.cache import ProcessCache
from actors.demo.models.forecaster import ForecasterModel
from actors.demo.sources import SERIES, read_series
from balance.errors import InvalidValue

WAVE = {"values": [100 + 10 * math.sin(2 * math.pi * t / 12) for t in range(96)], "season": 12, "step": "month"}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_model_travels_to_an_executor_as_a_reference(model: object) -> None:
    """Pickling carries the name of the class and no data."""
    assert type(pickle.loads(pickle.dumps(model))) is type(model)
    assert len(pickle.dumps(model)) < 200


@pytest.mark.parametrize("series", SERIES)
def test_every_real_series_is_forecast(series: str) -> None:
    """Each series that statsmodels ships gets finite forecasts with ordered bands, as JSON values."""
    payload = read_series(series)
    assert len(payload["values"]) == SERIES[series].points
    [result] = MODELS["forecaster"].run([{"series": series, "horizon": 5}], {f"series/{series}": payload})
    assert result["status"] == "ok", result
    assert all(
        low <= mean <= high for low, mean, high in zip(result["q10"], result["mean"], result["q90"], strict=True)
    )
    assert all(math.isfinite(value) for value in json.loads(json.dumps(result))["mean"])


def test_the_forecaster_sees_a_season() -> None:
    """On a clean yearly wave the chosen method is within a tenth of the wave's height."""
    result = ForecasterModel().answer({"series": "wave", "horizon": 12}, {"series/wave": WAVE})
    wanted = [100 + 10 * math.sin(2 * math.pi * t / 12) for t in range(96, 108)]
    assert max(abs(a - b) for a, b in zip(result["mean"], wanted, strict=True)) < 1.0


@pytest.mark.parametrize(
    ("values", "status"),
    [([], "failed"), ([5.0], "failed"), ([5.0, 6.0], "ok"), ([3.0] * 50, "ok"), ([float("nan")] * 50, "failed")],
)
def test_a_hopeless_series_has_a_defined_answer(values: list[float], status: str) -> None:
    """Empty, one point, two points, constant, nothing but gaps: an answer or a failure, never a warning."""
    data = {"series/x": {"values": values, "season": 4, "step": "day"}}
    [result] = MODELS["forecaster"].run([{"series": "x", "horizon": 3}], data)
    assert result["status"] == status, result
    if status == "ok":
        assert all(math.isfinite(value) for value in result["mean"] + result["q10"] + result["q90"])


def test_one_bad_request_leaves_its_neighbours_alone() -> None:
    """Results stand in the order of the requests; a failure names what was wrong."""
    requests = [{"series": "wave", "horizon": h} for h in (3, -1, 10_000)] + [{"series": "gone", "horizon": 3}, {}]
    results = MODELS["forecaster"].run(requests, {"series/wave": WAVE})
    assert [result["status"] for result in results] == ["ok"] + ["failed"] * 4
    assert [result["error"] for result in results[1:]] == ["InvalidValue"] * 2 + ["SourceUnavailable", "InvalidValue"]


def test_search_finds_the_passage_that_holds_the_words_together() -> None:
    """Of two passages with the same words, the one that has them side by side comes first."""
    far = "event " + "filler words stand here " * 10 + " loop"
    near = "filler words stand here " * 10 + " event loop"
    index = PassageIndex([{"title": "far", "text": far}, {"title": "near", "text": near}])
    assert [hit["title"] for hit in index.search("event loop", top=2)] == ["near", "far"]
    assert index.search("zyzzyva", top=2) == []
    assert PassageIndex([]).search("anything", top=2) == []


def test_search_ranks_a_rare_word_above_a_common_one() -> None:
    """BM25: a word that few passages hold weighs more."""
    texts = [{"title": f"t{n}", "text": "common word " + ("rare" if n == 3 else "plain")} for n in range(6)]
    assert PassageIndex(texts).search("common rare", top=1)[0]["title"] == "t3"


def test_the_indexer_builds_a_shard_once_per_process() -> None:
    """Two requests for the same documents share one index; other documents get their own."""
    data = {f"documents/{n}": {"digest": f"once-{n}", "documents": [{"title": "a", "text": "b c"}]} for n in (0, 1)}
    from actors.demo.models import indexer

    before = indexer._INDICES.built
    MODELS["indexer"].run([{"shard": n, "queries": ["b"]} for n in (0, 0, 1, 0)], data)
    assert indexer._INDICES.built == before + 2


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    """Capacity is kept, least recently used first out."""
    cache: ProcessCache[int] = ProcessCache(2)
    for word in ("a", "b", "a", "c", "a", "b"):
        cache.get(word, lambda: 0)
    assert cache.built == 4


@pytest.mark.parametrize("queries", [None, [], "license", ["q"] * 65])
def test_the_indexer_refuses_what_is_no_list_of_queries(queries: object) -> None:
    """A bound on the work of one request."""
    with pytest.raises(InvalidValue):
        MODELS["indexer"].answer({"shard": 0, "queries": queries}, {"documents/0": {"digest": "x", "documents": []}})


def test_an_anomaly_score_is_causal() -> None:
    """Cutting off later readings changes no earlier score."""
    import numpy as np

    from actors.demo.models.anomaly import causal_scores

    values = np.sin(np.arange(120.0)) + (np.arange(120) == 70) * 30
    whole = causal_scores(values)
    assert np.array_equal(causal_scores(values[:90]), whole[:90])
    assert whole[70] > 1 > whole[40:70].max()


def test_too_few_readings_warm_up() -> None:
    """No verdict before there is anything to compare with."""
    for values in ([], [1.0], [1.0] * 23):
        data = {"host/load_1m": {"values": values, "step_s": 0.25, "unit": "processes"}}
        [result] = MODELS["anomaly"].run([{"metric": "load_1m", "window_s": 15}], data)
        assert (result["status"], result["verdict"], result["alarms"]) == ("ok", "warming_up", 0)
