"""Values of databases and of Arrow as JSON has them."""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
from typing import Any


def as_json(value: Any) -> Any:
    """Return a value of a database as JSON has it.

    Examples
    --------
    >>> as_json(datetime.date(2026, 1, 2)), as_json(decimal.Decimal("0.5")), as_json(b"a")
    ('2026-01-02', 0.5, 'YQ==')
    """
    if isinstance(value, datetime.date | datetime.time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode("ascii")
    return value
