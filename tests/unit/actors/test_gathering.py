"""How messages' requests come to registered data, or to the collectors."""

from __future__ import annotations

import asyncio

import pytest

from actors import placed_answers
from actors.gathering import Gathering
from actors.placed_answers import PlacedAnswers
from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.collected import Collected
from balance.adapters.collect.collectors import Collectors
from balance.adapters.readers import Readers
from balance.clock import FakeClock
from balance.core.coordinator import DataCoordinator
from balance.errors import SourceUnavailable, UnknownId
from balance.messaging import DataSource, DataType, create_data_request


class Found:
    """A source with as many records as the query says."""

    def collect(self, wanted):
        return Collected([{"n": n, "text": "x" * 1_000} for n in range(int(wanted.query))], "text/plain", 0.0)


@pytest.fixture
def made(tmp_path):
    readers = Readers(trusted=True)
    data = DataCoordinator(readers=readers, clock=FakeClock())
    collectors = Collectors(clock=FakeClock(), sources={DataSource.WEB: Found(), DataSource.FILE: Found()})
    cache = BlobCache(tmp_path)

    async def place(request_id, data_id, max_age_s):
        placed = data.allocate(data_id, max_age_s=max_age_s)
        data.release_data(data_id)
        return {name: placed[name] for name in ("location", "size_bytes", "digest")}

    async def named(request_id, data_id, max_age_s, needed):
        if not needed and data_id not in {entry["data_id"] for entry in data.list_data()}:
            return None
        return await place(request_id, data_id, max_age_s)

    async def collect(*asked):
        return collectors.collect(*asked)

    answers = PlacedAnswers(data=data, readers=readers, cache=cache, place=place)
    made = Gathering(collect=collect, named=named, put=answers.put, sources=collectors.sources)
    made.data, made.readers, made.cache = data, readers, cache
    return made


def fetch(made, source, query, **parameters):
    request = create_data_request(
        "m", query, DataType.TEXT, source, response_topic="balance.results.m", now_s=0.0, parameters=parameters
    )
    return asyncio.run(made.fetch(request))


def test_small_answers_travel_and_large_ones_are_placed(made):
    """At most 256 KiB in a message; what is larger is read at its location, and equal answers lie there once."""
    small = fetch(made, DataSource.WEB, "2")
    assert [item["n"] for item in small["data"]["items"]] == [0, 1] and "location" not in small
    large, again = fetch(made, DataSource.WEB, "300"), fetch(made, DataSource.WEB, "300")
    assert len(made.data.read(large["location"])) == 300
    assert "items" not in large["data"] and large["data"]["media_type"] == "text/plain"
    assert again["location"] == large["location"] and again["digest"] == large["digest"]
    assert len(made.data.list_data()) == 1


def test_registered_names_go_before(made):
    """FILE and CUSTOM requests for a registered name are that data; a CUSTOM name that nobody knows is refused."""
    made.readers.register("words", lambda: ["a", "b"])
    made.data.register_data_source("words", 10, "reader:words")
    for source in (DataSource.FILE, DataSource.CUSTOM):
        assert made.data.read(fetch(made, source, "words")["location"]) == ["a", "b"]
    assert len(fetch(made, DataSource.FILE, "3")["data"]["items"]) == 3
    with pytest.raises(UnknownId, match="did you mean 'words'"):
        fetch(made, DataSource.CUSTOM, "wrds")


def test_names_of_large_answers_are_bounded(made, monkeypatch):
    """The oldest that nobody holds loses its name; one that is held keeps it."""
    monkeypatch.setattr(placed_answers, "PLACED_MAX", 2)
    fetch(made, DataSource.WEB, "300")
    [held] = [entry["data_id"] for entry in made.data.list_data()]
    made.data.allocate_data(held)
    for count in (301, 302, 303):
        fetch(made, DataSource.WEB, str(count))
    assert held in {entry["data_id"] for entry in made.data.list_data()}
    assert len(made.data.list_data()) == 2


def test_a_large_answer_that_left_the_cache_is_asked_for_again(made):
    """Its name leads to an error that says so, and the next request collects it anew."""
    placed = fetch(made, DataSource.WEB, "300")
    digest = made.data.list_data()[0]["data_id"].removeprefix("collected-")
    for path in (made.cache._blobs / digest,):
        path.unlink()
    with pytest.raises(SourceUnavailable, match="not in the cache"):
        made.readers.read(f"reader:collected?digest={digest}", max_bytes=10**6)
    assert fetch(made, DataSource.WEB, "300")["digest"] == placed["digest"]
