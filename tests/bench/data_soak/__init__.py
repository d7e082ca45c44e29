"""The parts of the soak of data requests: the source that counts, the messages, the killer, the account."""

from __future__ import annotations
