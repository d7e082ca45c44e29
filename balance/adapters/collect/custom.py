"""Collectors of your own: installed packages name them as entry points of the group ``balance.collectors``.

    [project.entry-points."balance.collectors"]
    weather = "my_package:collect"

``collect(query, parameters)`` returns a list of JSON values.  It runs in the data coordinator, several at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collected import Collected
from balance.errors import BalanceError, ConfigurationError, SourceUnavailable, UnknownId

if TYPE_CHECKING:
    from balance.adapters.collect.wanted import Wanted
    from balance.clock import Clock

GROUP = "balance.collectors"

Collect = Callable[[str, Mapping[str, Any]], list[Any]]


class CustomSource:
    """Serves CUSTOM.

    Parameters
    ----------
    clock : Clock
    entries : iterable of EntryPoint, optional
        The collectors there are; those of the installed packages when left out.

    Notes
    -----
    Parameters of a request: ``collector``, the name of one.  All parameters go to it.

    Examples
    --------
    >>> from balance.adapters.collect.wanted import Wanted
    >>> from balance.clock import FakeClock
    >>> entry = EntryPoint("words", "operator:methodcaller", GROUP)
    >>> CustomSource(clock=FakeClock(), entries=[entry]).collect(Wanted("a b", {"collector": "wrds"}))
    Traceback (most recent call last):
    ...
    balance.errors.UnknownId: no collector 'wrds' is known; did you mean 'words'?
    """

    def __init__(self, *, clock: Clock, entries: Iterable[EntryPoint] | None = None) -> None:
        self._clock = clock
        self._given = entries
        self._loaded: dict[str, Collect] = {}

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        name = wanted.text("collector")
        collect = self._function(name)
        try:
            items = collect(wanted.query, dict(wanted.parameters))
        except BalanceError:
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"
            raise SourceUnavailable(f"the collector {name!r} did not deliver ({said})", collector=name) from error
        found = Collected(items if isinstance(items, list) else [items], "application/json", self._clock.wall())
        return Collected(found.items, found.media_type, found.fetched_at, found.size_bytes)

    def _function(self, name: str) -> Collect:
        if name in self._loaded:
            return self._loaded[name]
        entries = self._given if self._given is not None else entry_points(group=GROUP)
        by_name = {entry.name: entry for entry in entries}
        if name not in by_name:
            raise UnknownId("collector", name, by_name)
        try:
            function: Collect = by_name[name].load()
        except Exception as error:  # whatever the import of a stranger's package raises
            raise ConfigurationError(f"the collector {name!r} can't be loaded ({error})", collector=name) from error
        if not callable(function):
            raise ConfigurationError(f"the collector {name!r} ({by_name[name].value}) can't be called", collector=name)
        self._loaded[name] = function
        return function
