"""The few values that every part shares: resources, priorities, and the checks on them.

Inside Balance, CPU and GPU are integer thousandths ("milli") and memory is integer bytes, so that sums
are exact: a demand is rounded up, a capacity is rounded down.  At the boundary the contract's units
hold: cores, bytes, devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import IntEnum
from typing import Any

from balance.errors import InvalidValue

MILLI = 1000


class Priority(IntEnum):
    """How urgent a task or request is: the smaller number runs first."""

    CRITICAL = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4
    BACKGROUND = 5


def check_id(name: str, value: object) -> str:
    """Return `value` if it is a non-empty string of at most 512 characters, else raise `InvalidValue`.

    The zero character and lone surrogates, which not every database can keep, are no part of an id.

    Examples
    --------
    >>> check_id("model_id", "whisper")
    'whisper'
    >>> check_id("model_id", "caf\\udce9")
    Traceback (most recent call last):
    balance.errors.InvalidValue: model_id is 'caf\\udce9'; expected a non-empty string of at most 512 characters ...
    """
    if not isinstance(value, str) or not value.strip() or len(value) > 512:
        raise InvalidValue(name, value, "a non-empty string of at most 512 characters")
    if not _can_be_kept(value):
        raise InvalidValue(name, value, "a non-empty string of at most 512 characters that are Unicode, without NUL")
    return value


def _can_be_kept(text: str) -> bool:
    if "\0" in text:
        return False
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def check_number(
    name: str, value: object, *, minimum: float | None = None, maximum: float | None = None, what: str = "number"
) -> float:
    """Return `value` as a finite float within the bounds, else raise `InvalidValue`.

    Examples
    --------
    >>> check_number("delay", 2, minimum=0)
    2.0
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number) and (minimum is None or number >= minimum) and (maximum is None or number <= maximum):
        return number
    bounds = [f"at least {minimum:g}"] if minimum is not None else []
    if maximum is not None:
        bounds.append(f"at most {maximum:g}")
    raise InvalidValue(name, value, " ".join(["a finite", what, " and ".join(bounds)]).strip())


def check_int(name: str, value: object, *, minimum: int | None = None) -> int:
    """Return `value` as an int if it is one (or a float without a fraction), else raise `InvalidValue`.

    Examples
    --------
    >>> check_int("size", 4096.0, minimum=0)
    4096
    """
    number = check_number(name, value, minimum=minimum, what="whole number")
    if number != int(number):
        raise InvalidValue(name, value, "a whole number")
    return value if isinstance(value, int) else int(number)


def check_priority(value: object, name: str = "priority") -> int:
    """Return a priority (1 CRITICAL ... 5 BACKGROUND; larger ints are allowed), else raise `InvalidValue`.

    Examples
    --------
    >>> check_priority(Priority.HIGH)
    2
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValue(name, value, "a positive int: 1 CRITICAL, 2 HIGH, 3 MEDIUM, 4 LOW, 5 BACKGROUND")
    return int(value)


def _scaled(name: str, value: object, factor: int, rounding: str, what: str) -> int:
    number = check_number(name, value, minimum=0, what=what)
    # Decimal(str()) keeps 0.1 at 0.1: round() of the binary float could add a milli that was not asked for.
    return int((Decimal(str(number)) * factor).to_integral_value(rounding=rounding))


@dataclass(frozen=True, slots=True, order=False)
class Resources:
    """An exact amount of CPU, memory, GPU and custom resources.

    Attributes
    ----------
    cpu_milli : int
        Thousandths of a core.
    memory_bytes : int
        Bytes.
    gpu_milli : int
        Thousandths of a device; above 1000 only whole devices.
    custom : tuple of (str, int)
        Other resources of Ray in thousandths, sorted by name.

    Examples
    --------
    >>> node = Resources.capacity(cpu=4, memory=8 * 2**30, gpu=1)
    >>> task = Resources.demand(cpu=0.5, memory=2**30)
    >>> task.fits_in(node), (node - task).cpu_milli
    (True, 3500)
    """

    cpu_milli: int = 0
    memory_bytes: int = 0
    gpu_milli: int = 0
    custom: tuple[tuple[str, int], ...] = ()

    @classmethod
    def demand(
        cls, cpu: float = 0.0, memory: float = 0.0, gpu: float = 0.0, custom: Mapping[str, float] | None = None
    ) -> Resources:
        """Build what a task asks for, rounded up; `InvalidValue` for NaN, negative, or 1.5 GPUs."""
        made = cls._build(cpu, memory, gpu, custom, ROUND_CEILING)
        if made.gpu_milli > MILLI and made.gpu_milli % MILLI:
            raise InvalidValue("gpu_demand", gpu, "a fraction of one device up to 1, or a whole number of devices")
        return made

    @classmethod
    def capacity(
        cls, cpu: float = 0.0, memory: float = 0.0, gpu: float = 0.0, custom: Mapping[str, float] | None = None
    ) -> Resources:
        """Build what a node has, rounded down."""
        return cls._build(cpu, memory, gpu, custom, ROUND_FLOOR)

    @classmethod
    def _build(
        cls, cpu: float, memory: float, gpu: float, custom: Mapping[str, float] | None, rounding: str
    ) -> Resources:
        extra = tuple(
            sorted(
                (check_id("resource name", key), amount)
                for key, value in (custom or {}).items()
                if (amount := _scaled(f"resource {key}", value, MILLI, rounding, "amount"))
            )
        )
        return cls(
            _scaled("cpu_demand", cpu, MILLI, rounding, "number of cores"),
            _scaled("memory_demand", memory, 1, rounding, "number of bytes"),
            _scaled("gpu_demand", gpu, MILLI, rounding, "number of devices"),
            extra,
        )

    @property
    def cpu(self) -> float:
        """Cores."""
        return self.cpu_milli / MILLI

    @property
    def gpu(self) -> float:
        """Devices."""
        return self.gpu_milli / MILLI

    def items(self) -> Iterable[tuple[str, int]]:
        """Yield ``(name, exact amount)`` of every resource that is not zero, in a stable order."""
        if self.cpu_milli:
            yield "cpu", self.cpu_milli
        if self.memory_bytes:
            yield "memory", self.memory_bytes
        if self.gpu_milli:
            yield "gpu", self.gpu_milli
        yield from self.custom

    def fits_in(self, room: Resources) -> bool:
        """Say whether `room` holds at least this much of everything."""
        return (
            self.cpu_milli <= room.cpu_milli
            and self.memory_bytes <= room.memory_bytes
            and self.gpu_milli <= room.gpu_milli
            and (not self.custom or all(amount <= dict(room.custom).get(key, 0) for key, amount in self.custom))
        )

    def __add__(self, other: Resources) -> Resources:
        return self._merged(other, 1)

    def __sub__(self, other: Resources) -> Resources:
        """Return the difference; it may be negative where more is held than there is."""
        return self._merged(other, -1)

    def _merged(self, other: Resources, sign: int) -> Resources:
        custom = self.custom
        if other.custom:
            sums = dict(self.custom)
            for key, amount in other.custom:
                sums[key] = sums.get(key, 0) + sign * amount
            custom = tuple(sorted((key, amount) for key, amount in sums.items() if amount))
        return Resources(
            self.cpu_milli + sign * other.cpu_milli,
            self.memory_bytes + sign * other.memory_bytes,
            self.gpu_milli + sign * other.gpu_milli,
            custom,
        )

    def scaled(self, times: int) -> Resources:
        """Return this amount `times` over."""
        return Resources(
            self.cpu_milli * times,
            self.memory_bytes * times,
            self.gpu_milli * times,
            tuple((key, amount * times) for key, amount in self.custom),
        )

    def __bool__(self) -> bool:
        return bool(self.cpu_milli or self.memory_bytes or self.gpu_milli or self.custom)

    def to_dict(self) -> dict[str, Any]:
        """Return ``cpu`` (cores), ``memory`` (bytes), ``gpu`` (devices) and, if any, ``custom`` (amounts)."""
        out: dict[str, Any] = {"cpu": self.cpu, "memory": self.memory_bytes, "gpu": self.gpu}
        if self.custom:
            out["custom"] = {key: amount / MILLI for key, amount in self.custom}
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resources:
        """Read back what `to_dict` returned."""
        return cls.capacity(data.get("cpu", 0), data.get("memory", 0), data.get("gpu", 0), data.get("custom"))


NOTHING = Resources()
