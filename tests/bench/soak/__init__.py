"""The soak: random ``kill -9`` while tasks run, and the books that must balance afterwards."""

from __future__ import annotations
