"""The function that ``balance submit`` names: found here, and taken along where executors could not find it."""

from __future__ import annotations

import importlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from balance.errors import InvalidValue


def load_function(name: str) -> Callable[..., Any]:
    """Find ``module:function`` or ``path/to/file.py:function``; modules of the working directory are found, too.

    Raises
    ------
    InvalidValue
        There is no such module, file or function, or importing it fails.

    Examples
    --------
    >>> load_function("math:sqrt")(4)
    2.0
    >>> load_function("math:sqroot")
    Traceback (most recent call last):
    balance.errors.InvalidValue: function is 'math:sqroot'; expected a function that can be found (...)
    """
    where, _, attribute = name.rpartition(":")
    if not where or not attribute:
        raise InvalidValue("function", name, "module:function or path/to/file.py:function")
    try:
        found = getattr(_module(where), attribute)
    except (Exception, SystemExit) as error:  # importing runs the user's own code
        what = f"{type(error).__name__}: {error}" if not isinstance(error, ImportError | AttributeError) else error
        raise InvalidValue("function", name, f"a function that can be found ({what})") from None
    if not callable(found):
        raise InvalidValue("function", name, "a function")
    call: Callable[..., Any] = found
    return call


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(Path(where).stem, where)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} can't be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def travels_along(call: Callable[..., Any]) -> None:
    """Have the function's package pickled with it, unless it is installed: executors import only what is."""
    from ray import cloudpickle  # noqa: PLC0415 (Ray is imported by whoever connects)

    package = sys.modules.get(getattr(call, "__module__", "").partition(".")[0])
    if package is not None and not _installed(package):
        cloudpickle.register_pickle_by_value(package)


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
