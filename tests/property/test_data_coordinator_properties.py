from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from balance.adapters.readers import Readers
from balance.adapters.shelf import LocalShelf
from balance.clock import FakeClock
from balance.core.coordinator import DataCoordinator
from balance.errors import AccessRefused
from balance.storage import Store, StoreJournal

BUDGET = 60
SIZES = {"a": 20, "b": 30, "c": 40, "d": 60, "e": 61}
IDS = st.sampled_from(sorted(SIZES))


class Data(RuleBasedStateMachine):
    """Allocate, release, age, restart and lose copies in any order."""

    @initialize()
    def start(self):
        self.clock = FakeClock()
        self.store = Store(clock=self.clock)
        self.held = dict.fromkeys(SIZES, 0)
        self.shelf = LocalShelf()
        self.build()
        for name, size in SIZES.items():
            self.data.register_data_source(name, 0, f"reader:zeros?size={size}")

    def build(self):
        readers = Readers(clock=self.clock)
        readers.register("zeros", lambda size: bytes(int(size)))
        journal = StoreJournal(self.store, self.store.acquire("data"))
        self.data = DataCoordinator(
            readers=readers, placer=self.shelf, clock=self.clock, journal=journal, budget_bytes=BUDGET
        )

    @rule(name=IDS, max_age_s=st.none() | st.just(5.0))
    def allocate(self, name, max_age_s):
        held = sum(SIZES[other] for other, count in self.held.items() if count and self.placed(other))
        fits = self.placed(name) and self.held[name] > 0
        fits = fits or held + SIZES[name] <= BUDGET
        if SIZES[name] > BUDGET:  # the reader's limit is the budget: it may not even be read
            with pytest.raises(AccessRefused, match="more than the 60 bytes"):
                self.data.allocate(name, max_age_s=max_age_s)
            return
        outcome = self.data.allocate(name, max_age_s=max_age_s)
        assert (outcome["status"] == "allocated") is fits
        if fits:
            self.held[name] += 1
            assert outcome["references"] == self.held[name]
            assert self.data.read(outcome["location"]) == bytes(SIZES[name])
            assert max_age_s is None or outcome["references"] > 1 or outcome["age_s"] <= max_age_s

    def placed(self, name):
        return self.data.status(name)["location"] is not None

    @rule(name=IDS)
    def release(self, name):
        if self.held[name]:
            self.data.release_data(name)
            self.held[name] -= 1

    @rule(name=IDS)
    def use(self, name):
        """Hold for a moment: what this leaves idle is what evictions are about."""
        before = self.held[name]
        self.allocate(name, None)
        if self.held[name] > before:
            self.release(name)

    @rule(lost=st.booleans())
    def restart(self, lost):
        self.shelf = LocalShelf() if lost else self.shelf
        self.build()

    @rule()
    def wait(self):
        self.clock.advance(4.0)

    @invariant()
    def the_budget_holds_and_the_shelf_has_what_is_known(self):
        rows = self.data.list_data()
        assert {row["data_id"]: row["references"] for row in rows} == self.held
        placed = {row["location"]: row["size_bytes"] for row in rows if row["location"]}
        assert sum(placed.values()) == self.data.usage()["placed_bytes"] <= BUDGET
        assert self.data.usage()["fetching_bytes"] == 0
        assert set(self.shelf._held) == set(placed)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


TestData = Data.TestCase
TestData.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
