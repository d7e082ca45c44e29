"""Real text found on any machine: the documents of the installed Python packages.

Their metadata (which holds the README), licences, and ``.md`` / ``.rst`` files, read through
`importlib.metadata`, the same text only once, dealt over shards that are bounded in bytes.  The same
environment always gives the same shards.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from balance.errors import InvalidValue

SHARDS = 8
SHARD_BYTES = 384 * 2**10
DOCUMENT_BYTES = 64 * 2**10


@lru_cache(maxsize=1)
def shard_files() -> tuple[tuple[tuple[str, Path, int], ...], ...]:
    """Return for each shard its ``(title, path, bytes)``; a package's documents stay together.

    Cost: a few tenths of a second once per process, for looking at every installed file's name and size.
    """
    shards: list[list[tuple[str, Path, int]]] = [[] for _ in range(SHARDS)]
    filled = [0] * SHARDS
    for package in _packages():
        room = min(range(SHARDS), key=lambda n: (filled[n], n))
        for title, path, size in _documents(package):
            if filled[room] + size <= SHARD_BYTES:
                shards[room].append((title, path, size))
                filled[room] += size
    return tuple(tuple(shard) for shard in shards)


def read_shard(shard: int) -> dict[str, Any]:
    """Read one shard.

    Returns
    -------
    dict
        ``shard`` (int), ``digest`` (BLAKE2b of the text), ``documents``: each with ``title`` and ``text``.
    """
    if not 0 <= shard < SHARDS:
        raise InvalidValue("shard", shard, f"a whole number from 0 to {SHARDS - 1}")
    documents: list[dict[str, str]] = []
    seen: set[bytes] = set()
    digest = hashlib.blake2b(digest_size=16)
    for title, path, _ in shard_files()[shard]:
        try:
            raw = path.read_bytes()[:DOCUMENT_BYTES]
        except OSError:
            continue  # uninstalled since the files were listed
        fingerprint = hashlib.blake2b(raw, digest_size=16).digest()
        if fingerprint not in seen:
            seen.add(fingerprint)
            digest.update(title.encode() + b"\0" + fingerprint)
            documents.append({"title": title, "text": raw.decode("utf-8", errors="replace")})
    return {"shard": shard, "digest": digest.hexdigest(), "documents": documents}


def _packages() -> list[importlib.metadata.Distribution]:
    found = {
        str(package.metadata["Name"]).casefold(): package
        for package in importlib.metadata.distributions()
        if package.metadata is not None and package.metadata["Name"]
    }
    return [found[name] for name in sorted(found)]


def _documents(package: importlib.metadata.Distribution) -> Iterator[tuple[str, Path, int]]:
    name = str(package.metadata["Name"])
    for file in sorted(package.files or [], key=str):
        in_info = len(file.parts) > 1 and file.parts[0].endswith(".dist-info")
        licence = in_info and any(word in file.name.lower() for word in ("licen", "copying", "notice", "authors"))
        if licence or (in_info and file.name == "METADATA") or file.suffix.lower() in {".md", ".rst"}:
            path = Path(str(package.locate_file(file)))
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if size:
                yield f"{name}/{file.name}", path, min(size, DOCUMENT_BYTES)
