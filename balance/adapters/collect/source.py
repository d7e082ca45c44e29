"""The port behind which every kind of source is."""

from __future__ import annotations

from typing import Protocol

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.wanted import Wanted


class Source(Protocol):
    """One kind of source.  `collect` may be called from several threads."""

    def collect(self, wanted: Wanted) -> Collected:
        """Return what is wanted.

        Raises
        ------
        SourceUnavailable
            It did not deliver; trying again may help.
        AccessRefused, InvalidValue, UnknownId, ConfigurationError
            It never will as things are: not allowed, not understood, or not set up.
        """
        ...
