"""The machine and the versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from balance.clock import SystemClock, iso


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when something was measured.

    Attributes
    ----------
    cpu : str
        The processor's name.
    cores : int
        Logical cores that this process may use.
    memory_gib : float
        Of the whole machine.
    load : float
        The one-minute load average before the first measurement: 0 is a quiet machine.
    python : str
        Version.
    packages : dict
        Versions of the packages that take part; those that are not installed are left out.
    at : str
        ISO 8601, UTC.
    """

    cpu: str
    cores: int
    memory_gib: float
    load: float
    python: str
    packages: dict[str, str]
    at: str

    @classmethod
    def here(cls, *packages: str) -> Machine:
        """Look at this machine.

        Examples
        --------
        >>> machine = Machine.here("pytest", "no-such-package")
        >>> sorted(machine.packages), machine.cores >= 1
        (['pytest'], True)
        """
        return cls(
            cpu=_cpu_name(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            load=round(os.getloadavg()[0], 2),
            python=platform.python_version(),
            packages=_versions(packages),
            at=iso(SystemClock().wall()),
        )

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.cores} cores ({self.cpu}), {self.memory_gib:g} GiB, load {self.load:g} before, "
            f"Python {self.python}, {packages}; {self.at}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return every attribute under its name."""
        return asdict(self)


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
