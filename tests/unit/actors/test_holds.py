"""Holds of data: taken once, given back once, in step with the references, across any restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors.holds import Hold, Holds
from balance.adapters.readers import Readers
from balance.core.coordinator import DataCoordinator
from balance.errors import StaleEpoch
from balance.storage import Store

FIRST = Hold("batches", "b-1", "data")
SECOND = Hold("batches", "b-2", "data")


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def coordinator(store: Store) -> tuple[DataCoordinator, Holds]:
    """Return a data coordinator of a new incarnation, and its holds."""
    holds = Holds(store, store.acquire("data_coordinator"))
    readers = Readers(trusted=True)
    readers.register("r", lambda: [1, 2, 3])
    return DataCoordinator(readers=readers, journal=holds), holds


def take(data: DataCoordinator, holds: Holds, hold: Hold) -> None:
    with holds.taking(hold, data.status(hold.data_id)["references"] + 1):
        assert data.allocate_data(hold.data_id)["status"] == "allocated"


def test_a_hold_and_its_reference_are_written_together(store: Store) -> None:
    """After a crash at any moment the holds that are known are as many as the references that count."""
    data, holds = coordinator(store)
    data.register_data_source("data", 10, "reader:r")
    take(data, holds, FIRST)
    take(data, holds, SECOND)
    data, holds = coordinator(store)
    assert holds.of("batches") == [FIRST, SECOND] and FIRST in holds
    assert data.status("data")["references"] == 2
    with holds.leaving(FIRST, 1):
        data.release_data("data")
    assert holds.of("batches") == [SECOND] and holds.of("batches", "b-1") == []
    data, holds = coordinator(store)
    assert (holds.of("batches"), data.status("data")["references"]) == ([SECOND], 1)


def test_an_eviction_on_the_way_is_no_hold(store: Store) -> None:
    """Writes that do not bring the references where the hold brings them leave the hold alone."""
    data, holds = coordinator(store)
    data.register_data_source("data", 10, "reader:r")
    take(data, holds, FIRST)
    with holds.leaving(FIRST, 0):
        data.release_data("data")
    with holds.taking(FIRST, 1):
        plan = data.plan_allocation("data", max_age_s=0.0)  # evicts the aged copy, then has to fetch
    assert type(plan).__name__ in {"Fetch", "Allocated"}
    assert (FIRST in holds) == (data.status("data")["references"] == 1)


def test_a_write_that_fails_changes_no_hold(store: Store) -> None:
    """An incarnation that was taken over writes nothing and believes nothing else."""
    data, holds = coordinator(store)
    data.register_data_source("data", 10, "reader:r")
    store.acquire("data_coordinator")
    with pytest.raises(StaleEpoch):
        take(data, holds, FIRST)
    assert FIRST not in holds
