"""Data read through the data coordinator, and stored where it will find it again."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Dict

from balance.adapters.data.formats import ROW_FORMATS, check_format, decode, encode, format_of
from balance.config import Settings
from balance.core.coordinator import DataCoordinator
from balance.core.coordinator.ports import Copier
from balance.defaults import default
from balance.errors import AccessRefused, Conflict, InvalidValue, UnknownId
from balance.interfaces.data import DataInterface
from balance.types import check_id, check_int

MAX_BYTES = 64 * 2**20
_QUERY = frozenset({"data_id", "source", "size_bytes", "format", "max_bytes"})
_STORED = frozenset({"data_id", "rows", "content", "format", "destination"})
_ENDINGS = {"text": ".txt", "bytes": ".bin"}


class StoredData(DataInterface):
    """Fetches any source that the coordinator reads, and stores in any place that fsspec writes.

    Usable from several threads, one at a time.

    Parameters
    ----------
    coordinator : DataCoordinator, optional
        Shares copies between all who fetch; one of this process where left out.
    copier : Copier, optional
        Writes atomically and verifies.
    folder : str, optional
        Where data without a ``destination`` is stored; ``data`` in the state directory where left out.

    Examples
    --------
    >>> data = StoredData(folder="memory://stored-doc")
    >>> data.store_data({"data_id": "years", "rows": [{"year": 1958, "co2": 316.1}]})
    >>> fetched = data.fetch_data({"data_id": "years"})
    >>> fetched["status"], fetched["format"], fetched["rows"]
    ('ok', 'jsonl', [{'year': 1958, 'co2': 316.1}])
    """

    def __init__(
        self, *, coordinator: DataCoordinator | None = None, copier: Copier | None = None, folder: str | None = None
    ) -> None:
        self._coordinator = coordinator or DataCoordinator()
        self._copier: Copier = copier or default("copier")
        self._folder = folder.rstrip("/") if folder else str(Path(Settings.from_env().state_dir) / "data")
        self._lock = threading.Lock()

    def fetch_data(self, query_params: Dict[str, Any]) -> Dict[str, Any]:
        """Read data by its id, or from a source.

        Parameters
        ----------
        query_params : dict
            ``data_id`` of what was stored or registered; or ``source``, any that the coordinator reads (both: the
            source is registered by that id).  Optional: ``size_bytes`` to expect, ``format`` (``jsonl``, ``csv``,
            ``parquet``, ``json``, ``text``, ``bytes``; else the source's ending says it), ``max_bytes`` (64 MiB).

        Returns
        -------
        dict
            ``status`` ``ok``: ``data_id``, ``source``, ``format``, ``size_bytes``, ``digest``, ``from_cache`` (bool),
            ``rows`` (list of dict, for a format of rows; else None), ``content`` (JSON, text, or Base64; else None).
            ``status`` ``denied``: ``data_id``, ``reason``, ``lacking_bytes``, ``size_bytes``: there is no room.

        Raises
        ------
        InvalidValue, UnknownId, Conflict
            The parameters make no sense, there is no such data, or the id stands for another source.
        SourceUnavailable, AccessRefused
            It could not be read, is not in that format, or is larger than ``max_bytes``.
        """
        query = _known("query_params", query_params, _QUERY)
        kind = None if query.get("format") is None else check_format("format", query["format"])
        max_bytes = check_int("max_bytes", query.get("max_bytes", MAX_BYTES), minimum=1)
        source, named = query.get("source"), query.get("data_id")
        if source is not None:
            check_id("source", source)
        data_id = check_id("data_id", source if named is None else named)
        with self._lock:
            passing = source is not None and named is None and not self._knows(data_id)
            if source is not None:
                expected = check_int("size_bytes", query.get("size_bytes", self._declared(data_id)), minimum=0)
                self._coordinator.register_data_source(data_id, expected, source)
            try:
                return self._read(data_id, kind, max_bytes)
            finally:
                if passing:  # nobody gave it a name, so nobody would ever take it away
                    self._coordinator.forget(data_id)

    def store_data(self, data: Dict[str, Any]) -> None:
        """Do as `store` does."""
        self.store(data)

    def store(self, data: dict[str, Any]) -> dict[str, Any]:
        """Write data, verify what was written, and register it by its id.

        Parameters
        ----------
        data : dict
            ``data_id``, and ``rows`` (list of dict) or ``content`` (text, JSON, or Base64); optional ``format`` (else
            what the destination's ending says, or ``jsonl`` for rows, ``text`` for a text, ``json``), ``destination``
            (a URL or path).

        Returns
        -------
        dict
            ``data_id``, ``destination``, ``format``, ``size_bytes``, ``digest``, ``changed`` (bool: False where the
            destination held just that already).

        Raises
        ------
        InvalidValue
            The data makes no sense, or the format can't hold it.
        Conflict
            The id stands for another place, or the data is in use.
        StorageError, AccessRefused
            It could not be written there; the destination is what it was.
        """
        given = _known("data", data, _STORED)
        data_id = check_id("data_id", given.get("data_id"))
        if ("rows" in given) == ("content" in given):
            raise InvalidValue("data", data, "either rows or content")
        kind = self._kind(given)
        encoded = encode(kind, rows=given.get("rows"), content=given.get("content"))
        destination = check_id("destination", given.get("destination") or self._place(data_id, kind))
        with self._lock:
            is_known = self._replaceable(data_id, destination)
            report = self._copier.write(encoded, destination)
            if is_known:  # its copy is of what was there before
                self._coordinator.forget(data_id)
            self._coordinator.register_data_source(data_id, len(encoded), destination)
        return {
            "data_id": data_id,
            "destination": destination,
            "format": kind,
            "size_bytes": report.size_bytes,
            "digest": report.digest,
            "changed": report.status == "copied",
        }

    def _read(self, data_id: str, kind: str | None, max_bytes: int) -> dict[str, Any]:
        placed = self._coordinator.allocate_data(data_id)
        if placed["status"] == "denied":
            return placed
        try:
            if placed["size_bytes"] > max_bytes:
                raise AccessRefused(
                    f"data {data_id!r} has {placed['size_bytes']} bytes, more than the {max_bytes} that may be read",
                    max_bytes=max_bytes,
                )
            value = self._coordinator.read(placed["location"])
        finally:
            self._coordinator.release_data(data_id)
        source = self._coordinator.status(data_id)["source"]
        kind = kind or (format_of(source) if isinstance(value, bytes) else "json")
        value = decode(kind, value) if isinstance(value, bytes) else value
        is_rows = isinstance(value, list) and all(isinstance(row, dict) for row in value)
        return {
            "status": "ok",
            "data_id": data_id,
            "source": source,
            "format": kind,
            "size_bytes": placed["size_bytes"],
            "digest": placed["digest"],
            "from_cache": placed["from_cache"],
            "rows": value if is_rows else None,
            "content": None if is_rows else value,
        }

    def _kind(self, given: Mapping[str, Any]) -> str:
        is_text = isinstance(given.get("content"), str)
        otherwise = "jsonl" if "rows" in given else "text" if is_text else "json"
        kind = given.get("format") or format_of(str(given.get("destination") or ""), otherwise)
        if (check_format("format", kind) in ROW_FORMATS) != ("rows" in given):
            what = "rows" if "rows" in given else "content"
            raise InvalidValue("format", kind, f"a format that holds {what}")
        return str(kind)

    def _replaceable(self, data_id: str, destination: str) -> bool:
        """Say whether the id is known already; `Conflict` where it must not be written over."""
        if not self._knows(data_id):
            return False
        status = self._coordinator.status(data_id)
        if status["source"] != destination:
            raise Conflict(f"data {data_id!r} lies at {status['source']!r} already; use another id", data_id=data_id)
        if status["references"] or status["state"] == "fetching":
            raise Conflict(f"data {data_id!r} is in use; release it first", data_id=data_id)
        return True

    def _knows(self, data_id: str) -> bool:
        try:
            self._coordinator.status(data_id)
        except UnknownId:
            return False
        return True

    def _declared(self, data_id: str) -> int:
        return int(self._coordinator.status(data_id)["declared_bytes"]) if self._knows(data_id) else 0

    def _place(self, data_id: str, kind: str) -> str:
        # A readable part for people, and a digest that tells ids apart which look the same.
        slug = re.sub(r"[^a-z0-9]+", "-", data_id.lower()).strip("-")[:48] or "data"
        digest = hashlib.blake2b(data_id.encode(), digest_size=16).hexdigest()
        return f"{self._folder}/{slug}-{digest}{_ENDINGS.get(kind, '.' + kind)}"


def _known(name: str, given: object, keys: frozenset[str]) -> dict[str, Any]:
    if not isinstance(given, dict) or not given.keys() <= keys:
        raise InvalidValue(name, given, f"a dict with keys out of {', '.join(sorted(keys))}")
    return given
