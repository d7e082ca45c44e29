"""Read a point in time out of whatever a record carries: ISO 8601 or POSIX seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from balance.errors import InvalidValue
from balance.types import check_number

EXPECTED = "POSIX seconds (a finite number) or an ISO 8601 string"


def parse_timestamp(value: object, name: str = "timestamp") -> float:
    """Return `value` as POSIX seconds.

    Parameters
    ----------
    value : object
        POSIX seconds, an ISO 8601 string (one without an offset is taken as UTC), or a `datetime`.
    name : str, default "timestamp"
        What to call it in the error.

    Raises
    ------
    InvalidValue
        Anything else, including NaN and infinity.

    Examples
    --------
    >>> parse_timestamp("1970-01-01T00:01:00Z"), parse_timestamp(60)
    (60.0, 60.0)
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidValue(name, value, EXPECTED) from None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return check_number(name, value, what="number of POSIX seconds")
