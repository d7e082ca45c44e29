"""The composition root: which adapter stands behind a port when nobody passed one.

Deciders may not import adapters (an import-linter contract holds that), yet every class of the contract
builds with no arguments and works in the current process.  So a decider asks for a port by name here,
and the adapter is imported at that moment.
"""

from __future__ import annotations

import importlib
from typing import Any

_ADAPTERS = {
    "clock": "balance.clock:SystemClock",
    "host_probe": "balance.adapters.host:HostProbe",
    "inline_executor": "balance.adapters.local:InlineExecutor",
    "local_places": "balance.adapters.places:LocalPlaces",
    "shelf": "balance.adapters.shelf:LocalShelf",
    "readers": "balance.adapters.readers:Readers",
    "offload": "balance.adapters.threads:ThreadOffload",
    "copier": "balance.adapters.copier:FsspecCopier",
    "peer": "balance.client.peer:Peer",
}


def default(port: str, **arguments: Any) -> Any:
    """Build the default adapter behind `port`.

    Examples
    --------
    >>> default("clock").now() > 0
    True
    """
    module, _, name = _ADAPTERS[port].partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)
