from __future__ import annotations

import subprocess
import sys

import pytest

from balance.storage import Store

WRITER = """
import os, sys
from balance.storage import GroupCommit, Store
store = Store(sys.argv[1])
commit = GroupCommit(store, store.acquire("batches"))
for n in range(1000):
    new = commit.submit(lambda tx: tx.requests.accept([{"request_id": f"r{n}", "model_id": "m"}]))
    new.result(10)
    if n % 3 == 0:
        commit.submit(lambda tx: tx.requests.finish([{"request_id": f"r{n}", "state": "completed"}])).result(10)
    os.write(1, f"{n}\\n".encode())
    if n == int(sys.argv[2]):
        commit.submit(lambda tx: (tx.requests.accept([{"request_id": "half", "model_id": "m"}]), os._exit(7)))
"""


@pytest.mark.parametrize("last", [0, 7, 40])
def test_what_was_acknowledged_is_there_after_a_crash(tmp_path, last):
    """The process ends inside a transaction: everything acknowledged is kept, the open transaction is not."""
    url = f"sqlite:///{tmp_path}/b.db"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, url, str(last)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 7, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    store = Store(url)
    with store.reading() as tx:
        for n in acknowledged:
            assert tx.requests.get(f"r{n}")["state"] == ("completed" if n % 3 == 0 else "accepted")
        assert tx.requests.get("half") is None
        account = tx.requests.conservation()
    assert account["holds"] is True
    assert account["accepted"] >= len(acknowledged)
    store.close()
