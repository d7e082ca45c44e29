from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import fsspec
import pytest

from balance.adapters.copier import FsspecCopier
from balance.adapters.copying.file_origin import FileOrigin
from balance.adapters.copying.places import Places
from balance.clock import SystemClock
from balance.errors import AccessRefused, Conflict, InvalidValue, SourceUnavailable, StorageError


@pytest.fixture
def copier():
    return FsspecCopier(block_bytes=10, parallel=1)


@pytest.fixture
def places(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "out"
    source.write_bytes(bytes(range(95)))
    return source, folder / "copy"


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def break_at(n):
    calls = []

    def progress(_done, _total):
        calls.append(1)
        if len(calls) == n:
            raise KeyboardInterrupt

    return progress


def test_a_copy_is_the_source_and_nothing_else_is_left(copier, places):
    """Byte for byte, with its digest, without part or sidecar beside it, and its progress told."""
    source, target = places
    seen = []
    report = copier.copy(str(source), str(target), lambda done, total: seen.append((done, total)))
    assert (report.status, report.size_bytes, report.copied_bytes, report.changed_bytes) == ("copied", 95, 95, 95)
    assert target.read_bytes() == source.read_bytes()
    assert left(target.parent) == ["copy"]
    assert seen == [(n, 95) for n in (*range(10, 100, 10), 95)]


def test_a_block_is_moved_by_several_threads(places):
    """The same promises hold, and progress is told in order."""
    source, target = places
    source.write_bytes(os.urandom(1_000_003))
    copier = FsspecCopier(block_bytes=4_000, parallel=4)
    for change in (lambda content: content, lambda content: content[:500_000] + b"!" + content[500_001:]):
        source.write_bytes(change(source.read_bytes()))
        seen = []
        report = copier.copy(str(source), str(target), lambda done, _total, seen=seen: seen.append(done))
        assert report.status == "copied"
        assert report.copied_bytes == 1_000_003
        assert target.read_bytes() == source.read_bytes()
        assert seen == [*range(1000, 1_000_001, 1000), 1_000_003]
    assert report.changed_bytes == 1000
    assert copier.digest(str(target)) == report.digest == copier.digest(str(source))
    assert copier.copy(str(source), str(target)).status == "unchanged"


def test_what_is_right_already_is_not_written(copier, places):
    """The destination is not even touched."""
    source, target = places
    first = copier.copy(str(source), str(target))
    before = target.stat()
    again = copier.copy(str(source), str(target))
    assert (again.status, again.digest, again.changed_bytes) == ("unchanged", first.digest, 0)
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_only_blocks_that_differ_count_as_changed(copier, places):
    """One changed byte is one changed block; a longer source adds its tail."""
    source, target = places
    copier.copy(str(source), str(target))
    changed = bytearray(source.read_bytes())
    changed[42] ^= 1
    source.write_bytes(changed)
    assert copier.copy(str(source), str(target)).changed_bytes == 10
    source.write_bytes(changed + b"12345" + b"tail")
    assert copier.copy(str(source), str(target)).changed_bytes == 14
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("at", [1, 5, 10])
def test_a_broken_copy_goes_on_where_it_was(copier, places, at):
    """The old destination is there until the new one is; what was copied is not read from the source again."""
    source, target = places
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        copier.copy(str(source), str(target), break_at(at))
    assert target.read_bytes() == b"old"
    report = copier.copy(str(source), str(target))
    assert report.status == "copied"
    assert report.copied_bytes == max(0, 95 - 10 * at)
    assert target.read_bytes() == source.read_bytes()
    assert left(target.parent) == ["copy"]


_COPY_AND_HANG = """
import sys
from balance.adapters.copier import FsspecCopier

def read_bytes():
    return int(open("/proc/self/io").read().split()[1])

def tell(done, total):
    if done == total // 2:
        print(before, flush=True)
    if done >= total * 3 // 4:
        sys.stdin.read()

copier = FsspecCopier(block_bytes=4 * 2**20, parallel=4)
before = read_bytes()
copier.copy(sys.argv[1], sys.argv[2], tell)
"""


def test_after_a_kill_at_most_one_block_is_copied_again(tmp_path):
    """A real process, killed half-way with pieces under way: what both runs read is the source, and a block at most.

    What the first one had read is what the kernel counted; a few KiB of it are Python's own.
    """
    source, target = tmp_path / "source", tmp_path / "target"
    size, block = 32 * 2**20, 4 * 2**20
    source.write_bytes(os.urandom(size))
    target.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", _COPY_AND_HANG, str(source), str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        before = int(child.stdout.readline())
        child.send_signal(signal.SIGSTOP)  # as it is now
        while Path(f"/proc/{child.pid}/stat").read_text().rsplit(") ", 1)[1][0] != "T":
            os.sched_yield()
        read = int(Path(f"/proc/{child.pid}/io").read_text().split()[1]) - before
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    report = FsspecCopier(block_bytes=block, parallel=4).copy(str(source), str(target))
    assert report.status == "copied"
    assert report.copied_bytes <= size // 2
    assert size <= read + report.copied_bytes <= size + block + 2**16
    assert target.read_bytes() == source.read_bytes()
    assert left(tmp_path) == ["source", "target"]


def test_a_part_that_was_damaged_is_not_taken_over(copier, places):
    """A block of the part that is not as noted is copied again; those behind it count."""
    source, target = places
    with pytest.raises(KeyboardInterrupt):
        copier.copy(str(source), str(target), break_at(5))
    part = target.parent / ".copy.balance-part"
    content = bytearray(part.read_bytes())
    content[25] ^= 1
    part.write_bytes(content)
    assert copier.copy(str(source), str(target)).copied_bytes == 45 + 10
    assert target.read_bytes() == source.read_bytes()


def test_a_part_of_another_source_is_not_taken_over(copier, places):
    """If the source changed since the break, the copy begins anew."""
    source, target = places
    with pytest.raises(KeyboardInterrupt):
        copier.copy(str(source), str(target), break_at(5))
    source.write_bytes(bytes(range(1, 96)))
    os.utime(source, ns=(1, 1))
    assert copier.copy(str(source), str(target)).copied_bytes == 95
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("change", ["same size", "longer", "shorter"])
def test_a_source_that_changes_meanwhile_is_a_conflict(copier, places, change):
    """The destination is as it was, nothing is left, and the next run copies the new content."""
    source, target = places
    target.parent.mkdir()
    target.write_bytes(b"old")

    def meddle(done, _total):
        if done == 50:
            new = {"same size": bytes(95), "longer": bytes(200), "shorter": bytes(60)}[change]
            source.write_bytes(new)
            os.utime(source, ns=(1, 1))

    assert copier.copy(str(source), str(target), meddle).status == "conflict"
    assert target.read_bytes() == b"old"
    assert left(target.parent) == ["copy"]
    assert copier.copy(str(source), str(target)).status == "copied"
    assert target.read_bytes() == source.read_bytes()


def test_a_disk_that_lies_is_found_out(copier, places, monkeypatch):
    """What is read back differs from what was written: an error, and the old content stays."""
    source, target = places
    target.parent.mkdir()
    target.write_bytes(b"old")

    def flip(done, total):
        if done == total:
            part = target.parent / ".copy.balance-part"
            content = bytearray(part.read_bytes())
            content[7] ^= 1
            part.write_bytes(content)

    with pytest.raises(StorageError, match="did not hold what was written"):
        copier.copy(str(source), str(target), flip)
    assert target.read_bytes() == b"old"
    assert left(target.parent) == ["copy"]


def test_a_full_disk(places, monkeypatch):
    """What is known to be too much is not begun; what fills the disk is taken away again; the old content stays."""
    source, target = places
    target.parent.mkdir()
    target.write_bytes(b"old")
    copier = FsspecCopier(block_bytes=10, parallel=1)
    writes = []

    def pwrite(handle, piece, offset):
        writes.append(offset)
        if len(writes) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(piece)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(StorageError, match="No space left"):
            copier.copy(str(source), str(target))
    assert (target.read_bytes(), left(target.parent)) == (b"old", ["copy"])
    os.truncate(source, 2**43)  # a sparse file: its size is all that counts here
    with pytest.raises(StorageError, match="bytes more, and the disk has"):
        copier.copy(str(source), str(target))
    assert (target.read_bytes(), left(target.parent)) == (b"old", ["copy"])


def test_two_copies_to_one_destination_exclude_each_other(copier, places):
    """The second is a conflict and disturbs nothing, whichever process it is in."""
    source, target = places
    refused = []

    def again(done, _total):
        if done == 50:
            with pytest.raises(Conflict) as caught:
                copier.copy(str(source), str(target))
            refused.append(caught.value)

    assert copier.copy(str(source), str(target), again).status == "copied"
    assert len(refused) == 1
    assert target.read_bytes() == source.read_bytes()


def test_a_link_that_is_put_in_the_way_is_refused(tmp_path):
    """Between the check of a path and the opening of the file nobody can lead the copy elsewhere."""
    inside, secret = tmp_path / "in", tmp_path / "secret"
    inside.mkdir()
    secret.write_bytes(b"secret")
    (inside / "a").write_bytes(b"a")
    place = Places(trusted=False, roots=[str(inside)]).find("source", str(inside / "a"))
    (inside / "a").unlink()
    (inside / "a").symlink_to(secret)
    with pytest.raises(SourceUnavailable, match="symbolic links"):
        FileOrigin(place).look()
    (inside / "a").unlink()
    inside.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"secret")
    inside.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AccessRefused, match="not checked"):
        FileOrigin(place).look()


def test_a_change_right_after_another_is_seen(tmp_path):
    """Two changes within a tick of the kernel's clock have the same time: the first look waits that tick out."""
    source = tmp_path / "source"
    for _time in range(5):
        source.write_bytes(b"first")
        origin = FileOrigin(Places(trusted=True).find("source", str(source)))
        look = origin.look()
        assert SystemClock().wall() - source.stat().st_ctime > 0.01  # younger kernels tell the two apart anyway
        source.write_bytes(b"other")
        assert origin.look() != look
        origin.close()


def test_a_place_that_is_read_in_order(tmp_path):
    """A member of an archive can't be read at any offset at once; it is copied all the same."""
    content = os.urandom(50_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b", content)
    source = f"zip://b::file://{tmp_path}/a.zip"
    copier = FsspecCopier(block_bytes=4_000)
    assert copier.copy(source, str(tmp_path / "b")).status == "copied"
    assert (tmp_path / "b").read_bytes() == content
    assert copier.copy(source, str(tmp_path / "b")).status == "unchanged"


def test_between_kinds_of_places(copier, tmp_path):
    """From memory to a file and back, resumed in memory, too; an empty file is a file."""
    with fsspec.open("memory://copier-test/a", "wb") as file:
        file.write(b"m" * 95)
    assert copier.copy("memory://copier-test/a", str(tmp_path / "b")).status == "copied"
    with pytest.raises(KeyboardInterrupt):
        copier.copy(str(tmp_path / "b"), "memory://copier-test/c", break_at(4))
    assert copier.copy(str(tmp_path / "b"), "memory://copier-test/c").copied_bytes == 55
    assert fsspec.filesystem("memory").cat_file("/copier-test/c") == b"m" * 95
    assert fsspec.filesystem("memory").ls("/copier-test", detail=False) == ["/copier-test/a", "/copier-test/c"]
    (tmp_path / "empty").write_bytes(b"")
    report = copier.copy(str(tmp_path / "empty"), str(tmp_path / "empty2"))
    assert (report.status, (tmp_path / "empty2").read_bytes()) == ("copied", b"")


def test_bytes_from_memory(copier, tmp_path):
    """The same promises hold for what is not a file yet."""
    target = tmp_path / "x"
    assert copier.write(b"a" * 25, str(target)).status == "copied"
    assert copier.write(b"a" * 25, str(target)).status == "unchanged"
    with pytest.raises(KeyboardInterrupt):
        copier.write(b"b" * 25, str(target), break_at(1))
    assert target.read_bytes() == b"a" * 25
    assert copier.write(b"b" * 25, str(target)).copied_bytes == 15
    assert target.read_bytes() == b"b" * 25


def test_what_can_not_be_copied(copier, tmp_path):
    """A missing source, a folder, a destination below a file, the place itself: each says so."""
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(SourceUnavailable, match="can't be read"):
        copier.copy(str(tmp_path / "none"), str(tmp_path / "b"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="can't be written"):
        copier.write(b"b", str(tmp_path / "a" / "b"))
    for source, target in (("a", "a"), ("a", "./a"), ("a", "a/b"), ("folder", "folder/b"), ("folder/b", "folder")):
        with pytest.raises(InvalidValue):
            copier.check(f"{tmp_path}/{source}", f"{tmp_path}/{target}")
    with pytest.raises(InvalidValue, match="a folder is there"):
        copier.copy(str(tmp_path / "a"), str(tmp_path / "folder"))
    with pytest.raises(InvalidValue, match="not of everything"):
        copier.check(str(tmp_path / "a"), "/")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AccessRefused, match="no regular file"):
        copier.copy(str(tmp_path / "pipe"), str(tmp_path / "b"))
    with pytest.raises(InvalidValue):
        copier.check("nosuch://a", str(tmp_path / "b"))


def test_paths_that_escape_are_refused(tmp_path):
    """Who is not trusted stays in the allowed folders, on both sides; ``..`` is nowhere followed."""
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "a").write_bytes(b"a")
    (inside / "up").symlink_to(tmp_path)
    copier = FsspecCopier(trusted=False, roots=[str(inside)])
    assert copier.copy(str(inside / "a"), str(inside / "b")).status == "copied"
    for source, target in (
        (f"{inside}/a", f"{inside}/../b"),
        (f"{inside}/a", f"{inside}/up/b"),
        ("/etc/hostname", f"{inside}/b"),
        (f"{inside}/a", "memory://copier-test/b"),
    ):
        with pytest.raises(AccessRefused):
            copier.copy(source, target)
    with pytest.raises(AccessRefused, match="climbs"):
        FsspecCopier().check(str(inside / "a"), "memory://copier-test/../b")
