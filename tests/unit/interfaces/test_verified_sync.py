"""`VerifiedSync` on real files: the destination is the source's equal, or what it was."""

from __future__ import annotations

import pytest

from balance.adapters.data.verified_sync import VerifiedSync
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable, StorageError


@pytest.fixture
def sync():
    return VerifiedSync()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"text" * 1000)
    return path


def test_a_copy_is_made_and_kept_in_step(sync, source, tmp_path):
    """Again after a change, under the same name; what is equal already is not written."""
    copy = tmp_path / "folder" / "copy"
    for content in (b"one", b"another", b"another"):
        source.write_bytes(content)
        assert sync.verify_sync(str(source), str(copy)) is (copy.exists() and copy.read_bytes() == content)
        sync.sync_data(str(source), f"file://{copy}", {})
        assert copy.read_bytes() == content
        assert sync.verify_sync(str(source), str(copy))
    (task,) = sync.manager.list_sync_tasks()
    assert (task["attempts"], task["state"]) == (3, "unchanged")


def test_verify_sees_a_single_bit(sync, source, tmp_path):
    """Same size, one bit apart: not in step."""
    copy = tmp_path / "copy"
    sync.sync_data(str(source), str(copy), {"sync_id": "s", "size_bytes": 4000})
    changed = bytearray(copy.read_bytes())
    changed[2000] ^= 1
    copy.write_bytes(changed)
    assert not sync.verify_sync(str(source), str(copy))
    assert sync.manager.get_sync_status("s")["state"] == "completed"


def test_only_the_source_that_is_meant(sync, source, tmp_path):
    """With a digest another content is a conflict, and nothing is copied."""
    copy = tmp_path / "copy"
    with pytest.raises(Conflict) as caught:
        sync.sync_data(str(source), str(copy), {"digest": "blake3:00"})
    assert not copy.exists()
    sync.sync_data(str(source), str(copy), {"digest": caught.value.details["digest"]})
    assert copy.exists()


def test_failures(sync, source, tmp_path):
    """Each reason has its error; the destination stays what it was."""
    copy = tmp_path / "copy"
    copy.write_bytes(b"old")
    with pytest.raises(StorageError, match="can't be read"):
        sync.sync_data(str(tmp_path / "none"), str(copy), {})
    with pytest.raises(SourceUnavailable):
        sync.verify_sync(str(tmp_path / "none"), str(copy))
    for arguments in ((str(source), str(source), {}), (str(source), "", {}), (str(source), str(copy), {"x": 1})):
        with pytest.raises(InvalidValue):
            sync.sync_data(*arguments)
    with pytest.raises(InvalidValue):
        sync.sync_data(str(source), str(copy), None)
    assert copy.read_bytes() == b"old"


def test_one_name_stands_for_one_copy(sync, source, tmp_path):
    """A ``sync_id`` of another copy is a conflict."""
    sync.sync_data(str(source), str(tmp_path / "a"), {"sync_id": "s"})
    with pytest.raises(Conflict):
        sync.sync_data(str(source), str(tmp_path / "b"), {"sync_id": "s"})
    assert not (tmp_path / "b").exists()


def test_who_is_not_trusted_verifies_below_the_roots(source, tmp_path):
    """A digest tells of a file's content, so it is not told of every file."""
    sync = VerifiedSync(trusted=False, roots=str(tmp_path))
    assert sync.verify_sync(str(source), str(source))
    with pytest.raises(AccessRefused):
        sync.verify_sync("/etc/passwd", str(source))
