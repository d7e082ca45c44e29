"""A store of objects, behind the real protocol of S3: what is copied there and back, and files that are collected.

What speaks S3 wants other versions of packages than Ray's clients here do, so it comes on top of the environment, for
this file alone:

    uv run --with-requirements tests/integration/object_store.txt pytest tests/integration/test_object_store.py
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from balance.adapters.collect.blob_cache import BlobCache
from balance.adapters.collect.store_client import StoreClient
from balance.adapters.sources.paths import PathPolicy
from balance.clock import FakeClock
from balance.core.coordinator import SyncManager
from balance.errors import SourceUnavailable

pytest.importorskip("s3fs", reason="see the head of this file")
moto_server = pytest.importorskip("moto.server", reason="see the head of this file")

SIZE_BYTES = 20 * 2**20 + 1
"""More pieces than one."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket on a server of the test's own; `s3fs` to look into it, at the address that the environment names."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("s3")
        fs.clear_instance_cache()  # one of another test knows another address
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        fs.mkdir("bucket")
        yield fs
        fs.rm("bucket", recursive=True)  # its servers keep their objects in this process
        fs.clear_instance_cache()
    finally:
        server.stop()


def synced(source: str | Path, destination: str | Path, size_bytes: int = 0) -> str:
    """Copy, and return how it ended."""
    manager = SyncManager()
    manager.register_sync_task("copy", str(source), str(destination), size_bytes)
    outcome = manager.execute_sync("copy")
    assert outcome["error"] is None, outcome
    return str(outcome["state"])


def test_a_large_file_goes_there_and_back(bucket: Any, tmp_path: Path) -> None:
    """Whole, from store to store as well; what is the same is not copied again, what has changed is; no part stays."""
    body = np.random.default_rng(1).bytes(SIZE_BYTES)
    here, back = tmp_path / "a.bin", tmp_path / "b.bin"
    here.write_bytes(body)
    there, other = "s3://bucket/deep/a.bin", "s3://bucket/b.bin"
    assert synced(here, there, SIZE_BYTES) == "completed"
    assert bucket.cat_file("bucket/deep/a.bin") == body
    assert synced(here, there, SIZE_BYTES) == "unchanged"
    assert synced(there, back, SIZE_BYTES) == "completed"
    assert back.read_bytes() == body
    assert synced(there, other, SIZE_BYTES) == "completed"
    here.write_bytes(changed := body[:-1] + b"x")
    assert synced(here, there, SIZE_BYTES) == "completed"
    assert bucket.cat_file("bucket/deep/a.bin") == changed
    assert bucket.cat_file("bucket/b.bin") == body
    assert sorted(bucket.find("bucket")) == ["bucket/b.bin", "bucket/deep/a.bin"]


def test_a_folder_goes_there_and_back(bucket: Any, tmp_path: Path) -> None:
    """All of its files, in their folders."""
    tree, back = tmp_path / "tree", tmp_path / "back"
    files = {f"f{number}": f"{number}".encode() for number in range(5)} | {"below/g": b"g"}
    for name, body in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(body)
    assert synced(tree, "s3://bucket/tree") == "completed"
    assert {path: bucket.cat_file(path) for path in bucket.find("bucket/tree")} == {
        f"bucket/tree/{name}": body for name, body in files.items()
    }
    assert synced("s3://bucket/tree", back) == "completed"
    assert {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()} == files


def test_an_object_is_collected_once(bucket: Any, tmp_path: Path) -> None:
    """As long as its store says that it is the same; what another has put there meanwhile is noticed."""
    clock = FakeClock()
    client = StoreClient(clock=clock, paths=PathPolicy(), cache=BlobCache(tmp_path / "kept"))
    bucket.pipe_file("bucket/a.csv", b"n\n1\n")
    assert [client.file("s3://bucket/a.csv").wire_bytes for _ in range(3)] == [4, 0, 0]
    fsspec.filesystem("s3").ls("bucket")  # whoever lists a folder in this process remembers what lay there
    bucket.pipe_file("bucket/a.csv", b"n\n2\n")
    assert client.file("s3://bucket/a.csv").body == b"n\n2\n"
    bucket.rm("bucket/a.csv")
    with pytest.raises(SourceUnavailable, match="FileNotFoundError"):
        client.file("s3://bucket/a.csv")
    assert client.file("s3://bucket/a.csv", max_age_s=60.0).body == b"n\n2\n"
