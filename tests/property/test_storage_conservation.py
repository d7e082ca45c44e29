from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from balance.clock import FakeClock
from balance.errors import StaleEpoch
from balance.storage import Store

IDS = st.integers(0, 30).map(lambda n: f"r{n}")
STATES = st.sampled_from(["completed", "failed", "dead_lettered"])


class Requests(RuleBasedStateMachine):
    """Accept, finish, take over, abort and prune in any order: the account holds and agrees with a plain model."""

    stale = Bundle("stale")
    url = "sqlite://"

    @initialize()
    def start(self):
        self.clock = FakeClock()
        self.store = Store(self.url, clock=self.clock)
        self.fence = self.store.acquire("batches")
        self.in_flight: set[str] = set()
        self.ended: dict[str, str] = {}
        self.pruned: list[str] = []
        self.accepted = 0

    @rule(ids=st.lists(IDS, max_size=8))
    def accept(self, ids):
        with self.store.transaction(self.fence) as tx:
            new = tx.requests.accept({"request_id": i, "model_id": "m"} for i in ids)
        expected = [i for i in dict.fromkeys(ids) if i not in self.in_flight and i not in self.ended]
        assert new == expected
        self.in_flight.update(new)
        self.accepted += len(new)

    @rule(ids=st.lists(IDS, max_size=8), state=STATES)
    def finish(self, ids, state):
        known = [i for i in dict.fromkeys(ids) if i in self.in_flight or i in self.ended]
        with self.store.transaction(self.fence) as tx:
            done = tx.requests.finish({"request_id": i, "state": state} for i in known)
        assert done == [i for i in known if i in self.in_flight]
        self.in_flight.difference_update(done)
        self.ended.update(dict.fromkeys(done, state))

    @rule(ids=st.lists(IDS, min_size=1, max_size=4))
    def abort(self, ids):
        with pytest.raises(ZeroDivisionError), self.store.transaction(self.fence) as tx:
            tx.requests.accept({"request_id": i, "model_id": "m"} for i in ids)
            tx.requests.finish({"request_id": i, "state": "failed"} for i in ids)
            raise ZeroDivisionError

    @rule(target=stale)
    def take_over(self):
        old, self.fence = self.fence, self.store.acquire("batches")
        return old

    @rule(fence=consumes(stale), ids=st.lists(IDS, min_size=1, max_size=4))
    def orphan_writes(self, fence, ids):
        with pytest.raises(StaleEpoch), self.store.transaction(fence) as tx:
            tx.requests.accept({"request_id": i, "model_id": "m"} for i in ids)

    @rule()
    def prune(self):
        self.clock.advance(1.0)
        with self.store.transaction(self.fence) as tx:
            assert tx.requests.prune(self.clock.wall()) == len(self.ended)
        self.pruned += self.ended.values()
        self.ended = {}

    @invariant()
    def nothing_is_lost_and_nothing_counts_twice(self):
        outcomes = [*self.ended.values(), *self.pruned]
        expected = {state: outcomes.count(state) for state in ("completed", "failed", "dead_lettered")}
        assert self.store.conservation() == {
            "accepted": self.accepted,
            **expected,
            "in_flight": len(self.in_flight),
            "holds": True,
        }

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


def test_no_request_is_lost_and_none_counts_twice():
    """Whatever happens, in any order, the account agrees with a plain model of it."""
    run_state_machine_as_test(Requests, settings=settings(max_examples=25, stateful_step_count=30, deadline=None))


def test_nor_on_postgresql(postgres):
    """The same, with its own way of locking; every example finds the tables empty."""

    class OnPostgres(Requests):
        url = postgres.new_database()

        def teardown(self):
            if hasattr(self, "store"):
                with self.store._engine.begin() as connection:
                    connection.exec_driver_sql("TRUNCATE requests, counters, owners")
            super().teardown()

    run_state_machine_as_test(OnPostgres, settings=settings(max_examples=5, stateful_step_count=20, deadline=None))
