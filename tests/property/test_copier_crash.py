from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.adapters.copier import FsspecCopier
from balance.adapters.copying.part import checksum


class Crash(BaseException):
    """What no code catches on purpose: the process is gone."""


def crashing(real, countdown):
    def call(*args, **kwargs):
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Crash
        return real(*args, **kwargs)

    return call


def noting(real, calls):
    def call(*args, **kwargs):
        calls.append(args)
        return real(*args, **kwargs)

    return call


@settings(max_examples=60, deadline=None)
@given(
    old=st.none() | st.binary(max_size=60),
    new=st.binary(max_size=60),
    crashes=st.lists(st.integers(1, 25), max_size=4),
    block=st.integers(1, 20),
    parallel=st.integers(1, 3),
)
def test_the_destination_is_always_the_old_or_the_new(old, new, crashes, block, parallel):
    """Whatever step the process dies at, and however often: never a mixture, and the last run ends it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(new)
        if old is not None:
            target.write_bytes(old)
        copier = FsspecCopier(block_bytes=block, parallel=parallel)
        for step in crashes:
            countdown = [step]
            with (
                mock.patch("os.fsync", crashing(os.fsync, countdown)),
                mock.patch("os.replace", crashing(os.replace, countdown)),
                mock.patch("os.pwrite", crashing(os.pwrite, countdown)),
                mock.patch("os.write", crashing(os.write, countdown)),
                mock.patch("balance.adapters.copying.file_copy.checksum", crashing(checksum, countdown)),
                contextlib.suppress(Crash),
            ):
                copier.copy(str(source), str(target), crashing(lambda *_: None, countdown))
            found = target.read_bytes() if target.exists() else None
            assert found in (old, new)
        assert copier.copy(str(source), str(target)).status in ("copied", "unchanged")
        assert target.read_bytes() == new
        if not crashes:
            assert sorted(path.name for path in Path(folder).iterdir()) == ["source", "target"]


_CONTENT = st.binary(max_size=40)


@settings(max_examples=40, deadline=None)
@given(
    old=st.dictionaries(st.sampled_from("abc"), _CONTENT),
    new=st.dictionaries(st.sampled_from("abcd"), _CONTENT, min_size=1),
    crashes=st.lists(st.integers(1, 40), max_size=4),
    block=st.integers(1, 30),
    parallel=st.integers(1, 3),
)
def test_every_file_of_a_tree_is_always_the_old_or_the_new(old, new, crashes, block, parallel):
    """Whatever step the process dies at: no file is a mixture, none new before all are ready; the last run ends it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        for root, files in ((source, new), (target, old)):
            root.mkdir()
            for name, content in files.items():
                (root / name).write_bytes(content)
        copier = FsspecCopier(block_bytes=block, parallel=parallel)
        for step in crashes:
            countdown, ready, replaced = [step], [], []
            with (
                mock.patch("os.fsync", crashing(os.fsync, countdown)),
                mock.patch("os.replace", crashing(noting(os.replace, replaced), countdown)),
                mock.patch("os.pwrite", crashing(os.pwrite, countdown)),
                mock.patch("os.write", crashing(os.write, countdown)),
                contextlib.suppress(Crash),
            ):
                copier.copy(str(source), str(target), lambda done, total, ready=ready: ready.append(done == total))
            found = {path.name: path.read_bytes() for path in target.iterdir() if not path.name.startswith(".")}
            assert all(found[name] in (old.get(name), new.get(name)) for name in found)
            assert not replaced or ready[-1]
        assert copier.copy(str(source), str(target)).status in ("copied", "unchanged")
        assert {path.name: path.read_bytes() for path in target.iterdir()} == {**old, **new}
