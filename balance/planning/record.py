"""Plain values that go to JSON and come back equal, so that a history of plans can be replayed."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, ClassVar, Dict, Self

from balance.types import MILLI, Resources

_KINDS: Dict[str, type[Record]] = {}


class Record:
    """What every frozen dataclass of `balance.planning` can do: become a dict and be read from one.

    Fields may be numbers, strings, None, `Resources`, other records, tuples of these, and dicts with string
    keys and JSON values.

    Examples
    --------
    >>> from balance.planning import Expectation
    >>> made = Expectation(metric="queued", subject="whisper", relation="at_most", value=3.0, due_at=60.0)
    >>> Expectation.from_dict(made.to_dict()) == made
    True
    """

    __slots__ = ()
    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        # A dataclass with slots is built twice; the second, final class overwrites the first.
        if cls.kind:
            _KINDS[cls.kind] = cls

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields by name as JSON values, and ``kind`` where there are several kinds."""
        out: Dict[str, Any] = {"kind": self.kind} if self.kind else {}
        for field in fields(self):  # type: ignore[arg-type]  # every Record is a dataclass
            out[field.name] = _write(getattr(self, field.name))
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` returned; fields that are left out take their defaults."""
        hints = _hints(cls)  # type: ignore[arg-type]  # mypy takes a class of Self for unhashable
        return cls(**{name: _read(hints[name], value) for name, value in data.items() if name in hints})


@lru_cache(maxsize=64)
def _hints(cls: Any) -> Dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _write(value: Any) -> Any:
    if isinstance(value, Record | Resources):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_write(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _write(inner) for key, inner in value.items()}
    return value


def _read(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _read(next(one for one in inner if one is not type(None)), value)
    if origin is tuple:
        if inner[1:] == (Ellipsis,):
            return tuple(_read(inner[0], one) for one in value)
        return tuple(_read(one_hint, one) for one_hint, one in zip(inner, value, strict=True))
    if isinstance(hint, type) and issubclass(hint, Record):
        return _KINDS.get(value.get("kind"), hint).from_dict(value)
    if hint is Resources:
        return _resources(value)
    return value


def _resources(data: Mapping[str, Any]) -> Resources:
    """Read resources that may be negative: what is free is, after a node was lost."""
    custom = tuple(sorted((name, round(amount * MILLI)) for name, amount in data.get("custom", {}).items()))
    return Resources(round(data["cpu"] * MILLI), int(data["memory"]), round(data["gpu"] * MILLI), custom)
