"""Reads the contract and hands its classes and methods to the tests, one test each.

``contract.json`` fixes 57 classes, ``services.json`` the three services.  ``not_yet.txt`` names the ones that
are not built: their tests are strict expected failures, so a listed class that exists fails as surely
as an unlisted one that is missing, and the list can only shrink: whoever builds a class deletes its line.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
NOT_YET = frozenset((HERE / "not_yet.txt").read_text().split())


class NotBuilt(Exception):
    """The contract's class is not there at all (one that is there but broken raises its own error)."""


@dataclass(frozen=True)
class Built:
    """One class of the contract."""

    module: str
    name: str
    abstract: bool
    spec: dict[str, Any]

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    def load(self) -> type:
        """Import the class; `NotBuilt` only where the module or the name is missing."""
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name and (self.module + ".").startswith(error.name + "."):
                raise NotBuilt(self.path) from None
            raise
        if not hasattr(module, self.name):
            raise NotBuilt(self.path)
        return getattr(module, self.name)

    def param(self, *more: Any, label: str = "") -> Any:
        marks = (
            [pytest.mark.xfail(raises=NotBuilt, strict=True, reason="listed in not_yet.txt")]
            if self.path in NOT_YET
            else []
        )
        return pytest.param(self, *more, marks=marks, id=self.name + label)


CLASSES = [
    Built(entry["module"], entry["class"], entry["abstract"], entry)
    for entry in json.loads((HERE / "contract.json").read_text())
]
SERVICES = [
    Built("balance.services", entry["class"], False, entry)
    for entry in json.loads((HERE / "services.json").read_text())
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise by the names of the arguments that a test takes."""
    wanted = set(metafunc.fixturenames)
    if {"contract_class", "method"} <= wanted:
        metafunc.parametrize(
            ("contract_class", "method"),
            [c.param(m, label=f".{m['name']}") for c in CLASSES for m in c.spec["methods"]],
        )
    elif "contract_class" in wanted:
        metafunc.parametrize("contract_class", [c.param() for c in CLASSES])
    elif "concrete_class" in wanted:
        concrete = [c for c in CLASSES if not c.abstract] + SERVICES
        metafunc.parametrize("concrete_class", [c.param() for c in concrete])
    elif "service" in wanted:
        metafunc.parametrize("service", [s.param() for s in SERVICES])


@pytest.fixture(autouse=True)
def _own_state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a class writes by default lands in the test's own folder."""
    monkeypatch.setenv("BALANCE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def everything() -> list[Built]:
    """Every class of the contract, the services included."""
    return CLASSES + SERVICES


@pytest.fixture
def not_yet() -> frozenset[str]:
    """The paths listed in not_yet.txt."""
    return NOT_YET
