"""The words that messages are made of: closed sets, spelled the same in JSON and in Python.

`Priority` is the one of `balance.types`; it is here so that whoever writes a message needs one import.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from balance.errors import InvalidValue
from balance.types import Priority, check_priority

__all__ = ["DataSource", "DataType", "OperationType", "Priority", "RequestSource", "parse_enum", "parse_priority"]

_Word = TypeVar("_Word", bound=StrEnum)


class DataType(StrEnum):
    """What kind of data is asked for."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STRUCTURED = "structured"
    MIXED = "mixed"


class DataSource(StrEnum):
    """Where the data is to come from."""

    WEB = "web"
    WIKI = "wiki"
    TWITTER = "twitter"
    TELEGRAM = "telegram"
    YOUTUBE = "youtube"
    APARAT = "aparat"
    NEWS = "news"
    RSS = "rss"
    API = "api"
    DATABASE = "database"
    FILE = "file"
    CUSTOM = "custom"


class OperationType(StrEnum):
    """What is to be done with the data."""

    FETCH_DATA = "fetch_data"
    PROCESS_DATA = "process_data"
    UPDATE_DATA = "update_data"
    DELETE_DATA = "delete_data"
    MONITOR_DATA = "monitor_data"
    VERIFY_DATA = "verify_data"
    SEARCH_DATA = "search_data"


class RequestSource(StrEnum):
    """Who asked."""

    USER = "user"
    MODEL = "model"
    SYSTEM = "system"


def parse_enum(kind: type[_Word], name: str, value: object) -> _Word:
    """Return `value` as a member of `kind`; case and surrounding blanks do not matter.

    Raises
    ------
    InvalidValue
        `value` is none of the words; the message lists them.

    Examples
    --------
    >>> parse_enum(DataSource, "source_type", " Wiki ")
    <DataSource.WIKI: 'wiki'>
    """
    try:
        return kind(str(value).strip().lower())
    except ValueError:
        raise InvalidValue(name, value, "one of " + ", ".join(kind)) from None


def parse_priority(value: object) -> int:
    """Return a priority given as a number or as a name.

    Raises
    ------
    InvalidValue
        It is neither.

    Examples
    --------
    >>> parse_priority("high"), parse_priority(7)
    (2, 7)
    """
    if isinstance(value, str) and value.strip().upper() in Priority.__members__:
        return int(Priority[value.strip().upper()])
    return check_priority(value)
