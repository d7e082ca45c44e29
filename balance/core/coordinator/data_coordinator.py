"""Which data is within reach of the models: sources, placed copies, references, and what makes room.

One copy of each source is placed and shared.  Each allocation counts one reference, each release takes
one back; a copy without references stays as long as the budget allows and goes least recently used
first.  A copy that is held is never evicted.

The coordinator decides and remembers; readers, placer and sync do the work.  An actor that must not
block runs the steps of `allocate_data` itself::

    plan = coordinator.plan_allocation(data_id)     # Cached: done.  Waiting: another call fetches it.
    payload = readers.read(plan.source, plan.max_bytes)                        # in a thread
    denied = coordinator.fetched(data_id, payload.size_bytes, payload.digest)  # makes room
    coordinator.placed(data_id, placer.put(data_id, payload))                  # unless it was denied

and `fetch_failed` where one of them raises.

Invariants: bytes placed or being placed never exceed the budget; references are never negative; what is
acknowledged is in the journal; after a restart a copy that the placer lost is fetched again, and its
references still count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict

from balance.config import Settings
from balance.core.coordinator.datum import Allocated, Datum, Denied, Fetch, Waiting
from balance.core.coordinator.ports import Journal, Placer, Readers
from balance.core.coordinator.sync_manager import SyncManager
from balance.defaults import default
from balance.errors import Conflict, InvalidValue, NotReady, UnknownId
from balance.types import check_id, check_int, check_number

if TYPE_CHECKING:
    from balance.clock import Clock

_COLLECTION = "data_sources"


class DataCoordinator:
    """Brings data within reach of the models, once for all of them.

    Parameters
    ----------
    readers : Readers, optional
        Reads sources; where left out, one that trusts this process with its own files.
    placer : Placer, optional
        Holds the copies; this process's memory where left out.
    clock : Clock, optional
    journal : Journal, optional
        Where sources and references are remembered; nowhere where left out.
    budget_bytes : int, optional
        How much may be placed; `Settings.data_budget_bytes` where left out.
    sync : SyncManager, optional
        Makes the copies of `synchronize_data`.

    Notes
    -----
    For one thread at a time, as an actor gives it.  Every call is O(1) but for evictions, one each.

    Examples
    --------
    >>> data = DataCoordinator()
    >>> data.register_reader("squares", lambda count: [n * n for n in range(int(count))])
    >>> data.register_data_source("squares", 100, "reader:squares?count=4")
    >>> placed = data.allocate_data("squares")
    >>> placed["status"], placed["size_bytes"], data.read(placed["location"])
    ('allocated', 9, [0, 1, 4, 9])
    >>> data.release_data("squares")
    """

    def __init__(
        self,
        *,
        readers: Readers | None = None,
        placer: Placer | None = None,
        clock: Clock | None = None,
        journal: Journal | None = None,
        budget_bytes: int | None = None,
        sync: SyncManager | None = None,
    ) -> None:
        budget = Settings().data_budget_bytes if budget_bytes is None else budget_bytes
        self.budget_bytes = check_int("budget_bytes", budget, minimum=0)
        self._clock: Clock = clock or default("clock")
        self._readers: Readers = readers or default("readers", trusted=True)
        self._placer: Placer = placer or default("shelf")
        self._sync = sync or SyncManager(clock=self._clock, journal=journal)
        self._journal = journal
        self._data: dict[str, Datum] = {}
        self._idle: dict[str, None] = {}  # placed and not held; the least recently used comes first
        self._fetching: dict[str, int] = {}  # bytes set aside for what is being fetched
        self._placed_bytes = 0
        self._restore()

    def _restore(self) -> None:
        for _key, body in self._journal.scan(_COLLECTION) if self._journal else ():
            datum = Datum(**body)
            if datum.location is not None and not self._placer.holds(datum.location):
                datum = replace(datum, location=None)
            self._note(datum)

    # -- the contract ------------------------------------------------------------------------------

    def register_data_source(self, data_id: str, size: int, source: str) -> None:
        """Name a source; the same again changes nothing.

        Parameters
        ----------
        data_id : str
        size : int
            How many bytes to expect: room is made for that many before it is read.
        source : str
            Any fsspec URL, an http(s) URL, a SQLAlchemy URL with a query
            (``sqlite:///x.db?query=SELECT...``), or ``reader:NAME?arg=value``.

        Raises
        ------
        Conflict
            The id stands for another source already.
        InvalidValue, UnknownId, AccessRefused
            The source could never be read.
        """
        datum = Datum(check_id("data_id", data_id), check_id("source", source), check_int("size", size, minimum=0))
        known = self._data.get(data_id)
        if known is None:
            self._readers.check(source)
            self._store(datum)
        elif (known.source, known.declared_bytes) != (datum.source, datum.declared_bytes):
            raise Conflict(
                f"data {data_id!r} is {known.source!r} with {known.declared_bytes} bytes already; use another id",
                data_id=data_id,
                source=known.source,
                size_bytes=known.declared_bytes,
            )

    def allocate_data(self, data_id: str) -> Dict[str, Any]:
        """Bring the data within reach and hold it there until `release_data`.

        Returns
        -------
        dict
            ``status`` ``allocated``: ``data_id``, ``location`` (str), ``size_bytes``,
            ``digest``, ``references`` (int), ``from_cache`` (bool), ``age_s``.
            ``status`` ``denied``: ``data_id``, ``reason`` (str), ``lacking_bytes``, ``size_bytes``:
            what others hold leaves no room.

        Raises
        ------
        UnknownId
            No such source.
        SourceUnavailable, AccessRefused
            It could not be read; nothing is held then.
        """
        return self.allocate(data_id)

    def allocate(self, data_id: str, *, max_age_s: float | None = None) -> dict[str, Any]:
        """Do as `allocate_data` does, but read anew what is older than `max_age_s` and held by nobody."""
        plan = self.plan_allocation(data_id, max_age_s=max_age_s)
        if isinstance(plan, Allocated | Denied):
            return plan.to_dict()
        if isinstance(plan, Waiting):
            raise NotReady(f"data {data_id!r} is being fetched by another call; wait for that one", data_id=data_id)
        try:
            payload = self._readers.read(plan.source, plan.max_bytes)
            denied = self.fetched(data_id, payload.size_bytes, payload.digest)
            if denied:
                return denied.to_dict()
            return self.placed(data_id, self._placer.put(data_id, payload)).to_dict()
        except BaseException:
            self.fetch_failed(data_id)
            raise

    def release_data(self, data_id: str) -> None:
        """Give one reference back; the copy stays as long as there is room for it.

        Raises
        ------
        UnknownId
            No such source.
        InvalidValue
            Nobody holds it: it was released more often than allocated.
        """
        datum = self._datum(data_id)
        if datum.references == 0:
            raise InvalidValue("data_id", data_id, "data that is held; each allocation of it was released already")
        self._store(replace(datum, references=datum.references - 1))

    def synchronize_data(self, data_id: str, destination: str) -> Dict[str, Any]:
        """Copy the data to another place and verify the copy there.

        A source that is a file is copied block by block; any other is read first, and what was read is written.

        Returns
        -------
        dict
            ``status`` (``completed``, ``unchanged``, ``conflict``, ``failed`` or ``denied``), ``data_id``,
            and what `SyncManager.get_sync_status` returns (not when ``denied``: see `allocate_data`).
        """
        datum = self._datum(data_id)
        sync_id = f"{data_id} -> {check_id('destination', destination)}"
        if self._readers.is_file(datum.source):
            self._sync.register_sync_task(sync_id, datum.source, destination, datum.declared_bytes)
            outcome = self._sync.execute_sync(sync_id)
        else:
            placed = self.allocate_data(data_id)
            if placed["status"] == "denied":
                return placed
            try:
                content = self._placer.get(placed["location"]).data
                outcome = self._sync.write_content(sync_id, datum.source, content, destination)
            finally:
                self.release_data(data_id)
        return {"status": outcome["state"], "data_id": data_id, **outcome}

    # -- the steps of an allocation ----------------------------------------------------------------

    def plan_allocation(self, data_id: str, *, max_age_s: float | None = None) -> Allocated | Fetch | Waiting | Denied:
        """Decide what an allocation needs: nothing (`Allocated`), a fetch, another call's fetch, or more room.

        After `Fetch` the caller owes a `placed` or a `fetch_failed`.
        """
        datum = self._datum(data_id)
        if max_age_s is not None:
            check_number("max_age_s", max_age_s, minimum=0)
        if data_id in self._fetching:
            return Waiting(data_id)
        if datum.location is not None:
            too_old = max_age_s is not None and self._age_s(datum) > max_age_s
            if not (too_old and datum.references == 0):
                held = self._store(replace(datum, references=datum.references + 1))
                return self._allocated(held, from_cache=True)
            self._evict(datum)
        denied = self._make_room(data_id, datum.declared_bytes)
        if denied:
            return denied
        self._fetching[data_id] = datum.declared_bytes
        return Fetch(data_id, datum.source, self.budget_bytes)

    def fetched(self, data_id: str, size_bytes: int, digest: str) -> Denied | None:
        """Take note of what was read, and make room for it; `Denied` ends the allocation."""
        datum = self._owed(data_id)
        check_id("digest", digest)
        denied = self._make_room(data_id, check_int("size_bytes", size_bytes, minimum=0))
        if denied:
            del self._fetching[data_id]
            return denied
        self._fetching[data_id] = size_bytes
        self._data[data_id] = replace(datum, size_bytes=size_bytes, digest=digest)
        return None

    def placed(self, data_id: str, location: str) -> Allocated:
        """Take note of where the copy lies; the caller holds it now.  If this raises, the copy was dropped."""
        datum = self._owed(data_id)
        held = replace(
            datum,
            location=check_id("location", location),
            references=datum.references + 1,
            fetched_at=self._clock.wall(),
        )
        try:
            self._write_journal(held)
        except BaseException:  # not acknowledged, so nobody would ever release it
            self._placer.drop(location)
            raise
        del self._fetching[data_id]
        self._note(held)
        return self._allocated(held, from_cache=False)

    def fetch_failed(self, data_id: str) -> None:
        """Take note that a fetch ended without a copy; nothing is held then."""
        self._fetching.pop(self._datum(data_id).data_id, None)

    # -- beside the contract -----------------------------------------------------------------------

    def register_reader(self, name: str, function: Callable[..., Any]) -> None:
        """Make ``reader:NAME?arg=value`` call `function`, which returns bytes or JSON values."""
        self._readers.register(name, function)

    def read(self, location: str) -> Any:
        """Return the bytes or the JSON value that lies at a location; `UnknownId` if nothing does."""
        return self._placer.get(location).value()

    def status(self, data_id: str) -> dict[str, Any]:
        """Say how things are with one source.

        Returns
        -------
        dict
            ``data_id``, ``source``, ``state`` (``registered``, ``fetching``, ``cached``, ``held``, ``lost``: held,
            but its copy went with a restart), ``declared_bytes``, ``size_bytes``, ``digest``, ``location``,
            ``references``, ``fetched_at`` (POSIX seconds or None).
        """
        datum = self._datum(data_id)
        if data_id in self._fetching:
            state = "fetching"
        elif datum.location is None:
            state = "lost" if datum.references else "registered"
        else:
            state = "held" if datum.references else "cached"
        return datum.to_dict() | {"state": state}

    def list_data(self) -> list[dict[str, Any]]:
        """Return the status of every source, sorted by id."""
        return [self.status(data_id) for data_id in sorted(self._data)]

    def usage(self) -> dict[str, int]:
        """Return ``budget_bytes``, ``placed_bytes``, ``fetching_bytes``, ``idle_bytes`` (evictable), ``sources``."""
        return {
            "budget_bytes": self.budget_bytes,
            "placed_bytes": self._placed_bytes,
            "fetching_bytes": sum(self._fetching.values()),
            "idle_bytes": sum(self._data[data_id].size_bytes for data_id in self._idle),
            "sources": len(self._data),
        }

    def forget(self, data_id: str) -> None:
        """Remove a source and its copy; `Conflict` if it is held or being fetched."""
        datum = self._datum(data_id)
        if datum.references or data_id in self._fetching:
            raise Conflict(f"data {data_id!r} is in use; release it first", data_id=data_id)
        if datum.location is not None:
            self._evict(datum)
        if self._journal:
            self._journal.delete(_COLLECTION, data_id)
        del self._data[data_id]

    # -- inside ------------------------------------------------------------------------------------

    def _make_room(self, data_id: str, size_bytes: int) -> Denied | None:
        """Evict the least recently used until `size_bytes` fit; if they can't, evict nothing and say why."""
        others = sum(held for other, held in self._fetching.items() if other != data_id)
        in_use = self._placed_bytes + others
        victims: list[Datum] = []
        for candidate in self._idle:
            if in_use + size_bytes <= self.budget_bytes:
                break
            victims.append(self._data[candidate])
            in_use -= victims[-1].size_bytes
        lacking = in_use + size_bytes - self.budget_bytes
        if lacking > 0:
            reason = f"{size_bytes} bytes do not fit: {in_use} of the budget of {self.budget_bytes} are held"
            return Denied(data_id, size_bytes, lacking, reason)
        for victim in victims:
            self._evict(victim)
        return None

    def _evict(self, datum: Datum) -> None:
        location = str(datum.location)
        self._store(replace(datum, location=None))
        self._placer.drop(location)

    def _allocated(self, datum: Datum, *, from_cache: bool) -> Allocated:
        return Allocated(
            data_id=datum.data_id,
            location=str(datum.location),
            size_bytes=datum.size_bytes,
            digest=str(datum.digest),
            references=datum.references,
            from_cache=from_cache,
            age_s=self._age_s(datum),
        )

    def _age_s(self, datum: Datum) -> float:
        return max(0.0, self._clock.wall() - (datum.fetched_at or 0.0))

    def _datum(self, data_id: str) -> Datum:
        if check_id("data_id", data_id) not in self._data:
            raise UnknownId("data", data_id, self._data)
        return self._data[data_id]

    def _owed(self, data_id: str) -> Datum:
        datum = self._datum(data_id)
        if data_id not in self._fetching:
            raise Conflict(f"data {data_id!r} is not being fetched; plan its allocation first", data_id=data_id)
        return datum

    def _store(self, datum: Datum) -> Datum:
        self._write_journal(datum)  # first the journal: if it fails, nothing has changed
        self._note(datum)
        return datum

    def _write_journal(self, datum: Datum) -> None:
        if self._journal:
            self._journal.put(_COLLECTION, datum.data_id, datum.to_dict())

    def _note(self, datum: Datum) -> None:
        """Make `datum` what is known, and keep the sum of bytes and the order of use true to it."""
        before = self._data.get(datum.data_id)
        if before is not None and before.location is not None:
            self._placed_bytes -= before.size_bytes
        if datum.location is not None:
            self._placed_bytes += datum.size_bytes
        self._idle.pop(datum.data_id, None)
        if datum.location is not None and datum.references == 0:
            self._idle[datum.data_id] = None
        self._data[datum.data_id] = datum
