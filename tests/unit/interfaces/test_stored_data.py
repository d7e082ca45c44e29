"""`StoredData` on real files: what is stored is fetched again as it was, or nothing is stored."""

from __future__ import annotations

import base64
import json

import pytest

from balance.adapters.copier import FsspecCopier
from balance.adapters.data.formats import FORMATS
from balance.adapters.data.stored_data import StoredData
from balance.core.coordinator import DataCoordinator
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable, StorageError, UnknownId

ROWS = [{"year": 1958, "name": "نان، «تازه»", "co2": 316.1}, {"year": 1959, "name": 'a "b"\nc', "co2": None}]


@pytest.fixture
def data(tmp_path):
    return StoredData(folder=str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("kind", "given", "fetched"),
    [
        ("jsonl", {"rows": ROWS}, ROWS),
        ("parquet", {"rows": ROWS}, ROWS),
        ("csv", {"rows": ROWS}, [{k: "" if v is None else str(v) for k, v in row.items()} for row in ROWS]),
        ("json", {"content": {"a": [1, None]}}, {"a": [1, None]}),
        ("text", {"content": "سلام\r\n"}, "سلام\r\n"),
        ("bytes", {"content": base64.b64encode(b"\0\xff").decode()}, base64.b64encode(b"\0\xff").decode()),
    ],
)
def test_what_is_stored_is_fetched(data, kind, given, fetched):
    """Every format gives back what it took; CSV as text."""
    stored = data.store({"data_id": "d/یک", "format": kind, **given})
    found = data.fetch_data({"data_id": "d/یک"})
    assert (found["content"] if found["rows"] is None else found["rows"]) == fetched
    assert (found["status"], found["format"], found["digest"]) == ("ok", kind, stored["digest"])
    assert found["size_bytes"] == stored["size_bytes"]
    json.dumps(found, allow_nan=False)


def test_formats_are_all_tested():
    """The table above covers each format."""
    assert set(FORMATS) == {"jsonl", "parquet", "csv", "json", "text", "bytes"}


def test_what_is_stored_again_is_fetched_anew(data):
    """A second store replaces the first, also in the copy that was fetched before; the same again writes nothing."""
    assert data.store({"data_id": "d", "content": "one"})["changed"]
    assert data.fetch_data({"data_id": "d"})["content"] == "one"
    assert data.fetch_data({"data_id": "d"})["from_cache"]
    assert data.store({"data_id": "d", "content": "two!"})["changed"]
    assert data.fetch_data({"data_id": "d"})["content"] == "two!"
    assert not data.store({"data_id": "d", "content": "two!"})["changed"]


def test_a_source_without_a_name_is_forgotten(data, tmp_path):
    """A file that is read in passing leaves nothing behind; one with an id stays known."""
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    assert data.fetch_data({"source": str(path)})["rows"] == [{"a": "1"}]
    path.write_text("a\n2\n")
    assert data.fetch_data({"source": str(path)})["rows"] == [{"a": "2"}]
    data.fetch_data({"source": str(path), "data_id": "named"})
    path.write_text("a\n3\n")
    assert data.fetch_data({"data_id": "named"})["rows"] == [{"a": "2"}]
    assert data.fetch_data({"source": str(path), "data_id": "named", "format": "text"})["content"] == "a\n2\n"


def test_a_reader_of_the_coordinator(tmp_path):
    """Whatever the coordinator reads can be fetched: here a registered function."""
    coordinator = DataCoordinator()
    coordinator.register_reader("squares", lambda count: [n * n for n in range(int(count))])
    data = StoredData(coordinator=coordinator, folder=str(tmp_path))
    found = data.fetch_data({"source": "reader:squares?count=3"})
    assert (found["format"], found["content"], found["rows"]) == ("json", [0, 1, 4], None)


def test_no_room_is_an_outcome(tmp_path):
    """What does not fit in the budget is denied, with what lacks; and nothing stays held."""
    coordinator = DataCoordinator(budget_bytes=3)
    data = StoredData(coordinator=coordinator, folder=str(tmp_path))
    data.store_data({"data_id": "d", "content": "text"})
    denied = data.fetch_data({"data_id": "d"})
    assert (denied["status"], denied["lacking_bytes"]) == ("denied", 1)
    assert coordinator.usage()["placed_bytes"] == 0


def test_what_is_in_use_or_elsewhere_is_not_written_over(tmp_path):
    """A model that holds the data keeps what it got; an id stands for one place."""
    coordinator = DataCoordinator()
    data = StoredData(coordinator=coordinator, folder=str(tmp_path))
    place = data.store({"data_id": "d", "content": "one"})["destination"]
    coordinator.allocate_data("d")
    with pytest.raises(Conflict, match="in use"):
        data.store_data({"data_id": "d", "content": "two"})
    coordinator.release_data("d")
    with pytest.raises(Conflict, match="lies at"):
        data.store_data({"data_id": "d", "content": "two", "destination": str(tmp_path / "other.txt")})
    assert not (tmp_path / "other.txt").exists()
    assert data.fetch_data({"data_id": "d"})["content"] == "one"
    assert place.startswith(str(tmp_path))


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"data_id": "", "content": "a"},
        {"data_id": "d"},
        {"data_id": "d", "content": "a", "rows": []},
        {"data_id": "d", "content": "a", "format": "csv"},
        {"data_id": "d", "rows": [], "format": "xml"},
        {"data_id": "d", "rows": [1]},
        {"data_id": "d", "rows": [{"a": float("nan")}]},
        {"data_id": "d", "content": object(), "format": "json"},
        {"data_id": "d", "content": "?", "format": "bytes"},
        {"data_id": "d", "content": "\ud800"},
        {"data_id": "d", "content": "a", "extra": 1},
    ],
)
def test_mistakes_store_nothing(data, tmp_path, given):
    """What makes no sense raises, and neither a file nor an id is left."""
    with pytest.raises(InvalidValue):
        data.store_data(given)
    assert not (tmp_path / "data").exists()
    with pytest.raises(UnknownId):
        data.fetch_data({"data_id": "d"})


def test_a_place_that_can_not_be_written(data, tmp_path):
    """The error says so, and the id is not known afterwards."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        data.store_data({"data_id": "d", "content": "a", "destination": str(tmp_path / "file" / "below.txt")})
    with pytest.raises(UnknownId):
        data.fetch_data({"data_id": "d"})


@pytest.mark.parametrize("data_id", ["../../evil", "/etc/evil", "..", "a/../../evil", "a" * 500, ".balance-part"])
def test_a_name_is_no_path(data, tmp_path, data_id):
    """Whatever an id looks like, what is stored under it lies in the folder, and nowhere else."""
    data.store_data({"data_id": data_id, "content": "kept"})
    assert data.fetch_data({"data_id": data_id})["content"] == "kept"
    [stored] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stored.parent == tmp_path / "data"


def test_who_may_not_write_anywhere_stores_below_the_roots(tmp_path):
    """A destination outside is refused, also by a link, and its id is not known afterwards."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "up").symlink_to(outside)
    data = StoredData(folder=str(inside), copier=FsspecCopier(trusted=False, roots=[str(inside)]))
    data.store_data({"data_id": "good", "content": "a"})
    for place in (outside / "a.txt", inside / ".." / "a.txt", inside / "up" / "a.txt", "memory://stored-test/a.txt"):
        with pytest.raises(AccessRefused):
            data.store_data({"data_id": "bad", "content": "a", "destination": str(place)})
        with pytest.raises(UnknownId):
            data.fetch_data({"data_id": "bad"})
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"data_id": "none"}, UnknownId),
        ({"source": 7}, InvalidValue),
        ({"data_id": "d", "format": "xml"}, InvalidValue),
        ({"data_id": "d", "max_bytes": 0}, InvalidValue),
        ({"data_id": "d", "max_bytes": 3}, AccessRefused),
        ({"data_id": "d", "format": "jsonl"}, SourceUnavailable),
        ({"data_id": "d", "where": 1}, InvalidValue),
        ({"source": "/nowhere/at/all"}, SourceUnavailable),
        ("d", InvalidValue),
    ],
)
def test_what_can_not_be_fetched(data, query, error):
    """Each reason has its error, and nothing stays held or known."""
    data.store_data({"data_id": "d", "content": "text"})
    with pytest.raises(error):
        data.fetch_data(query)
    data.store_data({"data_id": "d", "content": "more"})  # not in use, so that it can be replaced
    assert [each["data_id"] for each in data._coordinator.list_data()] == ["d"]
