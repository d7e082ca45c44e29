"""By what content is known: BLAKE3, a cryptographic digest that is as fast as reading the bytes.

https://github.com/BLAKE3-team/BLAKE3-specs.  The digest is that of the plain bytes, so ``b3sum FILE`` shows it, too.
Why this one: ADR 0021.
"""

from __future__ import annotations

from blake3 import blake3

Bytes = bytes | bytearray | memoryview


class Digest:
    """The digest of bytes that come piece by piece, in order.

    Examples
    --------
    >>> digest = Digest()
    >>> digest.update(b"sal")
    >>> digest.update(b"am")
    >>> digest.text == digest_of(b"salam")
    True
    """

    def __init__(self) -> None:
        self._inside = blake3()

    def update(self, piece: Bytes) -> None:
        """Take the next piece; other threads run meanwhile where it is large."""
        self._inside.update(piece)

    @property
    def text(self) -> str:
        """``blake3:`` and 64 hex digits over what came so far."""
        return f"blake3:{self._inside.hexdigest()}"


def digest_of(content: Bytes) -> str:
    """Return the digest of bytes.

    Examples
    --------
    >>> digest_of(b"")
    'blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'
    """
    return f"blake3:{blake3(content).hexdigest()}"
