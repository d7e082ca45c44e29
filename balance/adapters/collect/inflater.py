"""Decompression that stops at a limit, for gzip (RFC 1952)."""

from __future__ import annotations

import zlib

from balance.errors import AccessRefused, SourceUnavailable

_GZIP = ("gzip", "x-gzip")
_WINDOW = zlib.MAX_WBITS | 16


class Inflater:
    """Takes a body piece by piece; what comes out is never more than the limit, however little went in.

    Parameters
    ----------
    encoding : str
        ``Content-Encoding``: ``gzip``, or ``identity`` (or nothing) for a body as it is.
    max_bytes : int
        The most that may come out.
    shown : str
        What the errors call the source.

    Examples
    --------
    >>> import gzip
    >>> bomb = gzip.compress(bytes(1_000_000))
    >>> len(bomb) < 2_000, len(Inflater("gzip", 1_000_000, "a").add(bomb))
    (True, 1000000)
    >>> Inflater("gzip", 999_999, "https://example.org").add(bomb)
    Traceback (most recent call last):
    ...
    balance.errors.AccessRefused: https://example.org has more than the 999999 bytes that may be read
    """

    def __init__(self, encoding: str, max_bytes: int, shown: str) -> None:
        plain = encoding.strip().lower()
        if plain not in (*_GZIP, "", "identity"):
            raise SourceUnavailable(f"{shown} answered in the encoding {encoding!r}, which was not asked for")
        self._shown = shown
        self._max_bytes = max_bytes
        self._inside = zlib.decompressobj(_WINDOW) if plain in _GZIP else None
        self._size = 0

    def add(self, piece: bytes) -> bytes:
        """Return what a piece holds.

        Raises
        ------
        AccessRefused
            It is more than the limit.
        SourceUnavailable
            It is damaged.
        """
        found = bytearray()
        while piece:
            allowed = self._max_bytes - self._size + 1
            if self._inside is None:
                out, piece = piece[:allowed], b""
            else:
                out, piece = self._inflate(piece, allowed)
            self._size += len(out)
            found += out
            if self._size > self._max_bytes:
                raise AccessRefused(
                    f"{self._shown} has more than the {self._max_bytes} bytes that may be read",
                    max_bytes=self._max_bytes,
                )
        return bytes(found)

    def end(self) -> None:
        """Say that all is there; `SourceUnavailable` if the body ended in the middle."""
        if self._inside is not None and self._size and not self._inside.eof:
            raise SourceUnavailable(f"{self._shown} broke off within its compressed body")

    def _inflate(self, piece: bytes, allowed: int) -> tuple[bytes, bytes]:
        assert self._inside is not None
        if self._inside.eof:  # gzip allows several members, one after another (RFC 1952 section 2.2)
            self._inside = zlib.decompressobj(_WINDOW)
        try:
            out = self._inside.decompress(piece, allowed)
        except zlib.error as error:
            raise SourceUnavailable(f"{self._shown} sent a damaged compressed body ({error})") from None
        return out, self._inside.unconsumed_tail or self._inside.unused_data
