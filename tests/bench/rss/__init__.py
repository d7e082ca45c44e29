"""Tasks that really take memory, and who watches over them."""

from __future__ import annotations
