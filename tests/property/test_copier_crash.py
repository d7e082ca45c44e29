from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.adapters.copier import FsspecCopier, _short_digest


class Crash(BaseException):
    """What no code catches on purpose: the process is gone."""


def crashing(real, countdown):
    def call(*args, **kwargs):
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Crash
        return real(*args, **kwargs)

    return call


@settings(max_examples=60, deadline=None)
@given(
    old=st.none() | st.binary(max_size=60),
    new=st.binary(max_size=60),
    crashes=st.lists(st.integers(1, 25), max_size=4),
    block=st.integers(1, 20),
)
def test_the_destination_is_always_the_old_or_the_new(old, new, crashes, block):
    """Whatever step the process dies at, and however often: never a mixture, and the last run ends it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(new)
        if old is not None:
            target.write_bytes(old)
        copier = FsspecCopier(block_bytes=block)
        for step in crashes:
            countdown = [step]
            with (
                mock.patch("os.fsync", crashing(os.fsync, countdown)),
                mock.patch("os.replace", crashing(os.replace, countdown)),
                mock.patch("balance.adapters.copier._short_digest", crashing(_short_digest, countdown)),
                contextlib.suppress(Crash),
            ):
                copier.copy(str(source), str(target), crashing(lambda *_: None, countdown))
            found = target.read_bytes() if target.exists() else None
            assert found in (old, new)
        assert copier.copy(str(source), str(target)).status in ("copied", "unchanged")
        assert target.read_bytes() == new
        if not crashes:
            assert sorted(path.name for path in Path(folder).iterdir()) == ["source", "target"]
