from __future__ import annotations

import json

import pytest

from balance.adapters.readers import Readers
from balance.adapters.shelf import LocalShelf
from balance.clock import FakeClock
from balance.core.coordinator import DataCoordinator
from balance.core.coordinator.datum import Allocated, Denied, Fetch, Waiting
from balance.errors import Conflict, InvalidValue, NotReady, SourceUnavailable, StaleEpoch, UnknownId
from balance.storage import Store, StoreJournal


class Source:
    """A reader that counts how often it was asked and can be told to fail."""

    def __init__(self):
        self.reads = []
        self.broken = False

    def __call__(self, name, size="10"):
        self.reads.append(name)
        if self.broken:
            raise OSError("the line is dead")
        return name[:1].encode() * int(size)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def shelf():
    return LocalShelf()


def build(clock, source, shelf, budget=100, journal=None):
    readers = Readers(trusted=True, clock=clock)
    readers.register("text", source)
    return DataCoordinator(readers=readers, placer=shelf, clock=clock, budget_bytes=budget, journal=journal)


@pytest.fixture
def data(clock, source, shelf):
    made = build(clock, source, shelf)
    yield made
    usage = made.usage()
    assert usage["placed_bytes"] + usage["fetching_bytes"] <= usage["budget_bytes"]
    placed = [row for row in made.list_data() if row["location"]]
    assert usage["placed_bytes"] == sum(row["size_bytes"] for row in placed)
    assert all(shelf.holds(row["location"]) for row in placed)
    assert len(shelf._held) == len(placed), "something lies on the shelf that nobody knows of"


def register(data, *names, size=10):
    for name in names:
        data.register_data_source(name, size, f"reader:text?name={name}&size={size}")


def test_data_is_read_once_and_shared(data, source):
    """The second allocation costs no second read, and both see the same bytes."""
    register(data, "a")
    first, second = data.allocate_data("a"), data.allocate_data("a")
    assert source.reads == ["a"]
    assert (first["status"], first["from_cache"], first["references"]) == ("allocated", False, 1)
    assert (second["from_cache"], second["references"]) == (True, 2)
    assert first["location"] == second["location"]
    assert first["size_bytes"] == 10
    assert data.read(first["location"]) == b"a" * 10
    assert json.loads(json.dumps(second)) == second


def test_the_same_registration_again_is_nothing_and_another_one_a_conflict(data):
    """A conflict leaves what was registered."""
    register(data, "a")
    register(data, "a")
    before = data.list_data()
    with pytest.raises(Conflict):
        data.register_data_source("a", 11, "reader:text?name=a&size=10")
    with pytest.raises(Conflict):
        data.register_data_source("a", 10, "reader:text?name=b&size=10")
    assert data.list_data() == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", 1, "reader:text?name=a"), InvalidValue),
        (("a", -1, "reader:text?name=a"), InvalidValue),
        (("a", float("nan"), "reader:text?name=a"), InvalidValue),
        (("a", 1, ""), InvalidValue),
        (("a", 1, "reader:test?name=a"), UnknownId),
        (("a", 1, "reader:text?colour=a"), InvalidValue),
        (("a", 1, "nosuch://x"), InvalidValue),
    ],
)
def test_what_could_never_be_read_is_not_registered(data, arguments, error):
    """It raises at registration, not at the first allocation."""
    with pytest.raises(error):
        data.register_data_source(*arguments)
    assert data.list_data() == []


def test_the_least_recently_used_makes_room(data, source):
    """Use refreshes; what was used longest ago goes first, and only as much as is needed."""
    register(data, "a", "b", "c", size=40)
    for name in ("a", "b"):
        data.allocate_data(name)
        data.release_data(name)
    data.allocate_data("a")
    data.release_data("a")
    data.allocate_data("c")
    assert {row["data_id"]: row["state"] for row in data.list_data()} == {"a": "cached", "b": "registered", "c": "held"}


def test_what_is_held_is_never_evicted(data):
    """When only held data is left the next allocation is denied, saying how much lacks, and nothing changes."""
    register(data, "a", "b", "c", size=40)
    data.allocate_data("a")
    data.allocate_data("b")
    denied = data.allocate_data("c")
    assert (denied["status"], denied["lacking_bytes"], denied["size_bytes"]) == ("denied", 20, 40)
    assert "80 of the budget of 100" in denied["reason"]
    data.release_data("b")
    assert data.allocate_data("c")["status"] == "allocated"
    assert data.status("a")["state"] == "held"


def test_data_larger_than_announced_counts_as_it_is(clock, source, shelf):
    """The size that was read decides, not the one that was registered."""
    data = build(clock, source, shelf)
    register(data, "a", size=60)
    data.register_data_source("b", 1, "reader:text?name=b&size=60")
    data.allocate_data("a")
    assert data.allocate_data("b")["lacking_bytes"] == 20
    assert data.usage()["fetching_bytes"] == 0
    data.release_data("a")
    assert data.allocate_data("b")["status"] == "allocated"
    assert data.status("a")["state"] == "registered"
    assert len(shelf._held) == 1


def test_a_release_too_many_is_the_callers_mistake(data):
    """It raises, and the count stays right for the others."""
    register(data, "a")
    with pytest.raises(InvalidValue, match="released already"):
        data.release_data("a")
    data.allocate_data("a")
    data.allocate_data("a")
    data.release_data("a")
    data.release_data("a")
    with pytest.raises(InvalidValue):
        data.release_data("a")
    assert data.allocate_data("a")["references"] == 1


def test_an_unknown_id_names_its_neighbours(data):
    """Every call says which id was probably meant."""
    register(data, "sunspots")
    for call in (data.allocate_data, data.release_data, data.status, data.forget):
        with pytest.raises(UnknownId, match="did you mean 'sunspots'"):
            call("sunspot")
    with pytest.raises(UnknownId):
        data.synchronize_data("sunspot", "memory://x/y")


def test_a_source_that_fails_holds_nothing(data, source):
    """After the error the data is as before, and the next allocation reads again."""
    register(data, "a")
    source.broken = True
    with pytest.raises(SourceUnavailable, match="the line is dead"):
        data.allocate_data("a")
    assert (data.status("a")["state"], data.status("a")["references"]) == ("registered", 0)
    source.broken = False
    assert data.allocate_data("a")["references"] == 1


def test_what_is_too_old_is_read_anew_unless_it_is_held(data, source, clock):
    """A holder never sees its data change; everyone else gets it as fresh as asked for."""
    register(data, "a")
    data.allocate_data("a")
    clock.advance(60)
    assert data.allocate("a", max_age_s=10)["age_s"] == 60
    data.release_data("a")
    data.release_data("a")
    assert data.allocate("a", max_age_s=90)["from_cache"] is True
    data.release_data("a")
    assert data.allocate("a", max_age_s=10)["age_s"] == 0
    assert source.reads == ["a", "a"]


def test_the_steps_of_an_allocation_share_one_fetch(data, shelf, clock):
    """While one call fetches, the others wait and then find it placed; the reader is asked once."""
    from balance.core.coordinator.payload import Payload

    register(data, "a")
    plan = data.plan_allocation("a")
    assert plan == Fetch("a", "reader:text?name=a&size=10", 100)
    assert data.plan_allocation("a") == Waiting("a")
    assert data.status("a")["state"] == "fetching"
    with pytest.raises(NotReady):
        data.allocate_data("a")
    payload = Payload(b"0123456789")
    assert data.fetched("a", payload.size_bytes, payload.digest) is None
    held = data.placed("a", shelf.put("a", payload))
    assert isinstance(held, Allocated)
    assert data.plan_allocation("a") == Allocated("a", held.location, 10, payload.digest, 2, True, 0.0)
    with pytest.raises(Conflict, match="not being fetched"):
        data.placed("a", "elsewhere")


def test_what_is_being_fetched_takes_room_already(data):
    """Two fetches at once can't both be promised the same room."""
    register(data, "a", "b", size=60)
    assert isinstance(data.plan_allocation("a"), Fetch)
    assert isinstance(data.plan_allocation("b"), Denied)
    data.fetch_failed("a")
    assert isinstance(data.plan_allocation("b"), Fetch)
    data.fetch_failed("b")


def test_forgetting_a_source(data, shelf):
    """Its copy goes, too; what is held can't be forgotten."""
    register(data, "a")
    data.allocate_data("a")
    with pytest.raises(Conflict, match="in use"):
        data.forget("a")
    data.release_data("a")
    data.forget("a")
    assert data.list_data() == []
    assert shelf._held == {}


def test_a_restart_remembers_sources_and_references(clock, source, shelf):
    """Where the placer kept the copy nothing is read; where it lost it, holders still count and it is read again."""
    store = Store(clock=clock)
    before = build(clock, source, shelf, journal=StoreJournal(store, store.acquire("data")))
    register(before, "held", "idle")
    before.allocate_data("held")
    before.allocate_data("idle")
    before.release_data("idle")

    again = build(clock, source, shelf, journal=StoreJournal(store, store.acquire("data")))
    assert again.list_data() == before.list_data()
    assert again.usage() == before.usage()

    lost = build(clock, source, LocalShelf(), journal=StoreJournal(store, store.acquire("data")))
    assert {row["data_id"]: row["state"] for row in lost.list_data()} == {"held": "lost", "idle": "registered"}
    assert lost.allocate_data("held")["references"] == 2
    lost.release_data("held")
    lost.release_data("held")
    with pytest.raises(InvalidValue):
        lost.release_data("held")


def test_what_the_journal_refuses_did_not_happen(clock, source, shelf):
    """A coordinator that was replaced neither registers nor hands out, and leaves nothing on the shelf."""
    store = Store(clock=clock)
    data = build(clock, source, shelf, journal=StoreJournal(store, store.acquire("data")))
    register(data, "a", "b")
    data.allocate_data("b")
    store.acquire("data")
    before = data.list_data()
    for call in (
        lambda: register(data, "c"),
        lambda: data.allocate_data("a"),
        lambda: data.allocate_data("b"),
        lambda: data.release_data("b"),
    ):
        with pytest.raises(StaleEpoch):
            call()
    states = [(row["data_id"], row["references"], row["location"]) for row in data.list_data()]
    assert states == [(row["data_id"], row["references"], row["location"]) for row in before]
    assert len(shelf._held) == 1


def test_synchronizing_a_reader_writes_what_it_delivered(data, tmp_path):
    """The copy is there byte for byte, verified, and no reference is left behind."""
    register(data, "a")
    outcome = data.synchronize_data("a", str(tmp_path / "deep" / "a.bin"))
    assert (outcome["status"], outcome["state"], outcome["bytes_done"]) == ("completed", "completed", 10)
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"a" * 10
    assert data.status("a")["references"] == 0
    assert data.synchronize_data("a", str(tmp_path / "deep" / "a.bin"))["status"] == "unchanged"


def test_synchronizing_a_file_does_not_place_it(data, tmp_path):
    """A file goes from place to place without a copy in memory, however large."""
    (tmp_path / "in").write_bytes(b"x" * 1000)
    data.register_data_source("file", 1000, str(tmp_path / "in"))
    outcome = data.synchronize_data("file", f"file://{tmp_path}/out")
    assert (outcome["status"], outcome["size_bytes"]) == ("completed", 1000)
    assert (tmp_path / "out").read_bytes() == b"x" * 1000
    assert data.usage()["placed_bytes"] == 0
    (tmp_path / "in").unlink()
    outcome = data.synchronize_data("file", f"file://{tmp_path}/out2")
    assert outcome["status"] == "failed"
    assert "can't be read" in outcome["error"]
