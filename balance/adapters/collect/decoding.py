"""From bytes to text, whatever the page says or does not say of its characters."""

from __future__ import annotations

import codecs
import contextlib
import re

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_META = re.compile(rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.I)
_LOOKED_AT = 2048


def decoded(body: bytes, charset: str | None = None) -> str:
    """Return a body as text.

    What counts, in this order (as in the HTML standard): the byte order mark, the server's word, the page's own word,
    UTF-8 if it is valid, and a guess by charset-normalizer.  Bytes that do not fit are replaced.

    Parameters
    ----------
    body : bytes
    charset : str, optional
        What the server says.

    Examples
    --------
    >>> decoded("سلام".encode("cp1256"), "windows-1256")
    'سلام'
    >>> decoded(b'<meta charset="windows-1256"><p>' + "سلام".encode("cp1256"))[-4:]
    'سلام'
    >>> decoded("سلام".encode(), "no-such-charset")
    'سلام'
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body.decode(name, "replace")
    said = _META.search(body[:_LOOKED_AT])
    for word in (charset, said.group(1).decode("ascii") if said else None):
        if word:
            with contextlib.suppress(LookupError, ValueError):  # no charset, or one that is none of text
                return body.decode(word, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes  # noqa: PLC0415 (slow to import, seldom needed)

        guess = from_bytes(body).best()
        return str(guess) if guess is not None else body.decode(errors="replace")
