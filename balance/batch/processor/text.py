"""One spelling for texts that a person would call the same.

The steps are Unicode's ``toNFKC_Casefold`` (The Unicode Standard, section 3.13: decompose, fold case,
drop what is ignorable, compose) with two additions: the letters that Arabic and Persian keyboards
write differently become one, and every run of whitespace becomes one space.  Latin accents stay:
*resume* and *résumé* are different words, while a fatha or a tatweel never makes one.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_LETTERS = {
    "\u064a": "\u06cc",  # Arabic yeh -> Farsi yeh
    "\u0649": "\u06cc",  # alef maksura -> Farsi yeh
    "\u06d2": "\u06cc",  # yeh barree -> Farsi yeh
    "\u0643": "\u06a9",  # Arabic kaf -> keheh
    "\u06aa": "\u06a9",  # swash kaf -> keheh
    "\u0629": "\u0647",  # teh marbuta -> heh
    "\u06be": "\u0647",  # heh doachashmee -> heh
    "\u06c1": "\u0647",  # heh goal -> heh
    "\u06d5": "\u0647",  # ae -> heh
    "\u0671": "\u0627",  # alef wasla -> alef
}
_DIGITS = {chr(zero + n): str(n) for zero in (0x0660, 0x06F0) for n in range(10)}
_MARKS = [*range(0x0610, 0x061B), *range(0x064B, 0x0660), 0x0670, *range(0x06D6, 0x06DD), *range(0x06DF, 0x06E5)]
_MARKS += [0x06E7, 0x06E8, *range(0x06EA, 0x06EE), 0x0640]
_INVISIBLE = [0x00AD, 0x034F, 0x061C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)]
_INVISIBLE += [*range(0xFE00, 0xFE10), 0xFEFF]
# Decomposition turns the hamza and madda of alef, waw and yeh into marks, so one table drops them too.
_ONE_SPELLING = str.maketrans(_LETTERS | _DIGITS | dict.fromkeys(map(chr, [*_MARKS, *_INVISIBLE]), ""))


def normalise(text: str) -> str:
    """Return the one spelling of `text`; applying it again changes nothing.  O(len(text)).

    Examples
    --------
    >>> normalise("  Ｂalance \\t OF  power ")
    'balance of power'
    >>> normalise("كتاب\u200cهاي ۱۲۳") == normalise("کتابهای 123")
    True
    """  # noqa: RUF002 (the letters are the subject)
    # A cache entry costs about as much memory as its text: only short texts, which repeat, are worth one.
    return _short(text) if len(text) <= 256 else _normalise(text)


def _normalise(text: str) -> str:
    if text.isascii():
        return " ".join(text.casefold().split())
    folded = unicodedata.normalize("NFKD", text).casefold()
    # Folding may leave what decomposes again (U+1E9E, U+0345), hence the second time.
    plain = unicodedata.normalize("NFKD", folded).translate(_ONE_SPELLING)
    return " ".join(unicodedata.normalize("NFKC", plain).split())


_short = lru_cache(maxsize=8192)(_normalise)
