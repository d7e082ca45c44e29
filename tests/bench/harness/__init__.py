"""What the benches share: the machine's facts, peers in processes of their own, tables for people and programs."""

from __future__ import annotations
