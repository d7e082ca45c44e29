"""The Python client of a running Balance."""

from __future__ import annotations
