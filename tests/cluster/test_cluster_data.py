"""Data within reach: sources, copies in Ray's object store, copies elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance.errors import Conflict, InvalidValue, SourceUnavailable, UnknownId

pytestmark = pytest.mark.cluster


def _read_at(location: str) -> Any:
    """Return a task that reads a location on an executor."""

    def task() -> Any:
        from actors.shelf import read

        return read(location)

    return task


def test_data_is_read_where_the_work_runs(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """Registered, allocated, read by a task on an executor, shared by the next allocation, released."""
    data, ask = unique("words"), balance_cluster.ask
    (tmp_path / "words.txt").write_bytes(b"one two three")
    ask("data_coordinator", "register_data_source", data, 13, str(tmp_path / "words.txt"))
    placed = ask("data_coordinator", "allocate_data", data)
    assert (placed["status"], placed["size_bytes"], placed["references"]) == ("allocated", 13, 1)
    report = balance_cluster.execute(unique("task"), _read_at(placed["location"]))
    assert report["result"] == b"one two three"
    again = ask("data_coordinator", "allocate_data", data)
    assert (again["from_cache"], again["location"], again["references"]) == (True, placed["location"], 2)
    ask("data_coordinator", "release_data", data)
    ask("data_coordinator", "release_data", data)
    assert ask("data_coordinator", "status", data)["state"] == "cached"
    with pytest.raises(InvalidValue, match="released already"):
        ask("data_coordinator", "release_data", data)


def test_calls_at_once_share_one_fetch(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """Ten allocations at the same moment read the source once and get the same copy."""
    data, reader, ask = unique("slow"), unique("reader"), balance_cluster.ask
    log = str(tmp_path / "reads")

    def read() -> dict[str, int]:
        import time

        with open(log, "a") as handle:  # noqa: PTH123 (travels to the actor as it is)
            handle.write("x")
        time.sleep(0.2)
        return {"answer": 42}

    ask("data_coordinator", "register_reader", reader, read)
    ask("data_coordinator", "register_data_source", data, 100, f"reader:{reader}")
    answers = balance_cluster.get([balance_cluster.start("data_coordinator", "allocate_data", data) for _ in range(10)])
    assert len({answer["location"] for answer in answers}) == 1
    assert sorted(answer["references"] for answer in answers) == list(range(1, 11))
    assert Path(log).read_text() == "x"
    for _ in range(10):
        ask("data_coordinator", "release_data", data)


def test_a_hold_is_taken_once(balance_cluster: Any, unique: Any) -> None:
    """The same hold twice is one reference; letting a holder go gives back all that it holds."""
    data, reader, ask = unique("data"), unique("reader"), balance_cluster.ask
    ask("data_coordinator", "register_reader", reader, lambda: [1, 2])
    ask("data_coordinator", "register_data_source", data, 10, f"reader:{reader}")
    holder = unique("holder")
    for name in ("a", "a", "b"):
        assert ask("data_coordinator", "hold_data", holder, name, data)["status"] == "allocated"
    assert ask("data_coordinator", "status", data)["references"] == 2
    assert ask("data_coordinator", "let_go", holder, "a") == 1
    assert ask("data_coordinator", "let_go", holder, "a") == 0
    assert ask("data_coordinator", "let_go", holder) == 1
    assert ask("data_coordinator", "status", data)["references"] == 0


def test_a_source_that_fails_holds_nothing(balance_cluster: Any, unique: Any) -> None:
    """A reader that raises, or even exits, fails its allocation with the reason, and the actor lives on."""
    ask, before = balance_cluster.ask, balance_cluster.ask("data_coordinator", "ping")

    def leave() -> None:
        raise SystemExit(3)

    for function, said in ((lambda: 1 / 0, "division by zero"), (leave, "exited with 3")):
        data, reader = unique("data"), unique("reader")
        ask("data_coordinator", "register_reader", reader, function)
        ask("data_coordinator", "register_data_source", data, 10, f"reader:{reader}")
        with pytest.raises(SourceUnavailable, match=said):
            ask("data_coordinator", "allocate_data", data)
        assert ask("data_coordinator", "status", data)["references"] == 0
    assert ask("data_coordinator", "ping")["pid"] == before["pid"]


def test_mistakes_with_data_raise(balance_cluster: Any, unique: Any) -> None:
    """Unknown ids, sources that can't be, other sources under a known id: each error by its own type."""
    data, ask = unique("data"), balance_cluster.ask
    with pytest.raises(UnknownId):
        ask("data_coordinator", "allocate_data", unique("nothing"))
    with pytest.raises(UnknownId, match="reader"):
        ask("data_coordinator", "register_data_source", data, 10, "reader:" + unique("nobody"))
    reader = unique("reader")
    ask("data_coordinator", "register_reader", reader, lambda: 1)
    with pytest.raises(Conflict):
        ask("data_coordinator", "register_reader", reader, lambda: 2)
    ask("data_coordinator", "register_data_source", data, 10, f"reader:{reader}")
    with pytest.raises(Conflict):
        ask("data_coordinator", "register_data_source", data, 11, f"reader:{reader}")


def test_a_file_is_copied_and_verified(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """`synchronize_data` brings a file elsewhere, verified; once more it finds nothing to do."""
    data, ask = unique("file"), balance_cluster.ask
    source, target = tmp_path / "source.bin", tmp_path / "there" / "copy.bin"
    source.write_bytes(bytes(range(256)) * 4096)
    ask("data_coordinator", "register_data_source", data, source.stat().st_size, str(source))
    outcome = ask("data_coordinator", "synchronize_data", data, str(target))
    assert (outcome["status"], outcome["bytes_done"]) == ("completed", source.stat().st_size)
    assert target.read_bytes() == source.read_bytes()
    assert ask("data_coordinator", "synchronize_data", data, str(target))["status"] == "unchanged"


def test_a_folder_is_copied_and_what_was_refused_is_counted(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """All files of a source that is a folder; a link that leads out of it is refused with the reason, and counted."""
    data, ask = unique("folder"), balance_cluster.ask
    source, target = tmp_path / "source", tmp_path / "copy"
    for name in ("a", "sub/b"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * 1000)
    ask("data_coordinator", "register_data_source", data, 6000, str(source))
    outcome = ask("data_coordinator", "synchronize_data", data, str(target))
    assert (outcome["status"], outcome["files"], outcome["changed_files"]) == ("completed", 2, 2)
    assert (target / "sub" / "b").read_bytes() == b"sub/b" * 1000
    before = ask("sync_coordinator", "stats")["counts"].get("refused_AccessRefused", 0)
    (source / "evil").symlink_to("/etc/hostname")
    refused = ask("data_coordinator", "synchronize_data", data, str(target))
    assert refused["status"] == "failed"
    assert "leads out" in refused["error"]
    assert ask("sync_coordinator", "stats")["counts"]["refused_AccessRefused"] == before + 1
    assert not (target / "evil").exists()


def test_what_a_reader_delivers_is_written_elsewhere(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """A source that is no file is read, written to the destination, and held by nobody afterwards."""
    data, reader, ask = unique("data"), unique("reader"), balance_cluster.ask
    ask("data_coordinator", "register_reader", reader, lambda: {"a": [1, 2, 3]})
    ask("data_coordinator", "register_data_source", data, 10, f"reader:{reader}")
    outcome = ask("data_coordinator", "synchronize_data", data, str(tmp_path / "out.json"))
    assert outcome["status"] == "completed"
    assert (tmp_path / "out.json").read_bytes().replace(b" ", b"") == b'{"a":[1,2,3]}'
    assert ask("data_coordinator", "status", data)["references"] == 0


def test_a_sync_task_reports_its_progress(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """The sync coordinator's own contract: register, execute, status; a source that is not there is a ``failed``."""
    ask, sync, missing = balance_cluster.ask, unique("sync"), unique("sync")
    (tmp_path / "a").write_bytes(b"x" * 1000)
    ask("sync_coordinator", "register_sync_task", sync, str(tmp_path / "a"), str(tmp_path / "b"), 1000)
    assert ask("sync_coordinator", "get_sync_status", sync)["state"] == "registered"
    assert ask("sync_coordinator", "execute_sync", sync)["state"] == "completed"
    assert ask("sync_coordinator", "get_sync_status", sync)["bytes_done"] == 1000
    ask("sync_coordinator", "register_sync_task", missing, str(tmp_path / "none"), str(tmp_path / "c"), 1)
    assert ask("sync_coordinator", "execute_sync", missing)["state"] == "failed"


def test_a_copy_outlives_a_kill_of_its_actor(balance_cluster: Any, unique: Any, tmp_path: Path) -> None:
    """Killed in the middle, the coordinator comes back, takes the part over, and answers the call that was made."""
    ask, sync, size = balance_cluster.ask, unique("sync"), 256 * 2**20
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(size)
    target.write_bytes(b"old")
    ask("sync_coordinator", "register_sync_task", sync, str(source), str(target), size)
    copying = balance_cluster.start("sync_coordinator", "execute_sync", sync)
    balance_cluster.eventually(lambda: ask("sync_coordinator", "get_sync_status", sync)["bytes_done"] > 0)
    balance_cluster.kill("sync_coordinator")
    done = balance_cluster.get(copying, 120.0)
    assert done["state"] in ("completed", "unchanged")  # it may have been done before it was killed
    assert done["attempts"] <= 2
    assert done["copied_bytes"] <= size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
    assert target.stat().st_size == size
