from __future__ import annotations

import json

import pytest

from balance.clock import FakeClock
from balance.core.coordinator import SyncManager
from balance.core.coordinator.ports import CopyReport
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable, UnknownId
from balance.storage import Store, StoreJournal


class Copier:
    """Takes two seconds for ten bytes, and ends as it was told."""

    def __init__(self, clock):
        self.clock = clock
        self.end = CopyReport("copied", 10, 10, 10, "blake3:00")
        self.seen = []
        self.look = lambda: None

    def check(self, source, destination):
        if "bad" in destination:
            raise InvalidValue("destination", destination, "a good one")

    def copy(self, source, destination, progress):
        for done in (5, 10):
            self.clock.advance(1)
            progress(done, 10)
            self.seen.append(self.look())
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def write(self, content, destination, progress):
        return self.copy("memory", destination, progress)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def copier(clock):
    return Copier(clock)


@pytest.fixture
def sync(clock, copier):
    manager = SyncManager(copier=copier, clock=clock)
    manager.register_sync_task("s", "a", "b", 8)
    copier.look = lambda: manager.get_sync_status("s")
    return manager


def test_the_status_tells_progress_while_it_runs(sync, copier):
    """Bytes done of bytes in total, and the rate, at every block."""
    assert sync.get_sync_status("s")["state"] == "registered"
    done = sync.execute_sync("s")
    assert [(seen["state"], seen["bytes_done"], seen["rate_bytes_s"]) for seen in copier.seen] == [
        ("running", 5, 5.0),
        ("running", 10, 5.0),
    ]
    assert (done["state"], done["bytes_done"], done["bytes_total"], done["elapsed_s"]) == ("completed", 10, 10, 2.0)
    assert sync.get_sync_status("s") == done
    assert json.loads(json.dumps(done)) == done


@pytest.mark.parametrize("status", ["unchanged", "conflict"])
def test_the_other_ways_to_end(sync, copier, status):
    """They are results, not errors; after a conflict nothing counts as done."""
    copier.end = CopyReport(status, 10, 10, 0, "blake3:00")
    done = sync.execute_sync("s")
    assert done["state"] == status
    assert (done["bytes_done"] == 0) is (status == "conflict")


def test_a_copy_that_fails_can_be_run_again(sync, copier):
    """The status says why; the next run clears it."""
    good, copier.end = copier.end, SourceUnavailable("gone")
    failed = sync.execute_sync("s")
    assert (failed["state"], failed["error"]) == ("failed", "SourceUnavailable: gone")
    copier.end = good
    done = sync.execute_sync("s")
    assert (done["state"], done["error"], done["attempts"]) == ("completed", None, 2)


def test_a_bug_in_a_copier_does_not_leave_the_task_running(sync, copier):
    """It reaches the caller, and the task can run again."""
    copier.end = ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError):
        sync.execute_sync("s")
    assert sync.get_sync_status("s")["state"] == "failed"


def test_one_run_at_a_time(sync, copier):
    """A second run of the same task is a conflict while the first is under way."""
    errors = []

    def again():
        with pytest.raises(Conflict) as caught:
            sync.execute_sync("s")
        errors.append(caught.value)
        with pytest.raises(Conflict):
            sync.forget("s")

    copier.look = again
    assert sync.execute_sync("s")["state"] == "completed"
    assert len(errors) == 2


@pytest.mark.parametrize("destination", ["b", "b/", "b/c"])
def test_one_run_to_a_place_at_a_time(sync, copier, destination):
    """Also under another id, and also where one place lies in the other."""
    sync.register_sync_task("t", "x", destination, 8)
    sync.register_sync_task("u", "x", "bc", 8)
    copier.look = lambda: None
    sync.begin("s")
    with pytest.raises(Conflict, match="'s' writes to 'b'"):
        sync.execute_sync("t")
    assert sync.execute_sync("u")["state"] == "completed"
    assert sync.get_sync_status("t")["state"] == "registered"


def test_what_was_refused_is_counted(sync, copier):
    """By its reason: before a run and in it; nothing else is disturbed."""
    with pytest.raises(InvalidValue):
        sync.register_sync_task("t", "a", "bad", 8)
    good, copier.end = copier.end, AccessRefused("a link leads out")
    copier.look = lambda: None
    assert sync.execute_sync("s")["error"] == "AccessRefused: a link leads out"
    copier.end = SourceUnavailable("gone")
    assert sync.execute_sync("s")["state"] == "failed"
    copier.end = good
    sync.execute_sync("s")
    assert sync.counts() == {
        "completed": 1,
        "copied_bytes": 10,
        "failed": 1,
        "refused": 2,
        "refused_AccessRefused": 1,
        "refused_InvalidValue": 1,
    }


def test_registration(sync):
    """The same again is nothing, another copy under the same id a conflict, a bad place refused."""
    sync.register_sync_task("s", "a", "b", 8)
    with pytest.raises(Conflict):
        sync.register_sync_task("s", "a", "c", 8)
    with pytest.raises(InvalidValue):
        sync.register_sync_task("t", "a", "bad", 8)
    with pytest.raises(InvalidValue):
        sync.register_sync_task("t", "a", "b", -1)
    assert [task["sync_id"] for task in sync.list_sync_tasks()] == ["s"]
    with pytest.raises(UnknownId, match="'s'"):
        sync.execute_sync("t")


def test_bytes_from_memory(sync):
    """They go the same way, under an id of their own."""
    assert sync.write_content("m", "reader:x", b"0123456789", "b")["state"] == "completed"
    with pytest.raises(Conflict):
        sync.write_content("m", "reader:x", b"0123456789", "elsewhere")


def test_a_run_that_a_restart_cut_off_is_interrupted(clock, copier):
    """It is there with its history, and runs again; tasks that had ended are as they were."""
    store = Store(clock=clock)
    before = SyncManager(copier=copier, clock=clock, journal=StoreJournal(store, store.acquire("sync")))
    for name in ("done", "cut", "gone"):
        before.register_sync_task(name, "a", f"b/{name}", 8)
    before.execute_sync("done")
    before.begin("cut")
    before.forget("gone")
    after = SyncManager(copier=copier, clock=clock, journal=StoreJournal(store, store.acquire("sync")))
    assert {task["sync_id"]: task["state"] for task in after.list_sync_tasks()} == {
        "cut": "interrupted",
        "done": "completed",
    }
    assert after.get_sync_status("done") == before.get_sync_status("done")
    assert after.execute_sync("cut")["attempts"] == 2
