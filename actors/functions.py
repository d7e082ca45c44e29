"""The function that ``balance submit`` names: found here; `balance.client.travel` takes it along."""

from __future__ import annotations

import importlib
import importlib.util
import sys
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
