"""Folders through `FsspecCopier`: every file as a single one, and all of them or none."""

from __future__ import annotations

import errno
import os

import fsspec
import pytest

from balance.adapters.copier import FsspecCopier
from balance.errors import AccessRefused, SourceUnavailable, StorageError

FILES = {"a": b"a" * 95, "empty": b"", "sub/b": b"b" * 15, "sub/sub/large": bytes(range(256)) * 4}


@pytest.fixture
def copier():
    return FsspecCopier(block_bytes=40, parallel=4)


@pytest.fixture
def tree(tmp_path):
    return written(tmp_path / "tree", FILES)


def written(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def found(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder_is_copied_with_all_that_is_below_it(copier, tree, tmp_path):
    """Sizes, files and progress are those of all files together; the digest is what ``b3sum`` lists, in a digest."""
    seen = []
    report = copier.copy(str(tree), str(tmp_path / "out" / "copy"), lambda done, total: seen.append((done, total)))
    assert found(tmp_path / "out" / "copy") == FILES
    assert (report.status, report.files, report.changed_files) == ("copied", 4, 4)
    assert report.size_bytes == report.copied_bytes == report.changed_bytes == sum(map(len, FILES.values()))
    assert seen[-1] == (report.size_bytes, report.size_bytes)
    assert seen == sorted(seen)
    assert copier.digest(str(tree)) == report.digest == copier.digest(str(tmp_path / "out" / "copy"))


def test_a_folder_without_files_is_a_folder(copier, tmp_path):
    """It is made, and both are the same; a file in its place is an error that leaves the file."""
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    report = copier.copy(str(tmp_path / "empty"), str(tmp_path / "copy"))
    assert (report.status, report.files, report.size_bytes) == ("unchanged", 0, 0)
    assert copier.digest(str(tmp_path / "copy")) == report.digest
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(StorageError):
        copier.copy(str(tmp_path / "empty"), str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"old"


def test_only_files_that_differ_are_written(copier, tree, tmp_path):
    """What is equal is not touched, and what the destination has beside the source's files stays."""
    copy = tmp_path / "copy"
    copier.copy(str(tree), str(copy))
    written(copy, {"mine": b"mine"})
    before = {name: (copy / name).stat().st_ino for name in FILES}
    written(tree, {"sub/b": b"B" * 15, "new": b"new"})
    report = copier.copy(str(tree), str(copy))
    assert (report.status, report.files, report.changed_files, report.changed_bytes) == ("copied", 5, 2, 18)
    assert found(copy) == {**FILES, "sub/b": b"B" * 15, "new": b"new", "mine": b"mine"}
    assert [name for name in FILES if (copy / name).stat().st_ino != before[name]] == ["sub/b"]
    assert copier.copy(str(tree), f"{copy}/").status == "unchanged"


@pytest.mark.parametrize("change", ["a file", "a new file", "a file less"])
def test_a_tree_that_changes_meanwhile_is_a_conflict(copier, tree, tmp_path, change):
    """Nothing of it reaches the destination, also not the files that had not changed, and nothing is left."""
    copy = written(tmp_path / "copy", {"a": b"old", "sub/b": b"old"})

    def meddle(done, total):
        if done == total:
            if change == "a file":
                (tree / "a").write_bytes(b"x" * 95)
            elif change == "a new file":
                (tree / "later").write_bytes(b"")
            else:
                (tree / "empty").unlink()

    assert copier.copy(str(tree), str(copy), meddle).status == "conflict"
    assert found(copy) == {"a": b"old", "sub/b": b"old"}
    assert copier.copy(str(tree), str(copy)).status == "copied"
    assert found(tree).items() <= found(copy).items()


def test_a_broken_off_tree_goes_on(copier, tree, tmp_path):
    """Files that were ready are not read again; the destination is as it was until all are."""
    copy = written(tmp_path / "copy", {"a": b"old"})

    def stop(done, _total):
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copier.copy(str(tree), str(copy), stop)
    assert {name: content for name, content in found(copy).items() if "balance-" not in name} == {"a": b"old"}
    report = copier.copy(str(tree), str(copy))
    assert report.copied_bytes <= sum(map(len, FILES.values())) - 600 + 40
    assert found(copy) == FILES


def test_links_that_lead_out_are_refused(copier, tree, tmp_path):
    """Whoever asks: a tree may be somebody else's.  A link within the tree is the file that it leads to."""
    (tree / "link").symlink_to("sub/b")
    assert copier.copy(str(tree), str(tmp_path / "copy")).files == 5
    assert (tmp_path / "copy" / "link").read_bytes() == FILES["sub/b"]
    assert not (tmp_path / "copy" / "link").is_symlink()
    (tmp_path / "secret").write_bytes(b"secret")
    for target in (tmp_path / "secret", "../secret", "/etc/hostname", tree / ".." / "secret"):
        (tree / "evil").symlink_to(target)
        with pytest.raises(AccessRefused, match="leads out"):
            copier.copy(str(tree), str(tmp_path / "other"))
        (tree / "evil").unlink()
    for target in (tmp_path, "sub", "."):  # an endless tree, in the end
        (tree / "evil").symlink_to(target)
        with pytest.raises(AccessRefused, match="link to a folder"):
            copier.copy(str(tree), str(tmp_path / "other"))
        (tree / "evil").unlink()
    (tree / "evil").symlink_to("nowhere")
    with pytest.raises(SourceUnavailable, match="nowhere"):
        copier.copy(str(tree), str(tmp_path / "other"))
    (tree / "evil").unlink()
    os.mkfifo(tree / "evil")
    with pytest.raises(AccessRefused, match="no regular file"):
        copier.copy(str(tree), str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_links_at_the_destination_lead_nowhere_else(copier, tree, tmp_path):
    """Neither through a folder nor through a file is anything written outside, and no file is two of the source's."""
    outside = written(tmp_path / "outside", {"b": b"old", "a": b"old"})
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, target in (("sub", outside), ("a", outside / "a")):
        (copy / name).symlink_to(target)
        with pytest.raises(AccessRefused, match="leads out"):
            copier.copy(str(tree), str(copy))
        (copy / name).unlink()
    (copy / "a").symlink_to("empty")
    with pytest.raises(AccessRefused, match="the same file"):
        copier.copy(str(tree), str(copy))
    assert found(outside) == {"b": b"old", "a": b"old"}
    assert found(copy) == {}


def test_names_of_objects_lead_nowhere_else(copier, tmp_path):
    """A store of objects may hold any key; one that climbs is refused, and nothing is written."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/tree-keys/a", b"a")
    memory.store["/tree-keys/../../evil"] = memory.store["/tree-keys/a"]
    try:
        for target in (str(tmp_path / "copy"), "memory://tree-keys-copy"):
            with pytest.raises(AccessRefused, match="leads out"):
                copier.copy("memory://tree-keys", target)
    finally:
        del memory.store["/tree-keys/../../evil"]
    assert list(tmp_path.iterdir()) == []
    assert copier.copy("memory://tree-keys", str(tmp_path / "copy")).status == "copied"


def test_trees_in_stores_of_objects(copier, tree, tmp_path):
    """Into a store and out of it; broken off in between, the pieces that are there count."""

    def stop(done, _total):
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copier.copy(str(tree), "memory://tree-copy/x", stop)
    assert copier.copy(str(tree), "memory://tree-copy/x").copied_bytes <= sum(map(len, FILES.values())) - 600 + 40
    assert copier.copy(str(tree), "memory://tree-copy/x").status == "unchanged"
    names = fsspec.filesystem("memory").find("/tree-copy")
    assert sorted(names) == [f"/tree-copy/x/{name}" for name in sorted(FILES)]
    assert copier.copy("memory://tree-copy/x", str(tmp_path / "back")).status == "copied"
    assert found(tmp_path / "back") == FILES


def test_a_disk_that_is_full_in_the_middle_of_a_tree(copier, tree, tmp_path, monkeypatch):
    """The destination is as it was, and the room that the copy had taken is free again."""
    copy = written(tmp_path / "copy", {"a": b"old"})
    writes = []
    real = os.pwrite

    def pwrite(handle, piece, offset):
        writes.append(offset)
        if len(writes) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, piece, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(StorageError, match="No space left"):
            copier.copy(str(tree), str(copy))
    assert found(copy) == {"a": b"old"}
