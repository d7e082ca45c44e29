"""Where durable state lives: made when it is first needed, by whoever comes first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from balance.config import Settings


def test_threads_that_come_at_once_all_get_the_folder(tmp_path):
    """Two services of one process that connect at the same time do not take each other's probe for a failure."""
    settings = Settings(state_dir=str(tmp_path / "state"))
    start = threading.Barrier(8)

    def probe(_):
        start.wait(10)
        return {settings.writable_state_dir() for _ in range(50)}

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(probe, range(8))) == {tmp_path / "state"}
    assert list((tmp_path / "state").iterdir()) == []
