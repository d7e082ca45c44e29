"""Which code travels with a function: what executors can't import by themselves is pickled by value."""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

#: Packages whose functions and classes travel by value: the script that runs, and what is not installed.
travelling: set[bytes] = {b"__main__"}


def travels_along(function: Callable[..., Any]) -> None:
    """Have the function's package pickled with it, unless it is installed: executors import only what is."""
    _decide((getattr(function, "__module__", None) or "").partition(".")[0])


@cache
def _decide(name: str) -> None:
    package = sys.modules.get(name)
    if name and name != "__main__" and package is not None and not _installed(package):
        from ray import cloudpickle  # noqa: PLC0415 (heavy)

        cloudpickle.register_pickle_by_value(package)
        travelling.add(name.encode())


def _installed(module: ModuleType) -> bool:
    """Say whether a module is of the standard library or of an installed package.

    Examples
    --------
    >>> import json, numpy
    >>> _installed(sys), _installed(json), _installed(numpy), _installed(ModuleType("mine"))
    (True, True, True, False)
    """
    if module.__name__ in sys.stdlib_module_names:
        return True
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    roots = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    return any(Path(file).resolve().is_relative_to(Path(root).resolve()) for root in roots if root)
