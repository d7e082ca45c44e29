"""Copies of one place in another, made by the sync manager and verified by digest."""

from __future__ import annotations

import hashlib
import threading
from typing import Any, Dict

from balance.core.coordinator import SyncManager
from balance.core.coordinator.ports import Copier
from balance.defaults import default
from balance.errors import Conflict, InvalidValue, SourceUnavailable, StorageError
from balance.interfaces.data import SyncHandler
from balance.types import check_id, check_int

_DATA = frozenset({"sync_id", "size_bytes", "digest"})


class VerifiedSync(SyncHandler):
    """Copies files and folders from any place that fsspec reaches to any other: resumable, atomic, only what changed.

    Usable from several threads, one at a time.

    Parameters
    ----------
    manager : SyncManager, optional
        Makes the copies and remembers them; one of this process where left out.
    trusted : bool, default True
        Whether `verify_sync` may read any file; else only what lies below `roots`.
    roots : str, default ""
        Folders, separated by ``:``.

    Examples
    --------
    >>> import fsspec
    >>> with fsspec.open("memory://verified-doc/a", "wb") as file:
    ...     _ = file.write(b"text")
    >>> sync = VerifiedSync()
    >>> sync.verify_sync("memory://verified-doc/a", "memory://verified-doc/b")
    False
    >>> sync.sync_data("memory://verified-doc/a", "memory://verified-doc/b", {})
    >>> sync.verify_sync("memory://verified-doc/a", "memory://verified-doc/b")
    True
    """

    def __init__(self, *, manager: SyncManager | None = None, trusted: bool = True, roots: str = "") -> None:
        self.manager = manager or SyncManager()
        self._copier: Copier = default("copier", trusted=trusted, roots=roots.split(":"))
        self._lock = threading.Lock()

    def sync_data(self, source: str, destination: str, data: Dict[str, Any]) -> None:
        """Make the destination equal to the source; what is equal already is not written.

        Parameters
        ----------
        source, destination : str
            Paths or fsspec URLs, of one file each or of one folder each.
        data : dict
            Optional ``sync_id`` (by which `SyncManager` knows the copy), ``size_bytes`` (to expect) and ``digest``
            (``blake3:...``, that the source must have).

        Raises
        ------
        InvalidValue, AccessRefused
            This could never be copied.
        Conflict
            The source changed while it was read, has not the digest, or the id stands for another copy.
        StorageError
            It failed; the destination is what it was, and the next call goes on where this one stopped.
        """
        if not isinstance(data, dict) or not data.keys() <= _DATA:
            raise InvalidValue("data", data, f"a dict with keys out of {', '.join(sorted(_DATA))}")
        sync_id = check_id("sync_id", data.get("sync_id", _name_of(source, destination)))
        wanted = data.get("digest")
        if wanted is not None and wanted != (found := self._digest(check_id("source", source))):
            raise Conflict(f"{source} has the digest {found}; expected {wanted}", source=source, digest=found)
        with self._lock:
            size = check_int("size_bytes", data.get("size_bytes", 0), minimum=0)
            self.manager.register_sync_task(sync_id, source, destination, size)
            ended = self.manager.execute_sync(sync_id)
        if ended["state"] == "conflict":
            raise Conflict(f"{source} changed while it was copied; copy it again", sync_id=sync_id)
        if ended["state"] == "failed":
            raise StorageError(f"{source} could not be copied to {destination} ({ended['error']})", sync_id=sync_id)
        if wanted is not None and ended["digest"] != wanted:
            raise Conflict(f"{source} changed before it was copied; it has {ended['digest']}", sync_id=sync_id)

    def verify_sync(self, source: str, destination: str) -> bool:
        """Say whether both places hold the same bytes now: both are read, in bounded memory.

        Of folders it is asked whether both hold the same files.

        Raises
        ------
        SourceUnavailable
            The source is not there; a destination that is not there is False.
        """
        wanted = self._digest(check_id("source", source))
        return self._copier.digest(check_id("destination", destination)) == wanted

    def _digest(self, url: str) -> str:
        found = self._copier.digest(url)
        if found is None:
            raise SourceUnavailable(f"{url} is not there", url=url)
        return found


def _name_of(source: object, destination: object) -> str:
    pair = f"{source}\0{destination}".encode("utf-8", "surrogatepass")
    return f"sync {hashlib.blake2b(pair, digest_size=16).hexdigest()}"
