"""How long a request will probably take, learned from how long others took.

Before anything was measured there is only a guess, and it is documented as one (`PRIOR_S`).  From `ENOUGH` measured
requests of a kind on, the estimate is the 0.8 quantile of the last `MEMORY` of them: four in five are answered by then.
The kind is the source and, for the web, whether a page is named or has to be searched for first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from balance.messaging.enums import DataSource
from balance.types import check_number

ENOUGH = 8
MEMORY = 256
QUANTILE = 0.8

#: Guesses in seconds, used until there are measurements: one page of an API, some pages, an archive, a media file.
PRIOR_S = {
    DataSource.WIKI: 2.0,
    DataSource.WEB: 5.0,
    DataSource.TWITTER: 10.0,
    DataSource.TELEGRAM: 10.0,
    DataSource.YOUTUBE: 20.0,
    DataSource.APARAT: 20.0,
}
PRIOR_OTHER_S = 5.0


class LatencyEstimator:
    """Estimates by source.

    Examples
    --------
    >>> estimator = LatencyEstimator()
    >>> estimator.estimate_s(DataSource.WIKI, {})
    2.0
    >>> for seconds in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
    ...     estimator.observe(DataSource.WIKI, {}, seconds)
    >>> estimator.estimate_s(DataSource.WIKI, {})
    0.82
    """

    def __init__(self) -> None:
        self._measured: dict[tuple[DataSource, bool], deque[float]] = {}

    def observe(self, source: DataSource, parameters: Mapping[str, Any], seconds: float) -> None:
        """Learn that such a request took `seconds` from being made to being answered."""
        taken_s = check_number("seconds", seconds, minimum=0.0, what="number of seconds")
        self._measured.setdefault(_kind(source, parameters), deque(maxlen=MEMORY)).append(taken_s)

    def estimate_s(self, source: DataSource, parameters: Mapping[str, Any]) -> float:
        """Return how long such a request will probably take, in seconds."""
        measured = self._measured.get(_kind(source, parameters), ())
        if len(measured) < ENOUGH:
            return PRIOR_S.get(source, PRIOR_OTHER_S)
        ordered = sorted(measured)
        place = QUANTILE * (len(ordered) - 1)  # between two of them, in proportion
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return round(ordered[below] + (ordered[above] - ordered[below]) * (place - below), 6)


def _kind(source: DataSource, parameters: Mapping[str, Any]) -> tuple[DataSource, bool]:
    return source, source is DataSource.WEB and "url" in parameters
