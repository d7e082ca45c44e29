"""What was fetched, on disk, so that it is not fetched again.

Content-addressed: a body is a file named by its digest, however many requests led to it; an entry says which digest a
request has, and what its source said of it.  Both are written beside and renamed, so a reader finds all of one or
nothing, and a crash leaves at most a file that is not referred to, which goes with the next clean-up.

Bounded: when the bodies are too many bytes, those that were not used for longest go.  A body that is damaged on disk is
noticed by its digest and counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from balance.types import check_int

_ENTRY_BYTES = 512  # about what the file of an entry takes, so that entries are bounded too


class BlobCache:
    """Bodies by digest, and entries that refer to them.

    Parameters
    ----------
    folder : path
        Where they lie; made if need be.  One process at a time.
    max_bytes : int, default 1 GiB
        How much may lie there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = BlobCache(folder)
    ...     cache.put("GET https://example.org", b"salam", {"etag": '"1"'})
    ...     BlobCache(folder).get("GET https://example.org")
    ({'etag': '"1"'}, b'salam')
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_bytes: int = 2**30) -> None:
        self._max_bytes = check_int("max_bytes", max_bytes, minimum=0)
        self._entries = Path(folder) / "entries"
        self._blobs = Path(folder) / "blobs"
        for each in (self._entries, self._blobs):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._sizes: OrderedDict[Path, int] = OrderedDict()  # by file, the least recently used first
        self.held_bytes = 0
        self._load()

    def get(self, key: str) -> tuple[dict[str, Any], bytes] | None:
        """Return what was said of the body, and the body; None where either is missing or damaged."""
        with self._lock:
            entry = self._entry(key)
            body = None if entry is None else self.blob(entry["digest"])
            return None if entry is None or body is None else (entry["said"], body)

    def put(self, key: str, body: bytes, said: dict[str, Any]) -> None:
        """Keep a body for a request, with what its source said of it (JSON values)."""
        with self._lock:
            digest = self.put_blob(body)
            self._write(self._entry_path(key), json.dumps({"digest": digest, "said": said}).encode(), _ENTRY_BYTES)
            self._shrink()

    def renew(self, key: str, said: dict[str, Any]) -> None:
        """Change what is said of a request's body; nothing if there is none."""
        with self._lock:
            entry = self._entry(key)
            if entry is not None:
                self._write(self._entry_path(key), json.dumps({**entry, "said": said}).encode(), _ENTRY_BYTES)

    def put_blob(self, body: bytes) -> str:
        """Keep a body by itself and return its digest."""
        digest = hashlib.blake2b(body, digest_size=32).hexdigest()
        path = self._blobs / digest
        with self._lock:
            if path in self._sizes:
                self._used(path)
            else:
                self._write(path, body, len(body))
                self._shrink()
        return digest

    def blob(self, digest: str) -> bytes | None:
        """Return a body by its digest; None if it is not there, or not what it was."""
        path = self._blobs / digest
        with self._lock:
            if path not in self._sizes:  # also keeps a digest that is a path from leaving the folder
                return None
            try:
                body = path.read_bytes()
            except OSError:
                body = None
            if body is None or hashlib.blake2b(body, digest_size=32).hexdigest() != digest:
                self._drop(path)
                return None
            self._used(path)
            return body

    def _entry_path(self, key: str) -> Path:
        return self._entries / hashlib.blake2b(key.encode(), digest_size=32).hexdigest()

    def _entry(self, key: str) -> dict[str, Any] | None:
        path = self._entry_path(key)
        if path not in self._sizes:
            return None
        try:
            entry: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self._drop(path)
            return None
        self._used(path)
        return entry

    def _write(self, path: Path, content: bytes, size_bytes: int) -> None:
        beside = path.with_suffix(".part")
        beside.write_bytes(content)
        beside.replace(path)
        self.held_bytes += size_bytes - self._sizes.pop(path, 0)
        self._sizes[path] = size_bytes

    def _used(self, path: Path) -> None:
        self._sizes.move_to_end(path)
        with contextlib.suppress(OSError):
            os.utime(path)  # the order of use, for the next start

    def _drop(self, path: Path) -> None:
        self.held_bytes -= self._sizes.pop(path, 0)
        path.unlink(missing_ok=True)

    def _shrink(self) -> None:
        while self.held_bytes > self._max_bytes and self._sizes:
            self._drop(next(iter(self._sizes)))

    def _load(self) -> None:
        found = []
        for folder in (self._entries, self._blobs):
            for path in folder.iterdir():
                if path.suffix == ".part":
                    path.unlink(missing_ok=True)
                else:
                    stat = path.stat()
                    found.append((stat.st_mtime_ns, path, _ENTRY_BYTES if folder == self._entries else stat.st_size))
        for _used_at, path, size_bytes in sorted(found):
            self._sizes[path] = size_bytes
            self.held_bytes += size_bytes
        self._shrink()
